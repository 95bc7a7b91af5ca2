"""fissile.toml is read strictly, and every mistake is reported at once."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fissile import Application, ConfigError, component
from fissile.settings.load import load, merge, resolve, settings_from
from fissile.settings.schema import FILE_NAME, ServiceSettings, Settings


class CartConfig(msgspec.Struct, frozen=True):
    limit: int = 10
    database: str = "sqlite://"


@component
class Cart:
    def __init__(self, config: CartConfig) -> None:
        self.config = config

    async def size(self) -> int:
        return 0


@component
class Pages:
    def __init__(self, cart: Cart) -> None:
        self.cart = cart

    async def page(self) -> str:
        return ""


GRAPH = Application(Pages, Cart, name="probe")

WHOLE = """
app = "probe:app"
topology = "pair"

[calls]
timeout_seconds = 3

[topologies.pair]
front = ["Pages"]
back = ["*"]

[services.back]
replicas = 2
queue = 5

[components.Cart]
limit = 20

[profiles.big]
topology = "microservices"
[profiles.big.services.back]
replicas = 4
[profiles.big.components.Cart]
database = "postgresql://"
"""


def written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text)
    return folder


def mistakes_of(folder: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), **options)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_all_that_can_be_said(tmp_path: Path):
    settings = load(written(tmp_path, WHOLE))
    assert (settings.app, settings.topology, settings.root) == ("probe:app", "pair", str(tmp_path))
    assert settings.calls.timeout_seconds == 3
    assert (settings.service("back").replicas, settings.service("back").queue) == (2, 5)
    assert settings.service("front").replicas == 1
    assert settings.components == {"Cart": {"limit": 20}}


def test_the_file_itself_may_be_named(tmp_path: Path):
    assert load(written(tmp_path, WHOLE) / FILE_NAME) == load(tmp_path)


def test_a_profile_is_merged_deeply_over_the_base(tmp_path: Path):
    settings = load(written(tmp_path, WHOLE), "big")
    assert settings.topology == "microservices"
    assert (settings.service("back").replicas, settings.service("back").queue) == (4, 5)
    assert settings.components == {"Cart": {"limit": 20, "database": "postgresql://"}}


def test_every_mistake_is_reported_at_once_with_what_is_allowed(tmp_path: Path):
    text = """
    topolgy = "x"
    [calls]
    timeout = 3
    timeout_seconds = 0
    [topologies.monolith]
    a = ["B"]
    [topologies.two]
    "../up" = ["A"]
    web = "Pages"
    [services.web]
    replicas = 0
    port = 99999
    quue = 3
    [components]
    Cart = 3
    [profiles.p]
    app = "no:no"
    [profiles.p.services.web]
    replica = 2
    """
    mistakes = "\n".join(mistakes_of(tmp_path, text))
    for expected in (
        "unknown key 'topolgy' at the top (did you mean 'topology'?); allowed are: app, topology, calls",
        "`app` is missing",
        "unknown key 'timeout' in [calls] (did you mean 'timeout_seconds'?); allowed are: timeout_seconds",
        "`timeout_seconds` in [calls] is 0: Expected `float` > 0.0",
        "[topologies.monolith] is built in",
        "'../up' in [topologies.two] is not a valid service name",
        '`web` in [topologies.two] is not a list of names: write web = ["Component", ...]',
        "`replicas` in [services.web] is 0: Expected `int` >= 1",
        "`port` in [services.web] is 99999: Expected `int` <= 65535",
        "unknown key 'quue' in [services.web] (did you mean 'queue'?)",
        "[components.Cart] is not a table",
        "unknown key 'app' in [profiles.p]",
        "unknown key 'replica' in [profiles.p.services.web] (did you mean 'replicas'?)",
    ):
        assert expected in mistakes
    assert len(mistakes.splitlines()) == 13


def test_a_profile_that_is_not_there(tmp_path: Path):
    assert mistakes_of(tmp_path, WHOLE, profile="bg") == [
        "- there is no profile 'bg' (did you mean 'big'?): there are big"
    ]


def test_no_file_says_how_to_write_one(tmp_path: Path):
    with pytest.raises(ConfigError, match=r'no fissile.toml in .*\n.*app = "module:attribute".*fissile run module:'):
        load(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        load(tmp_path / "missing")


def test_broken_toml_names_the_line(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"not valid TOML: .*line 2"):
        load(written(tmp_path, 'app = "a:b"\nx = = 3'))


def test_a_file_that_is_not_text(tmp_path: Path):
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfapp = 'a:b'\n", b"\xef\xbb\xbfapp = 'a:b'\r\n[calls]\r\n", b"app = 'a:b'\r\n"]
)
def test_what_an_editor_of_windows_saves(tmp_path: Path, text: bytes):
    (tmp_path / FILE_NAME).write_bytes(text)
    assert load(tmp_path).app == "a:b"


def test_a_byte_order_mark_in_the_middle_is_a_mistake(tmp_path: Path):
    (tmp_path / FILE_NAME).write_bytes(b"app = 'a:b'\n\xef\xbb\xbf[calls]\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path)


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path):
    (tmp_path / FILE_NAME).write_bytes(b"app = 'a:b'\n# caf\xe9\n")
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        load(tmp_path)


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


@pytest.mark.parametrize("make", [_folder, os.mkfifo, _socket])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]):
    make(tmp_path / FILE_NAME)
    with pytest.raises(ConfigError, match=r"fissile\.toml is not a file") as found:
        load(tmp_path)
    assert found.value.remedy


def test_a_link_to_nothing_says_where_it_leads(tmp_path: Path):
    (tmp_path / FILE_NAME).symlink_to("shared/gone.toml")
    with pytest.raises(ConfigError, match=r"a link to shared/gone\.toml"):
        load(tmp_path)


def test_the_environment_comes_last(tmp_path: Path):
    settings = load(written(tmp_path, WHOLE))
    resolved = resolve(settings, GRAPH, {"FISSILE_CART_LIMIT": "7", "HOME": "/"})
    assert resolved.components == {"Cart": {"limit": "7"}}
    assert settings.components == {"Cart": {"limit": 20}}


def test_what_belongs_to_nothing_is_an_error(tmp_path: Path):
    text = 'app = "probe:app"\n[components.Crt]\nx = 1\n[services.bck]\nqueue = 1\n[topologies.t]\nback = ["*"]'
    with pytest.raises(ConfigError) as caught:
        resolve(load(written(tmp_path, text)), GRAPH, {"FISSILE_CART_LIMT": "7"})
    message = caught.value.message
    assert "[components.Crt] is no component (did you mean 'Cart'?): there are Cart, Pages" in message
    assert (
        "[services.bck] is a service of no topology (did you mean 'back'?): there are app, cart, pages, back" in message
    )
    assert "FISSILE_CART_LIMT is no component's field (did you mean 'FISSILE_CART_LIMIT'?)" in message


tables = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), tables), st.dictionaries(st.sampled_from("abc"), tables))
def test_merging_keeps_what_is_not_overlaid_and_never_alters_its_input(base: dict[str, Any], over: dict[str, Any]):
    before = repr((base, over))
    merged = merge(base, over)
    assert repr((base, over)) == before
    assert set(merged) == set(base) | set(over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
    for key, value in over.items():
        if not isinstance(value, dict):
            assert merged[key] == value


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["app", "calls", "services", "topologies", "components", "profiles"]), values))
def test_no_document_gets_past_the_checks_into_a_traceback(document: dict[str, Any]):
    try:
        settings_from(document, Path("/nowhere/fissile.toml"))
    except ConfigError as error:
        assert "has mistakes" in error.message
    else:
        assert isinstance(document["app"], str)


BROKEN = """
app = "probe:app"

