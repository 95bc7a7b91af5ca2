"""Finds web applications in Python source by its syntax alone: nothing is imported.

An application is a name at the top of a module that is bound to a framework's object, or to the result of a factory
that makes one: `app = FastAPI()`, `app = create_app()`. A factory that nobody calls at the top is told apart, because
`asgi` and `wsgi` name an object, not a function that makes it.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping

import msgspec

FISSILE, ASGI, WSGI = "app", "asgi", "wsgi"
# What makes an application, by its full name: the framework, and what serves it.
MAKERS = {
    "fissile.Application": ("Fissile", FISSILE),
    "fastapi.FastAPI": ("FastAPI", ASGI),
    "fastapi.applications.FastAPI": ("FastAPI", ASGI),
    "starlette.applications.Starlette": ("Starlette", ASGI),
    "litestar.Litestar": ("Litestar", ASGI),
    "quart.Quart": ("Quart", ASGI),
    "sanic.Sanic": ("Sanic", ASGI),
    "falcon.asgi.App": ("Falcon", ASGI),
    "blacksheep.Application": ("BlackSheep", ASGI),
    "socketio.ASGIApp": ("Socket.IO", ASGI),
    "channels.routing.ProtocolTypeRouter": ("Channels", ASGI),
    "django.core.asgi.get_asgi_application": ("Django", ASGI),
    "flask.Flask": ("Flask", WSGI),
    "flask.app.Flask": ("Flask", WSGI),
    "bottle.Bottle": ("Bottle", WSGI),
    "falcon.App": ("Falcon", WSGI),
    "falcon.API": ("Falcon", WSGI),
    "werkzeug.middleware.dispatcher.DispatcherMiddleware": ("Werkzeug", WSGI),
    "django.core.wsgi.get_wsgi_application": ("Django", WSGI),
}
REEXPORTS_MAX = 5


class Application(msgspec.Struct, frozen=True):
    """A web application, or a factory that makes one.

    Attributes:
        target: "module:attribute".
        path: The file.
        line: Where in it.
        framework: Its name for people.
        kind: What serves it: asgi, wsgi, or app for Fissile's own.
        factory: Whether the attribute is a function that has to be called first.
        arguments: What such a function has to be given.
        outside: The folder that has to be on the import path, such as "src"; "" where it is already.
    """

    target: str
    path: str
    line: int
    framework: str
    kind: str
    factory: bool = False
    arguments: tuple[str, ...] = ()
    outside: str = ""

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.path}:{self.line}"


class _Module(msgspec.Struct, frozen=True):
    """The top of one module: what its names stand for, what is bound to calls, and its functions."""

    name: str
    path: str
    outside: str
    imports: dict[str, str]
    calls: list[tuple[str, str, int]]
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]


def applications(sources: Iterable[tuple[str, str]]) -> list[Application]:
    """All applications in these files (path, text), in their order. A file that is no valid Python has none."""
    modules = [module for path, text in sources if (module := _read(path, text)) is not None]
    factories = {f"{one.name}.{name}": made for one in modules for name, made in _factories(one)}
    names = {f"{one.name}.{name}": full for one in modules for name, full in one.imports.items()}
    found: list[Application] = []
    for module in modules:
        called: set[str] = set()
        for attribute, maker, line in module.calls:
            full = _followed(maker, names)
            made = MAKERS.get(full)
            if made is None and full in factories:
                made = factories[full]
                called.add(full)
            if made is not None:
                target = f"{module.name}:{attribute}"
                # A name that is bound anew, as by a middleware around it, is one application.
                found = [one for one in found if one.target != target]
                found.append(Application(target, module.path, line, *made, outside=module.outside))
        for name, made in _factories(module):
            function = module.functions[name]
            found.append(
                Application(
                    f"{module.name}:{name}",
                    module.path,
                    function.lineno,
                    *made,
                    factory=True,
                    arguments=_required(function),
                    outside=module.outside,
                )
            )
    return found


def _followed(name: str, names: Mapping[str, str]) -> str:
    """A full name through the modules that only pass it on, as a package's __init__.py does."""
    for _ in range(REEXPORTS_MAX):
        if name not in names:
            break
        name = names[name]
    return name


def _read(path: str, text: str) -> _Module | None:
    parts = path.removesuffix(".py").split("/")
    outside = "src" if parts[0] == "src" and len(parts) > 1 else ""
    parts = parts[1:] if outside else parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    if not parts or not all(map(str.isidentifier, parts)):
        return None  # it cannot be imported by a name
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    name = ".".join(parts)
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    module = _Module(name, path, outside, {}, [], {})
    for node in _top(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module.imports.update(_imported(node, package))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            module.functions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            maker = _full(node.value.func, module)
            module.calls.extend((one.id, maker, node.lineno) for one in targets if isinstance(one, ast.Name) and maker)
    return module


def _top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that an import runs, but for those under `if __name__ == "__main__"`."""
    for node in body:
        if isinstance(node, ast.If):
            if "__name__" not in ast.dump(node.test):
                yield from _top([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            handlers = [one for handler in node.handlers for one in handler.body]
            yield from _top([*node.body, *handlers, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With):
            yield from _top(node.body)
        else:
            yield node


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> dict[str, str]:
    """What names of an import stand for, by their full names."""
    if isinstance(node, ast.Import):
        return {
            one.asname or one.name.partition(".")[0]: one.name if one.asname else one.name.partition(".")[0]
            for one in node.names
        }
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    module = ".".join([*above, *([node.module] if node.module else [])])
    return {one.asname or one.name: f"{module}.{one.name}" for one in node.names}


def _full(node: ast.expr, module: _Module) -> str:
    """The full name of what is called; "" where it is no name."""
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([module.imports.get(node.id, f"{module.name}.{node.id}"), *words])


def _factories(module: _Module) -> Iterator[tuple[str, tuple[str, str]]]:
    """Functions at the top that make an application and return it."""
    for name, function in module.functions.items():
        local = _Module(module.name, module.path, module.outside, dict(module.imports), [], {})
        bound: dict[str, tuple[str, str]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom | ast.Import):
                local.imports.update(_imported(node, module.name))
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                made = MAKERS.get(_full(node.value.func, local))
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                bound |= {one.id: made for one in targets if isinstance(one, ast.Name) and made is not None}
        for node in ast.walk(function):
            value = node.value if isinstance(node, ast.Return) else None
            made = bound.get(value.id) if isinstance(value, ast.Name) else None
            if isinstance(value, ast.Call):
                made = MAKERS.get(_full(value.func, local))
            if made is not None and made[1] != FISSILE:
                yield name, made
                break


def _required(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    named = [one for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    return tuple(one.arg for one in [*positional[: len(positional) - len(given.defaults)], *named])
