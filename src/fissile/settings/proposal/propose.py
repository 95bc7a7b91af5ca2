"""Makes the proposal: what files say comes first, then what the code shows.

What is likeliest is proposed and said; what else there is, is named, so that nobody has to guess what was guessed.
"""

import re
from collections.abc import Iterable

import msgspec

from fissile.settings.proposal.applications import ASGI, WSGI, Application
from fissile.settings.proposal.commands import PORT_LEAST_OF_USERS, CommandLine, prepares
from fissile.settings.proposal.compose import Store
from fissile.settings.proposal.folder import Folder
from fissile.settings.proposal.node import node_service
from fissile.settings.proposal.proposal import PORT, Proposal, Role, Service, service_name, told_apart
from fissile.settings.proposal.python import Found, find, migration
from fissile.settings.proposal.sources import Process, Sources, sources
from fissile.settings.proposal.variables import variables

READS_ENV_FILE = ("dotenv", "env_file", "read_env", "decouple", "--env-file", "loadEnvFile", "environs")
SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN", re.IGNORECASE)
IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]*@")
# A module that calls a factory, for whoever has none.
ENTRY = "served"
OTHERS_SHOWN_MAX = 5
# What code says of the servers that it needs, where no Compose file names them.
NEEDED = {
    "PostgreSQL": ("django.db.backends.postgresql", "postgresql://", "postgresql+", "postgres://"),
    "MySQL": ("django.db.backends.mysql", "mysql://", "mysql+"),
    "Redis": ("redis.Redis(", "redis://", 'from_url("redis'),
    "RabbitMQ": ("amqp://",),
}
_STARTS = re.compile(r"^(serve|server|run|start|dev|up)\s*:(?!=)", re.MULTILINE)


def propose(folder: Folder) -> Proposal:
    """A first fissile.toml for a folder. It is `empty` where nothing was found that could be started."""
    return _Proposing(folder).proposal()


