"""Which files are the code of a program: by git, by what is ignored, by `code`, and by none at all."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fissile.errors import ConfigError
from fissile.releases import listing
from fissile.releases.commands import data_server, import_folders, in_copy, named_files, segments
from fissile.releases.listing import Listing, listing_of
from fissile.settings.load import settings_from
from fissile.settings.schema import ServiceSettings

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    def fill(*paths: str, **texts: str) -> Path:
        for path in paths:
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("x")
        for name, text in texts.items():
            (tmp_path / name.replace("__", ".", 1)).write_text(text)
        return tmp_path

    return fill


def git(root: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True)


def listed(root: Path, command: str = "npm start", data: tuple[str, ...] = (), **more: object) -> Listing:
    return listing_of(root, "web", ServiceSettings(command=command, **more), data)  # type: ignore[arg-type]


SHAPE = (
    *("index.js", "index.html", "lib/util.js", "public/app.css", "package.json", "package-lock.json"),
    *("node_modules/express/index.js", ".env", ".env.local", "shop.sqlite3", "uploads/photo.jpg", "logs/web.log"),
)
CODE = {"index.js", "index.html", "lib/util.js", "public/app.css", "package.json", "package-lock.json"}


@pytest.mark.parametrize("tracked", [False, True])
def test_what_git_tracks_or_nothing_ignores_is_code(fill: Fill, tracked: bool) -> None:
    root = fill(*SHAPE, "secret.txt", "fissile.toml")
    (root / ".gitignore").write_text("node_modules\n.env*\nsecret.txt\n/uploads/\n")
    if tracked:
        git(root, "init", "-q")
        git(root, "add", "-A")
    found = listed(root)
    assert set(found.files) == CODE
    assert found.words == f"6 files that {'git tracks' if tracked else 'nothing ignores'}"


def test_a_new_file_is_deployed_and_an_upload_is_not(fill: Fill) -> None:
    root = fill("index.js")
    git(root, "init", "-q")
    git(root, "add", "-A")
    fill("routes/new.js", "uploads/photo.jpg", "pictures/made.jpg", ".npmrc")
    found = listed(root, data=("pictures",))
    assert set(found.files) == {"index.js", "routes/new.js"}
    assert "1 of them not so far" in found.words


def test_nested_ignores_and_exceptions(fill: Fill) -> None:
    root = fill("a/keep.txt", "a/drop.txt", "a/b/drop.txt", "c/drop.txt")
    (root / ".gitignore").write_text("drop.txt\n")
    (root / "a/b/.gitignore").write_text("!drop.txt\n")
    assert listed(root).files == ("a/b/drop.txt", "a/keep.txt")


def test_only_what_is_below_the_folder_of_a_service(fill: Fill) -> None:
    root = fill("api/index.js", "web/index.js", "package-lock.json")
    assert set(listed(root, folder="web").files) == {"web/index.js", "package-lock.json"}


def test_an_environment_of_a_hook_leads_git_nowhere_else(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill("index.js")
    git(root, "init", "-q")
    git(root, "add", "-A")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere/index"))
    assert "git tracks" in listed(root).words


def test_the_code_that_settings_name(fill: Fill) -> None:
    root = fill(*SHAPE)
    found = listed(root, code=("**/*.js", "!lib/**", "public/**"))
    assert set(found.files) == {"index.js", "public/app.css", "package-lock.json"}
    assert listed(root, code=()).words == "none, by `code = []`"
    with pytest.raises(ConfigError, match=r"'\*\.rb' of `code` under \[services\.web\] matches no file"):
        listed(root, code=("*.js", "*.rb"))


@pytest.mark.parametrize(
    ("pattern", "says"), [("../other/*.js", "leads out"), ("a/../../b", "leads out"), ("", "no files")]
)
def test_patterns_that_lead_nowhere_are_mistakes_of_the_file(tmp_path: Path, pattern: str, says: str) -> None:
    document = {"services": {"web": {"command": "x", "code": [pattern]}}}
    with pytest.raises(ConfigError, match=says):
        settings_from(document, tmp_path / "fissile.toml")


def test_components_have_no_list_of_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the code of components is what they reach"):
        settings_from({"app": "a:app", "services": {"web": {"code": ["*.py"]}}}, tmp_path / "fissile.toml")


@pytest.mark.parametrize(
    "command",
    [
        "redis-server --port 6379",
        "/usr/lib/postgresql/15/bin/postgres -D data",
        "env LANG=C nice -n 5 valkey-server",
        "sh -c 'mkdir -p data && exec mongod --dbpath data'",
        "gosu postgres postgres",
        "mysqld-8.0 --datadir=data",
        "sh db/run.sh",
    ],
)
def test_data_servers_have_no_code_here(fill: Fill, command: str) -> None:
    root = fill("index.html")
    (root / "db").mkdir()
    (root / "db/run.sh").write_text('set -e\n# data\nexec "$programs/postgres" \\\n  -D data\n')
    assert data_server(command, root)
    assert listed(root, command).files == ()
    assert "data server" in listed(root, command).words
    assert listed(root, command, code=("index.html",)).files == ("index.html",)


@pytest.mark.parametrize(
    "command", ["node redis-server.js", "sh -c 'redis-cli ping'", "python -m postgres", "echo redis-server"]
)
def test_others_are_none(tmp_path: Path, command: str) -> None:
    assert data_server(command, tmp_path) == ""


def test_what_a_build_has_made_is_code_where_the_command_names_it(fill: Fill) -> None:
    root = fill("src/main.ts", "dist/main.js", "dist/lib/a.js", "target/release/server", "target/release/deps/big.rlib")
    (root / "target/release/server").chmod(0o755)
    (root / ".gitignore").write_text("dist\ntarget\n")
    (root / "package.json").write_text('{"scripts": {"start": "node dist/main.js"}}')
    assert set(listed(root).files) == {"src/main.ts", "dist/main.js", "dist/lib/a.js", "package.json"}
    assert set(listed(root, "target/release/server").files) == {"src/main.ts", "package.json", "target/release/server"}


def test_too_much_is_said_with_the_largest_folder(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill("index.js", *(f"pictures/{number}.jpg" for number in range(5)))
    monkeypatch.setattr(listing, "FILES_MAX", 4)
    with pytest.raises(ConfigError, match="more than 4 files; 5 of them are in pictures") as raised:
        listed(root)
    assert "code = [...]" in raised.value.remedy
    monkeypatch.setattr(listing, "FILES_MAX", 100)
    monkeypatch.setattr(listing, "BYTES_MAX", 3)
    with pytest.raises(ConfigError, match="more than 3 bytes"):
        listed(root)


def test_a_hundred_thousand_packages_are_never_walked(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(
        "index.js", "node_modules/a/index.js", ".venv/pyvenv.cfg", "env/pyvenv.cfg", "vendor/a.php", "composer.lock"
    )
    walked: list[str] = []
    scandir = os.scandir

    def watched(path: Path) -> object:
        walked.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    assert set(listed(root).files) == {"index.js", "composer.lock"}
    assert not {"node_modules", ".venv", "env", "vendor"}.intersection(walked)


def test_names_sockets_pipes_and_links(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> None:
    root, elsewhere = fill("index.js", "lib/a.js"), tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "code.js").write_text("x")
    name = os.fsdecode(b"caf\xe9.js")
    (root / name).write_text("x")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "sock"))
    (root / "out").symlink_to(elsewhere)
    (root / "out.js").symlink_to(elsewhere / "code.js")
    (root / "in.js").symlink_to("lib/a.js")
    (root / "round").symlink_to(".")
    (root / "gone").symlink_to("nowhere")
    found = listed(root)
    assert set(found.files) == {"index.js", "lib/a.js", name, "in.js", "round"}
    assert len(found.notes) == 2
    assert all("leads out of the folder" in note for note in found.notes)


def test_words_of_commands() -> None:
    assert segments("cd web && X=1 exec node index.js --a='b c'") == [["cd", "web"], ["node", "index.js", "--a=b c"]]
    assert segments("sh -ec 'bash -c \"python app.py\"'") == [["python", "app.py"]]
    assert segments("echo 'unfinished") == [["echo", "'unfinished"]]


def test_named_files_stay_in_the_folder(fill: Fill, tmp_path: Path) -> None:
    root = fill("app/index.js", "other.js") / "app"
    assert list(named_files(f"node index.js ../other.js {tmp_path}/app/index.js", root)) == ["index.js"]


def test_a_project_that_is_installed_where_it_is_runs_from_the_copy(fill: Fill) -> None:
    root = fill("src/app/__init__.py")
    assert import_folders(root) == []
    fill("pyproject.toml")
    assert import_folders(root) == [str(root / "src"), str(root)]


@pytest.mark.parametrize("patterns", [["\\"], ["!index.js"], ["index.js", "!index.js"]])
def test_patterns_that_are_none_or_leave_nothing_are_mistakes_of_the_file(fill: Fill, patterns: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"is not a pattern|leaves no file"):
        listed(fill("index.js"), code=patterns)


def test_a_line_that_is_no_pattern_spoils_no_other(fill: Fill) -> None:
    root = fill("index.js", "secret.js")
    (root / ".gitignore").write_text("\\\nsecret.js\n")
    assert set(listed(root).files) == {"index.js"}


@pytest.mark.parametrize("tracked", [False, True])
def test_a_new_source_is_code_in_a_folder_whatever_it_is_called(fill: Fill, tracked: bool) -> None:
    root = fill("index.js")
    if tracked:
        git(root, "init", "-q")
        git(root, "add", "-A")
    fill("src/cache/redis.js", "src/sessions/a.ts", "src/cache/page.bin", "public/uploads/a.html", "tmp/a.js")
    assert set(listed(root).files) == {"index.js", "src/cache/redis.js", "src/sessions/a.ts"}


def test_a_repository_within_the_folder_is_code_too(fill: Fill) -> None:
    root = fill("index.js")
    git(root, "init", "-q")
    git(root, "add", "-A")
    fill("lib/a.js", "lib/node_modules/b.js")
    git(root / "lib", "init", "-q")
    assert set(listed(root).files) == {"index.js", "lib/a.js"}


@pytest.mark.parametrize(
    "pattern", ["a*" * 30 + "b", "*?" * 40 + "b", "*[!x]" * 30 + "b", r"a*\*" * 30 + "b", "a**" * 30 + "b"]
)
def test_a_pattern_of_many_stars_ends(fill: Fill, pattern: str) -> None:
    root = fill("a" * 200, "a" * 100 + "*a" * 40, "index.js")
    (root / ".gitignore").write_text(f"{pattern}\n")
    with pytest.raises(ConfigError, match="matches no file"):
        listed(root, code=(pattern,))
    assert "index.js" in listed(root).files


@pytest.mark.parametrize("declared", [True, False])
def test_what_is_new_in_a_submodule_is_code(fill: Fill, declared: bool) -> None:
    root = fill("app/index.js", "library/util.js")
    for folder in ("library", "app"):
        git(root / folder, "init", "-q")
        git(root / folder, "config", "user.email", "a@example.org")
        git(root / folder, "config", "user.name", "a")
        if folder == "app" and declared:
            git(root / "app", "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../library", "lib")
        elif folder == "app":
            (root / "library").rename(root / "app/lib")
        git(root / folder, "add", "-A")
        git(root / folder, "commit", "-qm", "1")
    for name, text in {"new.js": "x", "made.bin": "x", ".gitignore": "*.bin\n"}.items():
        (root / "app/lib" / name).write_text(text)
    found = listed(root / "app")
    assert set(found.files) == {"index.js", "lib/util.js", "lib/new.js"}
    assert found.rule == "that git tracks, 1 of them not so far"


def test_where_code_is_looked_for_is_the_copy_but_for_what_is_no_code(tmp_path: Path):
    root, link, copy = tmp_path / "app", tmp_path / "current", tmp_path / "copy"
    for folder in (root / "lib", root / ".venv/bin", root / "new", copy / "lib"):
        folder.mkdir(parents=True)
    link.symlink_to(root)
    (copy / ".venv").symlink_to(root / ".venv")
    given = [root, link / "lib/", root / ".venv/bin", root / "new", tmp_path / "other", "lib", "", f"{root}2"]
    wanted = [copy, copy / "lib", root / ".venv/bin", root / "new", tmp_path / "other", "lib", "", f"{root}2"]
    assert in_copy(":".join(map(str, given)), (root, link), copy) == ":".join(map(str, wanted))
