"""Writes a proposal as TOML, with the reasons beside what they are for.

Keys that fissile.toml does not have yet are written as comments, so that they are there to be switched on.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from json import dumps

from fissile.settings.proposal.proposal import Proposal, Role, Service

# Whether fissile.toml has these keys: `kind`, `before`, `env_file`, `python`. Until then they are comments.
HAS_KIND = False
HAS_BEFORE = False
HAS_ENV_FILE = False
HAS_PYTHON = False
COLUMNS = 100
# A comment may hold no control characters (toml.io/en/v1.0.0#comment), whatever a Procfile holds.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
HEAD = """# Written by `fissile init`. `fissile up` starts what stands here, `fissile deploy` brings edits into service.
# Every key is explained in docs/reference/fissile-toml.md; an unknown one is an error.
"""


def render(proposal: Proposal) -> str:
    """The text of a fissile.toml."""
    parts = [HEAD.rstrip("\n")]
    for title, lines in (("Assumed", proposal.assumed), ("Unclear", proposal.unclear), ("To do", proposal.to_do)):
        if lines:
            parts.append("\n".join([f"# {title}:", *(line for one in lines for line in _item(one))]))
    if proposal.app:
        parts.append(f'app = {text(proposal.app)}\ntopology = "monolith"  # all in one process; or "microservices"')
    parts += ["\n".join(_service(one)) for one in proposal.services]
    return "\n\n".join(parts) + "\n"


def said(proposal: Proposal) -> Iterator[str]:
    """The same for people who have just asked for it: a line for each thing that they should know."""
    kinds = (("assumed", proposal.assumed), ("unclear", proposal.unclear), ("to do", proposal.to_do))
    for kind, lines in kinds:
        yield from (f"{kind}: {one}" for one in lines)


def _service(service: Service) -> Iterator[str]:
    worker = service.role is Role.WORKER and not HAS_KIND
    lines = list(_keys(service))
    if not worker:
        yield from lines
        return
    yield from _comment("Workers are not started yet. Start this one as before; then take the # away.")
    yield from (line if line.startswith("#") else f"# {line}" for line in lines)


def _keys(service: Service) -> Iterator[str]:
    yield f"[services.{service.name}]"
    if service.said:
        yield from _comment(service.said)
    yield from (line for note in service.notes for line in _comment(note))
    if service.role is Role.WORKER:
        yield 'kind = "worker"'
    yield f"{service.kind} = {text(service.runs)}"
    if service.folder != "." and service.kind == "command":
        yield f"folder = {text(service.folder)}"
    if service.port:
        yield f"port = {service.port}"
    elif service.role is Role.WEB:
        yield "# port = 8000  # the page's own port; without it, 8000 or any free one"
    if service.ready:
        yield f'ready = {text(service.ready)}  # or a path that answers 200, such as "/health"'
    if service.ports:
        yield f"ports = {text(service.ports)}"
    if service.replicas > 1:
        yield f"replicas = {service.replicas}"
    if service.after:
        yield f"after = [{', '.join(map(text, service.after))}]"
    if service.environment:
        pairs = ", ".join(f"{name} = {text(value)}" for name, value in service.environment.items())
        yield f"environment = {{ {pairs} }}"
    if service.before:
        yield _to_come(f"before = {text(' && '.join(service.before))}", HAS_BEFORE)
    if service.env_files:
        yield _to_come(f"env_file = [{', '.join(map(text, service.env_files))}]", HAS_ENV_FILE)
    if service.interpreter:
        yield _to_come(f"python = {text(service.interpreter)}", HAS_PYTHON)


def _to_come(line: str, there: bool) -> str:
    return line if there else f"# {line}  # not yet a key of fissile.toml"


def _item(said: str) -> Iterator[str]:
    first, *rest = _UNPRINTABLE.sub("?", said).split("\n")
    yield from textwrap.wrap(first, COLUMNS, initial_indent="# - ", subsequent_indent="#   ", break_on_hyphens=False)
    yield from (f"#   {line}" for line in rest)


def _comment(said: str) -> Iterable[str]:
    return textwrap.wrap(
        _UNPRINTABLE.sub("?", said), COLUMNS, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def text(value: str) -> str:
    """A basic string of TOML (toml.io/en/v1.0.0): JSON's escapes are valid in it, and it has one more to escape."""
    return dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