class _Proposing:
    """One proposal in the making: what was found, and what is to be said of it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._found: Found = find(folder)
        self._sources: Sources = sources(folder)
        self._assumed: list[str] = []
        self._unclear: list[str] = [*self._sources.unread]
        self._to_do: list[str] = []

    def proposal(self) -> Proposal:
        """The whole."""
        services: list[Service] = []
        app = ""
        for file in self._sources.ignored:
            self._assumed.append(f"the Procfile counts, and what {file} starts does not")
        if self._found.ours:
            app = self._ours()
        else:
            services = self._of_processes()
            if not any(one.role is Role.WEB for one in services):
                services = [*self._of_code(), *services]
        if self._found.elsewhere:
            places = [f"{framework} in {place}/" for place, framework in self._found.elsewhere]
            self._unclear.append(
                f"{_listed(places)}: an application of its own, which imports from its own folder; "
                f"`fissile -C {self._found.elsewhere[0][0]} init` proposes it"
            )
        services = self._with_what_all_have(told_apart(services))
        if self._folder.unread:
            self._unclear.append(f"{self._folder.unread} files were not read: too many, too large, or not UTF-8")
        return Proposal(
            app,
            tuple(services),
            self._sources.composed.stores,
            tuple(self._assumed),
            tuple(dict.fromkeys(self._unclear)),
            tuple(dict.fromkeys(self._to_do)),
        )

    def _ours(self) -> str:
        first, *others = self._found.ours
        self._assumed.append(f"{first.target} is the application ({first.place}), with each component in one process")
        if others:
            self._unclear.append(f"there are other applications: {_targets(others)}")
        if self._sources.processes:
            names = _listed(f"{one.name} ({one.source})" for one in self._sources.processes)
            self._unclear.append(f"these processes are not taken over: {names}; what runs beside it is [services.NAME]")
        return first.target

    # What files say.

    def _of_processes(self) -> list[Service]:
        services: list[Service] = []
        before: list[str] = []
        for process in self._sources.processes:
            line = process.line
            if (process.name == "release" and process.source == "Procfile") or (
                prepares(line.text) and not line.server
            ):
                before += [*line.before, line.text]
                self._assumed.append(f"`{line.text}` ({process.source}: {process.name}) runs once for each release")
            else:
                services.append(self._service_of(process))
        web = next((one for one in services if one.role is Role.WEB), None)
        if before and web is None:
            self._to_do.append(f"run {_listed(f'`{one}`' for one in before)} before each deploy")
        return [msgspec.structs.replace(one, before=(*before, *one.before)) if one is web else one for one in services]

    def _service_of(self, process: Process) -> Service:
        line, name = process.line, service_name(process.name)
        said = f"{process.source}: {line.text}" if process.source == "Procfile" else f"{process.source}: {process.name}"
        service = Service(
            name,
            "command",
            line.text,
            said,
            self._role(process),
            folder=process.folder,
            replicas=max(line.replicas, 1),
            environment=self._environment(process),
            before=line.before,
        )
        if process.built is not None:
            files = tuple(one for one in process.built.env_files if one)
            known = {service_name(one.name) for one in self._sources.processes}
            after = tuple(service_name(one) for one in process.built.after if service_name(one) in known)
            service = msgspec.structs.replace(service, env_files=files, after=after)
        if service.role is Role.WORKER:
            return msgspec.structs.replace(service, replicas=1, runs=_shell(line))
        guest = self._as_guest(line, process, service) if line.server else None
        return self._with_port(guest or self._as_program(service, line), line, process)

    def _role(self, process: Process) -> Role:
        line = process.line
        if line.server or not line.works:
            published = process.built is not None and process.built.port
            if line.server or line.port or published or process.name == "web":
                return Role.WEB
            if process.source == "Dockerfile":
                return Role.WEB
            self._assumed.append(f"{process.name} is a worker: {process.source} gives it no port")
        return Role.WORKER

    def _as_guest(self, line: CommandLine, process: Process, service: Service) -> Service | None:
        """Served by `asgi` or `wsgi` where its modules can be imported from this folder; else None."""
        if service.folder != "." and not (service.folder == "src" and self._folder.has("src/__init__.py") is False):
            self._assumed.append(f"{service.name} keeps {line.server}: its modules lie in {service.folder}/")
            return None
        if not line.target:
            guest = self._likeliest(line.framework)
            if guest is None:
                return None
            self._assumed.append(f"{service.name}: `{line.text}` is taken to serve {guest.target} ({guest.place})")
            return self._guest_service(guest, service.name, service.said, service)
        module = line.target.partition(":")[0]
        known = next((one for one in self._found.guests if one.target == line.target), None)
        if known is None and not line.factory:
            if not self._folder.module(module):
                self._unclear.append(f"{service.name}: {process.source} names {module}, which is not in this folder")
            return msgspec.structs.replace(service, kind=line.kind, runs=line.target)
        if known is None:
            path = self._folder.module(module)
            known = Application(line.target, path, 1, line.server, line.kind, factory=True)
        kind = line.kind if known.kind not in (ASGI, WSGI) else known.kind
        return self._guest_service(msgspec.structs.replace(known, kind=kind), service.name, service.said, service)

    def _as_program(self, service: Service, line: CommandLine) -> Service:
        if line.shell:
            note = "A command expands no variables, $PORT included: the shell does."
            return msgspec.structs.replace(service, runs=_shell(line), replicas=1, notes=(*service.notes, note))
        return msgspec.structs.replace(service, replicas=1)

    def _with_port(self, service: Service, line: CommandLine, process: Process) -> Service:
        """A port that people know, and by which a program is seen to be ready."""
        published = process.built.port if process.built is not None else 0
        port = line.port if service.kind == "command" and not line.shell else published or line.port
        if port and port < PORT_LEAST_OF_USERS:
            self._assumed.append(f"{service.name} is at port {PORT}, not {port}: ports below 1024 need a privilege")
            port = PORT if service.kind != "command" or line.shell else port
        if service.kind != "command":
            return msgspec.structs.replace(service, port=port)
        takes_port = line.shell and "PORT" in line.text
        if not line.port and not takes_port and not line.server:
            self._unclear.append(f"{service.name}: how `{line.text}` learns its port: it has to listen on $PORT")
        return msgspec.structs.replace(service, port=port or PORT, ready="tcp")

    def _environment(self, process: Process) -> dict[str, str]:
        """Variables that are no secrets, with the names of containers replaced by addresses of this machine."""
        given = dict(process.built.environment) if process.built is not None else {}
        given |= dict(process.line.environment)
        stores = {one.name: one for one in self._sources.composed.stores}
        kept: dict[str, str] = {}
        left: list[str] = []
        for name, value in given.items():
            if name == "PORT" or name.startswith("FISSILE_"):
                continue
            if SECRET.search(name) or IN_URL.search(value) or "$" in value or not value:
                left.append(name)
            else:
                kept[name] = self._reached(name, value, stores)
        if left:
            self._to_do.append(
                f"set {_listed(left)} where you call `fissile up`: values that may be secret are not copied"
            )
        return kept

    def _reached(self, name: str, value: str, stores: dict[str, Store]) -> str:
        for store in stores.values():
            pattern = rf"(?P<before>^|//|@){re.escape(store.name)}(?P<port>:\d+)?(?=$|/|,)"
            if re.search(pattern, value) is not None:
                port = store.port or store.usual
                changed = re.sub(
                    pattern, lambda f, p=port: f"{f['before']}127.0.0.1{f':{p}' if f['port'] else ''}", value
                )
                self._assumed.append(f"{name} is {changed}: the name {store.name} is known among containers alone")
                return changed
        return value

    # What the code shows.

    def _likeliest(self, framework: str = "") -> Application | None:
        fitting = [one for one in self._found.guests if not framework or one.framework == framework]
        return fitting[0] if fitting else self._found.guests[0] if self._found.guests else None

    def _of_code(self) -> list[Service]:
        services: list[Service] = []
        guest = self._likeliest()
        if guest is not None:
            said = f"{guest.framework}, {guest.place}"
            name = service_name(guest.framework if guest.framework in ("Django",) else self._folder.name)
            services.append(self._guest_service(guest, name, said, None))
            self._assumed.append(f"{guest.framework} is served as {guest.kind}: {services[0].runs} ({guest.place})")
            others = [one for one in self._found.guests if one.target != services[0].runs and not one.factory]
            if others:
                self._unclear.append(f"which application is meant; there are also {_targets(others)}")
        for path in self._found.programs:
            name = service_name(path.rpartition("/")[2].removesuffix(".py"))
            services.append(
                Service(name, "command", f"python {path}", f"{path} listens at $PORT", port=PORT, ready="tcp")
            )
            self._assumed.append(f"{path} is a program of its own: it listens at $PORT")
        if services and services[0].kind != "command" and len(services) > 1:
            # The page has the usual port, and programs those after it.
            services[0] = msgspec.structs.replace(services[0], port=services[0].port or PORT)
        for path in sorted(path for path in self._folder.texts if path.endswith("package.json")):
            if "/" in path and services:
                self._unclear.append(f"whether {path} is to be started: it is taken for a front end that is built")
                continue
            service = node_service(self._folder, path, self._unclear)
            if service is not None and services:
                self._unclear.append(f"whether `{service.runs}` ({path}) is to be started beside it")
            elif service is not None:
                services.append(service)
                self._assumed.append(f"`{service.runs}` is the server ({service.said})")
        return services

    def _guest_service(self, guest: Application, name: str, said: str, given: Service | None) -> Service:
        """An application of another framework, by a target that is an object and no factory."""
        if guest.factory:
            # Somebody may call it already, as a wsgi.py does: that object is what can be served.
            made = [one for one in self._found.guests if one.framework == guest.framework and not one.factory]
            if made:
                self._assumed.append(f"{made[0].target} is what {guest.target} makes ({made[0].place})")
                guest = made[0]
        service = given or Service(name, guest.kind, guest.target, said)
        service = msgspec.structs.replace(service, kind=guest.kind, runs=guest.target)
        if guest.outside:
            self._to_do.append(f"make {guest.outside}/ importable: `pip install -e .`")
        if guest.factory:
            service = self._called(guest, service)
        if guest.kind == WSGI and "a2wsgi" not in self._folder.packages:
            self._to_do.append("WSGI needs a2wsgi: `pip install a2wsgi`")
        if guest.kind == WSGI and guest.framework == "Django":
            services = [one for one in self._found.guests if one.framework == "Django" and one.kind == ASGI]
            if services:
                self._assumed.append(
                    f"Django's views are synchronous: wsgi; for asynchronous ones, asgi = {services[0].target!r}"
                )
        return service

    def _called(self, guest: Application, service: Service) -> Service:
        """`asgi` and `wsgi` name an object: somebody has to call the factory."""
        module, _, attribute = guest.target.partition(":")
        path = next(
            (f"{n}" for n in (ENTRY, f"{ENTRY}_app", f"{ENTRY}_here") if not self._folder.has(f"{n}.py")), ENTRY
        )
        arguments = ", ".join(guest.arguments) if guest.arguments else ""
        self._to_do.append(
            f"{guest.target} is a factory, and nothing calls it: save this as {path}.py\n"
            f"    from {module} import {attribute}\n    app = {attribute}({arguments})"
        )
        return msgspec.structs.replace(
            service, runs=f"{path}:app", notes=(*service.notes, f"{path}.py calls the factory.")
        )

    # What all have.

    def _with_what_all_have(self, services: list[Service]) -> list[Service]:
        before = migration(self._folder)
        runs_it = any(before in " ".join(one.before) for one in services)
        env_file = ".env" if self._folder.has(".env") and not self._folder.mentions(*READS_ENV_FILE) else ""
        interpreter = ""
        if self._folder.environments and self._folder.active not in self._folder.environments:
            place = self._folder.environments[0]
            interpreter = f"{place}/bin/python"
            self._to_do.append(
                f"install Fissile where the application's packages are: `{place}/bin/pip install fissile`"
            )
        if env_file:
            self._to_do.append("nothing here reads .env: `set -a; . ./.env; set +a` before `fissile up`")
        set_already = {name for one in services for name in one.environment}
        asked = [name for name in variables(self._folder) if name not in set_already]
        if asked:
            beside = " beside those of .env" if self._folder.has(".env") else ""
            self._unclear.append(
                f"which values these variables need{beside}: {_listed(asked)} (`environment`, or `up`'s own)"
            )
        found: list[Service] = []
        for one in services:
            if before and not runs_it and one.role is Role.WEB and one.kind in (ASGI, WSGI):
                one = msgspec.structs.replace(one, before=(*one.before, before))
                runs_it = True
            if one.before:
                self._to_do.append(f"run {_listed(f'`{b}`' for b in one.before)} before the first `up` and each deploy")
            if env_file and env_file not in one.env_files:
                one = msgspec.structs.replace(one, env_files=(*one.env_files, env_file))
            if interpreter and (one.kind != "command" or one.runs.startswith("python ")):
                one = msgspec.structs.replace(one, interpreter=interpreter)
            if one.role is Role.WORKER:
                self._to_do.append(f"start {one.name} as before: Fissile does not start workers yet (`{one.runs}`)")
            found.append(one)
        products = {one.product for one in self._sources.composed.stores}
        for product, words in NEEDED.items():
            if product not in products and self._folder.mentions(*words):
                self._unclear.append(
                    f"where {product} runs: the code needs it; Fissile does not start it unless you say so"
                )
        for target in _STARTS.findall(self._folder.texts.get("Makefile", "")):
            self._unclear.append(f"whether `make {target}` starts something that is to be a service")
        self._to_do += [one.reach() for one in self._sources.composed.stores]
        self._unclear += [f"what {name} ({image}) is for" for name, image in self._sources.composed.others]
        return found


def _shell(line: CommandLine) -> str:
    """The command line for whoever starts it: through a shell where one has to read it."""
    import shlex

    if not line.shell:
        return line.text
    simple = not re.search(r"[;|&<>()`]", line.text)
    return f"sh -c {shlex.quote(('exec ' if simple else '') + line.text)}"


def _targets(others: Iterable[Application]) -> str:
    return _listed(f"{one.target} ({one.framework}, {one.place})" for one in others)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - OTHERS_SHOWN_MAX
    return ", ".join(every[:OTHERS_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
