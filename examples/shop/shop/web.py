"""What every page of the Frontend shares: cookies, form protection, headers, templates.

A visitor's cookie names the cart; a session's cookie proves who signed in. Forms carry a hash of both
that no other site can know, so no other site can send them.
"""

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from shop.auth import Session, Token, User
from shop.cart import CartId
from shop.money import shown

HERE = Path(__file__).parent
STYLE = (HERE / "static" / "style.css").read_bytes()
STYLE_VERSION = hashlib.sha256(STYLE).hexdigest()[:12]

FORM_BYTES_MAX = 32 * 1024
FORM_FIELDS_MAX = 50
COOKIE_SECONDS = 30 * 24 * 3600
HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["money"] = shown
_templates.globals["style_version"] = STYLE_VERSION


class Refused(Exception):
    """The request cannot be answered as it is; `status` and the message say why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Visit:
    """One request of one browser, and what the layout of its page shows."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._visitor = request.cookies.get("visitor") or secrets.token_urlsafe(24)
        self._is_new = "visitor" not in request.cookies
        self.token = Token(request.cookies.get("session", ""))
        self._signs_in: Session | None = None
        self._signs_out = False
        self.user: User | None = None
        self.cart_count: int | None = 0
        self.form: dict[str, str] = {}

    @property
    def has_cart(self) -> bool:
        """Whether there can be anything in the cart: a new browser has none."""
        return not self._is_new

    @property
    def cart(self) -> CartId:
        """The cart of this browser. Its id is a hash, so that a log of ids gives no cookie away."""
        return CartId(hashlib.sha256(f"cart {self._visitor}".encode()).hexdigest()[:32])

    @property
    def form_token(self) -> str:
        """What a form of this browser must carry."""
        return hashlib.sha256(f"form {self._visitor} {self.token}".encode()).hexdigest()[:32]

    def sign_in(self, session: Session) -> None:
        """Have the response give the browser its session."""
        self._signs_in = session

    def sign_out(self) -> None:
        """Have the response take session and visitor from the browser."""
        self._signs_out = True

    async def read_form(self) -> None:
        """Read the form that was sent. Raises Refused if it is too large or not from our own page."""
        body = b""
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > FORM_BYTES_MAX:
                raise Refused(413, "That was more than any of our forms can hold.")
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX)
        except ValueError:
            raise Refused(400, "This does not look like one of our forms.")
        self.form = {name: value.strip() for name, value in fields}
        origin = self.request.headers.get("origin", "")
        foreign = origin not in ("", "null") and urlsplit(origin).netloc != self.request.headers.get("host")
        if foreign or not hmac.compare_digest(self.form.get("form_token", "").encode(), self.form_token.encode()):
            raise Refused(403, "This form has expired. Please go back, reload the page, and send it again.")

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page in the shop's layout."""
        text = _templates.get_template(template).render(visit=self, **context)
        return HTMLResponse(text, status)

    def redirect(self, path: str, **query: str) -> Response:
        """Send the browser to another page of the shop."""
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)

    def finish(self, response: Response, *, secure: bool) -> Response:
        """Put cookies and headers on the response."""

        def put(name: str, value: str, seconds: int) -> None:
            response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)

        if self._signs_out:
            put("session", "", 0)
            put("visitor", secrets.token_urlsafe(24), COOKIE_SECONDS)
        elif self._is_new:
            put("visitor", self._visitor, COOKIE_SECONDS)
        if self._signs_in is not None:
            put("session", self._signs_in.token, COOKIE_SECONDS)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def own_path(wanted: str, otherwise: str = "/") -> str:
    """The path if it stays in the shop: nobody is sent elsewhere by a link that begins here."""
    safe = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if safe else otherwise


def number(text: str, otherwise: int) -> int:
    """A small whole number that a browser sent."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else otherwise
