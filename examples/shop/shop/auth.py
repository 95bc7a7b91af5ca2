"""Auth: who a visitor is. Passwords as argon2 hashes, sessions as hashes of their tokens."""

import asyncio
import hashlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NewType

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Column, Connection, Double, Integer, MetaData, String, Table, delete, insert, select, update

from fissile import component, method
from shop.database import Database, sqlite

UserId = NewType("UserId", str)
Token = NewType("Token", str)

EMAIL_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 80
PASSWORD_CHARACTERS_MIN = 10
PASSWORD_CHARACTERS_MAX = 200  # hashing is work: nobody makes us hash a novel

_tables = MetaData()
_users = Table(
    "account",
    _tables,
    Column("id", String, primary_key=True),
    Column("email", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("password", String, nullable=False),
)
_sessions = Table(
    "session",
    _tables,
    Column("token", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("expires_at", Double, nullable=False),
)
_tries = Table(
    "failed_try",
    _tables,
    Column("email", String, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", Double, nullable=False),
)


class User(msgspec.Struct, frozen=True):
    """Somebody who has signed up."""

    id: UserId
    email: str
    name: str


class Session(msgspec.Struct, frozen=True):
    """Proof that a user has signed in. Whoever holds the token is the user."""

    token: Token
    user: User


class SignUpRefused(Exception):
    """A field of the form cannot be accepted; `reason` says why, to the customer."""

    field: str
    reason: str

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


class WrongPassword(Exception):
    """No user has this e-mail address and this password."""


class LockedOut(Exception):
    """Too many failed tries for this e-mail address."""

    retry_after_seconds: int

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


class AuthConfig(msgspec.Struct, frozen=True):
    """database: SQLAlchemy URL. hash_*: cost of argon2id (the defaults are OWASP's)."""

    database: str = sqlite("auth")
    failed_tries_max: int = 5
    lock_out_seconds: int = 900
    session_seconds: int = 14 * 24 * 3600
    hash_time_cost: int = 2
    hash_memory_kib: int = 19 * 1024
    hash_threads: int = 2


@component
class Auth:
    """Who a visitor is."""

    def __init__(self, config: AuthConfig) -> None:
        self._config = config
        self._database = Database(config.database, "auth", [_tables.create_all])
        self._hasher = PasswordHasher(config.hash_time_cost, config.hash_memory_kib, parallelism=1)
        # Hashing is slow by design: in threads of its own, it holds up neither the loop nor the database.
        self._threads = ThreadPoolExecutor(config.hash_threads, thread_name_prefix="auth-hash")

    async def migrate(self) -> None:
        await self._database.migrate()

    async def start(self) -> None:
        await self._database.start()
        self._no_password = await self._hash(secrets.token_hex())

    async def stop(self) -> None:
        self._threads.shutdown()
        await self._database.stop()

    @method(timeout=5, raises=(SignUpRefused,))
    async def sign_up(self, email: str, name: str, password: str) -> Session:
        """Make an account and sign it in. Raises SignUpRefused."""
        email, name = email.strip().lower(), name.strip()
        _check_form(email, name, password)
        user = User(UserId(secrets.token_hex(8)), email, name)
        hashed = await self._hash(password)

        def work(connection: Connection) -> Session:
            if connection.scalar(select(_users.c.id).where(_users.c.email == email)) is not None:
                raise SignUpRefused("email", "There is an account with this e-mail address: sign in instead.")
            connection.execute(insert(_users).values(id=user.id, email=email, name=name, password=hashed))
            return self._new_session(connection, user)

        return await self._database.write(work)

    @method(timeout=5, raises=(WrongPassword, LockedOut))
    async def sign_in(self, email: str, password: str) -> Session:
        """Open a session. Raises WrongPassword, or LockedOut after too many failed tries."""
        email = email.strip().lower()[:EMAIL_CHARACTERS_MAX]

        def begin(connection: Connection) -> tuple[User | None, str] | LockedOut:
            locked = self._count_try(connection, email)
            if locked is not None:
                return locked
            row = connection.execute(select(_users).where(_users.c.email == email)).mappings().first()
            if row is None:
                return None, self._no_password
            return User(row["id"], row["email"], row["name"]), row["password"]

        # A try counts before it is judged, so that guesses sent all at once don't slip past the limit.
        begun = await self._database.write(begin)
        if isinstance(begun, LockedOut):
            raise begun
        user, hashed = begun
        # An unknown address takes as long as a wrong password, so that the time tells nothing.
        matches = await self._verify(hashed, password[:PASSWORD_CHARACTERS_MAX])
        if user is None or not matches:
            raise WrongPassword

        def finish(connection: Connection) -> Session:
            connection.execute(delete(_tries).where(_tries.c.email == email))
            return self._new_session(connection, user)

        return await self._database.write(finish)

    @method(timeout=3, idempotent=True)
    async def sign_out(self, token: Token) -> None:
        """End the session."""
        gone = delete(_sessions).where((_sessions.c.token == _digest(token)) | (_sessions.c.expires_at < time.time()))
        await self._database.write(lambda connection: connection.execute(gone))

    @method(timeout=1, idempotent=True)
    async def user(self, token: Token) -> User | None:
        """The user whose session this is, if it has not ended."""
        wanted = (
            select(_users.c.id, _users.c.email, _users.c.name)
            .join(_sessions, _sessions.c.account == _users.c.id)
            .where(_sessions.c.token == _digest(token), _sessions.c.expires_at > time.time())
        )
        row = await self._database.read(lambda connection: connection.execute(wanted).first())
        return None if row is None else User(*row)

    def _count_try(self, connection: Connection, email: str) -> LockedOut | None:
        now = time.time()
        row = connection.execute(select(_tries.c.count, _tries.c.last_at).where(_tries.c.email == email)).first()
        count, last_at = row or (0, 0.0)
        remaining = last_at + self._config.lock_out_seconds - now
        if remaining <= 0:
            count = 0
        elif count >= self._config.failed_tries_max:
            return LockedOut(int(remaining) + 1)
        if row is None:
            connection.execute(insert(_tries).values(email=email, count=1, last_at=now))
        else:
            connection.execute(update(_tries).where(_tries.c.email == email).values(count=count + 1, last_at=now))
        return None

    def _new_session(self, connection: Connection, user: User) -> Session:
        token = Token(secrets.token_urlsafe(32))
        expires_at = time.time() + self._config.session_seconds
        connection.execute(insert(_sessions).values(token=_digest(token), account=user.id, expires_at=expires_at))
        return Session(token, user)

    async def _hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def _verify(self, hashed: str, password: str) -> bool:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._hasher.verify, hashed, password
            )
        except (VerifyMismatchError, InvalidHashError):
            return False


def _digest(token: Token) -> str:
    # A token is random enough that a plain hash cannot be guessed; a stolen table opens no session.
    return hashlib.sha256(token.encode()).hexdigest()


def _check_form(email: str, name: str, password: str) -> None:
    local, at, domain = email.rpartition("@")
    if not (local and at and "." in domain) or len(email) > EMAIL_CHARACTERS_MAX or any(map(str.isspace, email)):
        raise SignUpRefused("email", "This does not look like an e-mail address.")
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise SignUpRefused("name", f"Tell us your name, in at most {NAME_CHARACTERS_MAX} characters.")
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise SignUpRefused("password", f"Use at least {PASSWORD_CHARACTERS_MIN} characters.")
