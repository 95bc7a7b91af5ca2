"""What a deploy is refused for: one clear error with the next step, before anything is touched."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from chained import Chain, chain, traffic

from fissile.journal.journal import Journal
from fissile.supervisor.service import Secrets

ONE = (1, 1, 1)


@pytest.fixture
def app(tmp_path: Path):
    with chain(tmp_path / "app") as found:
        yield found


def write(app: Chain, name: str, old: str, new: str) -> None:
    file = app.folder / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_mistakes_are_named_and_nothing_is_touched(app: Chain):
    before = app.all_pids()
    release = app.status()["release"]
    original = {file: file.read_text() for file in [*app.folder.glob("chain/*.py"), app.folder / "fissile.toml"]}

    def refused(*options: str) -> str:
        said = app.order("deploy", *options, code=1)
        assert "Traceback" not in said
        for file, text in original.items():
            file.write_text(text)
        assert app.all_pids() == before
        assert app.status()["release"] == release
        assert app.status()["rollout"] is None
        return said

    with traffic(app) as seen:
        write(app, "chain/back.py", "import random", "import random)")
        assert "back.py, line 4" in refused()
        write(app, "chain/back.py", "import random", "import nowhere")
        assert "'nowhere', which is not installed" in refused()
        write(app, "chain/__init__.py", "Application(Front, Middle, Back)", "Application(Front, Middle)")
        assert "Back" in refused()
        write(app, "fissile.toml", "[topologies.duo]", "[topologees.duo]")
        assert "did you mean 'topologies'" in refused()
        write(app, "fissile.toml", 'rest = ["*"]', 'rest = ["*", "Nobody"]')
        assert "unknown component 'Nobody'" in refused("--topology", "duo")
        assert "there is no topology 'quartet'" in refused("--topology", "quartet")
        (app.folder / "fissile.toml").unlink()
        assert "there is no fissile.toml" in refused()
        assert "is not a share" in app.order("deploy", "--canary", "150%", code=1)
        assert "invalid share of requests" in app.order("deploy", "--canary", "some", code=2)
        assert "invalid duration" in app.order("deploy", "--watch", "a while", code=2)
        assert "not kept" in app.order("rollback", "123456789abc", code=1)
        assert "not 123456789abc" in refused("--expect", "123456789abc")
        assert "no rollout is under way" in app.order("promote", code=1)
        assert "no rollout is under way" in app.order("abort", code=1)
    assert not seen.failures
    assert set(seen.versions) == {ONE}


def test_a_contract_that_callers_cannot_live_with(app: Chain):
    for file in ("back", "middle", "front"):
        write(app, f"chain/{file}.py", "version(", "revision(")
    said = app.order("deploy", code=1)
    assert "Back.version" in said
    assert "called by Middle, Front" in said
    assert "Back.version" in app.order("deploy", "--plan")
    # A request never meets both releases, so who knows what he does may go on.
    with traffic(app) as seen:
        app.deploy("--accept-breaks")
    assert not seen.failures


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('no database')", "no database"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "not ready within 1 s"),
    ],
    ids=["error", "crash", "hang"],
)
def test_a_release_that_does_not_start_leaves_the_old_one_alone(app: Chain, code: str, words: str):
    before = app.all_pids()
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[services.back]\nstart_seconds = 1.0\n')
    file = app.folder / "chain" / "back.py"
    file.write_text(f"{file.read_text()}\n    async def start(self) -> None:\n        {code}\n")
    with traffic(app) as seen:
        said = app.deploy(code=1)
    assert "back does not come up" in said
    assert words in said
    assert not seen.failures
    assert set(seen.versions) == {ONE}
    assert app.all_pids() == before
    assert len(app.status()["services"]) == 3


def test_a_person_and_a_release_that_was_decided(app: Chain):
    app.edit("back", VERSION=2)
    app.order("deploy", "--canary", "10%", "--watch", "100s")
    assert "rollout 7 is over" in app.order("abort", "7", code=1)
    app.order("abort", "1")
    while app.status()["rollout"] is not None:
        time.sleep(0.05)
    assert "no rollout" in app.order("promote", "1", code=1)


def test_only_the_newest_releases_are_kept_beside_those_that_serve(app: Chain):
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[releases]\nkeep = 2\n')
    first = app.status()["release"]
    for version in (2, 3, 4, 5):
        app.edit("back", VERSION=version)
        app.deploy()
    kept = [line.split()[0] for line in app.order("releases").splitlines()[1:]]
    # Front and Middle did not change: they still read from the copy that they were started from.
    assert first in kept
    assert len(kept) == 4
    assert kept[0] == app.status()["release"]
    assert len(list((app.folder / ".fissile" / "code").iterdir())) == 4
    for component in ("front", "middle"):
        app.edit(component, VERSION=2)
    app.deploy()
    assert "not kept" in app.order("rollback", first, code=1)
    assert len(list((app.folder / ".fissile" / "code").iterdir())) == 4


def test_replica_counts_are_applied_without_a_new_process(app: Chain):
    before = app.all_pids()
    (app.folder / "fissile.toml").write_text('app = "chain:app"\n\n[services.back]\nreplicas = 3\n')
    assert "nothing to do" in app.deploy()
    while len(app.all_pids()["back"]) != 3:
        time.sleep(0.05)
    assert set(before["back"]) <= set(app.all_pids()["back"])


EXTRA = """
from fissile import component


@component
class Extra:
    async def start(self) -> None:
        raise RuntimeError("no database")

    async def found(self) -> int:
        return 5
"""


def test_nobody_keeps_the_tokens_of_a_service_that_never_served(app: Chain):
    (app.folder / "chain" / "extra.py").write_text(EXTRA)
    write(app, "chain/__init__.py", "Back)", "Back, Extra)")
    write(app, "chain/__init__.py", "from fissile import", "from chain.extra import Extra\nfrom fissile import")
    assert "no database" in app.deploy(code=1)
    with (
        closing(sqlite3.connect(app.folder / ".fissile" / "journal.db")) as running,
        closing(sqlite3.connect(app.folder / "copy.db")) as copy,
    ):
        running.backup(copy)
    journal = Journal(app.folder / "copy.db")
    journal.open()
    kept = journal.kept("secrets")
    journal.close()
    assert kept is not None
    secrets = msgspec.msgpack.decode(kept, type=Secrets)
    assert set(secrets.services) == set(secrets.control) == {"front", "middle", "back"}