[topologies.good]
all = ["*"]

[topologies.bad]
front = ["Pages", "Nobody"]
back = ["Pages"]

[services.db]
command = "postgres"
after = ["app"]

[services.all]
after = ["nowhere"]

[profiles.cloud]
topology = "clowd"
[profiles.cloud.components.Carts]
limit = 1
[profiles.cloud.services.fixed]
command = "true"
port = 80
replicas = 2
"""


def test_what_is_not_in_use_is_told_with_the_rest(tmp_path: Path):
    text = BROKEN.replace("replicas = 2\n", "")
    with pytest.raises(ConfigError) as error:
        resolve(load(written(tmp_path, text)), GRAPH, {})
    for mistake in (
        "[topologies.bad]: service 'front' names an unknown component 'Nobody'",
        "[topologies.bad]: Pages is in 'front' and in 'back'",
        "[topologies.bad]: Cart in no service",
        "[services.all] has after = 'nowhere', which is no service",
        "none could start first: db after app, app after db",
        "`topology` is 'clowd', which does not exist: "
        "there are monolith, microservices, good, bad (with the profile cloud)",
        "[components.Carts] is no component (did you mean 'Cart'?): there are Cart, Pages (with the profile cloud)",
    ):
        assert mistake in error.value.message, mistake
    # What all profiles have in common is told once.
    assert error.value.message.count("Nobody") == 1
    with pytest.raises(ConfigError, match=r"\[services.fixed\] asks for 2 replicas .* \(with the profile cloud\)"):
        load(written(tmp_path, BROKEN))


def test_without_an_application_nothing_can_be_said_of_components(tmp_path: Path):
    text = """
        [services.web]
        command = "node server.js"
        calls = ["Cart"]
        after = ["db"]
        [services.nothing]
        [topologies.pair]
        front = ["Pages"]
        [components.Cart]
        limit = 1
    """
    with pytest.raises(ConfigError) as error:
        resolve(load(written(tmp_path, text)), None, {})
    for mistake in (
        "[components.Cart] is no component: there are none",
        "[services.web] has calls = 'Cart', which is no component",
        "[services.web] has after = 'db', which is no service",
        "[services.nothing] is a service of no topology",
        "[topologies.pair] groups components, but there is no `app`",
    ):
        assert mistake in error.value.message, mistake


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('command = " "', "`command` names no program in [services.web]"),
        ('command = "sh -c \'true"', "No closing quotation in [services.web]"),
        ('asgi = "mysite"', 'write asgi = "module:attribute"'),
        ('wsgi = ":app"', 'write wsgi = "module:attribute"'),
        ('command = "x"\nready = "health"', 'write a path as "/health", or "tcp"'),
        ('command = "x"\nenvironment = { PORT = "80" }', "write `port` instead"),
        ('command = "x"\nenvironment = { FISSILE_TOKEN = "x" }', "FISSILE_TOKEN is Fissile's own to set"),
        ('command = "x"\nenvironment = { LISTEN_FDS = "1" }', "LISTEN_FDS is Fissile's own to set"),
        ('command = "x"\nenvironment = { "A=B" = "1" }', "'A=B' is not a valid variable name"),
        ('command = "x"\nenvironment = { A = "\\u0000" }', "zero byte in A"),
    ],
)
def test_what_can_mean_nothing_is_a_mistake(tmp_path: Path, line: str, mistake: str):
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, f"[services.web]\n{line}\n"))
    assert mistake in error.value.message


def test_a_variable_named_port_is_the_application_s_own_where_nothing_else_is_meant_by_it(tmp_path: Path):
    found = load(written(tmp_path, '[services.web]\nasgi = "a:b"\nenvironment = { PORT = "80" }\n'))
    assert found.service("web").environment == {"PORT": "80"}


@pytest.mark.parametrize(
    ("settings", "ahead"),
    [
        (Settings(app="shop:app"), True),
        (Settings(app="shop:app", services={"web": ServiceSettings(spawn=True)}), False),
        (Settings(app="shop:app", services={"web": ServiceSettings(environment={"A": "1"})}), False),
        (Settings(services={"web": ServiceSettings(asgi="a:b", environment={"A": "1"})}), True),
    ],
)
def test_a_zygote_imports_ahead_only_what_knows_the_variables_of_its_service(settings: Settings, ahead: bool):
    assert settings.may_import_ahead("web") is ahead


def test_where_the_code_lies_is_no_other_setting():
    assert not Settings(app="a:b", root="/one").differs(Settings(app="a:b", root="/two"))
    assert Settings(app="a:b", root="/one").differs(Settings(app="a:c", root="/one"))
