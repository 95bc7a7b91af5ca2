"""What docs/reference/isolation.md says of a confined service, tried from inside of it."""

import ast
import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from broken import CONFINED, Broken, broken_into, sample
from supervised import shown, until

from fissile.errors import ConfigError
from fissile.machine.landlock import interface_version
from fissile.machine.procfs import RLIMIT_LOCKS, mark_by_limit
from fissile.machine.walls import SCOPES_VERSION
from fissile.settings.load import load
from fissile.supervisor.supervisor import Supervisor

FLOOD = """
import pathlib, socket, sys, threading
def flood():
    for number in range(10**9):
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(sys.argv[1])  # waits as long as the door is full
        if number == 10:
            pathlib.Path(sys.argv[2]).touch()
for _ in range(200):
    threading.Thread(target=flood).start()
"""
pytestmark = [
    pytest.mark.skipif(not interface_version(), reason="this kernel has no Landlock"),
    pytest.mark.alone,
]
scoped = pytest.mark.skipif(interface_version() < SCOPES_VERSION, reason="this kernel's Landlock has no scopes")


@pytest.fixture(params=["forked", "spawned"])
async def broken(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broken]:
    more = CONFINED if request.param == "forked" else CONFINED.replace("isolate", "spawn = true\nisolate")
    async with broken_into(sample(tmp_path, more)) as found:
        yield found


@pytest.fixture
async def forked(tmp_path: Path) -> AsyncIterator[Broken]:
    async with broken_into(sample(tmp_path, CONFINED)) as found:
        yield found


async def test_it_writes_to_its_own_folders_alone(broken: Broken):
    assert await broken("(ROOT / 'data/note').write_text('x')") == "1"
    assert await broken("tempfile.NamedTemporaryFile().name.startswith(str(STATE / 'tmp'))") == "True"
    for elsewhere in ("ROOT / 'note'", "ROOT / 'fissile.toml'", "STATE / 'journal.db'", "'/tmp/walls-note'"):
        assert await broken(f"refused(Path({elsewhere}).write_text, 'x')") == "EACCES"
    assert await broken("refused(os.truncate, ROOT / 'beside/file', 0)") == "EACCES"
    assert await broken("refused(os.link, ROOT / 'beside/file', ROOT / 'data/link')") == "EXDEV"
    assert await broken("refused(os.rename, ROOT / 'beside/file', ROOT / 'data/moved')") in ("EXDEV", "EACCES")
    assert (broken.root / "beside/file").read_text() == "beside"


async def test_the_state_folder_is_unreadable_but_for_its_own_copy_of_the_code(broken: Broken):
    assert await broken("refused(os.listdir, STATE)") == "EACCES"
    state = broken.root / ".fissile"
    own = (state / "code", state / "tmp")
    files = [file for file in state.rglob("*") if file.is_file() and not any(map(file.is_relative_to, own))]
    # Its own file of stacks is its to write.
    files = [file for file in files if not (file.suffix == ".stacks" and file.name.startswith("back"))]
    assert len(files) > 3
    found = await broken(f"[refused(open, file) for file in {[str(file) for file in files]}]")
    assert found == str(["EACCES"] * len(files))
    assert "sample.py" in await broken("os.listdir(Path(sys.modules['sample'].__file__).parent)")
    assert "class Back" in await broken("Path(sys.modules['sample'].__file__).read_text()")
    assert await broken("Path(sys.modules['sample'].__file__).is_relative_to(STATE / 'code')") == "True"


async def test_the_configuration_of_all_is_unreadable(broken: Broken):
    assert await broken("refused(open, ROOT / 'fissile.toml')") == "EACCES"
    assert await broken("refused(open, Path(sys.modules['sample'].__file__).with_name('fissile.toml'))") == "EACCES"
    assert await broken("refused(open, f'/proc/{os.getppid()}/root{ROOT}/fissile.toml')") == "EACCES"
    (broken.root / "data/link").symlink_to("../.fissile/endpoints.json")
    assert await broken("refused(open, ROOT / 'data/link')") == "EACCES"


async def test_a_configuration_that_a_link_leads_to_is_unreadable(tmp_path: Path):
    """As a container has it that is given its configuration."""
    folder = sample(tmp_path, CONFINED)
    (tmp_path / "given").mkdir()
    (tmp_path / "given/other").write_text("other")
    (folder / "fissile.toml").rename(tmp_path / "given/fissile.toml")
    (folder / "fissile.toml").symlink_to("../given/fissile.toml")
    async with broken_into(folder) as broken:
        assert await broken("refused(open, ROOT / 'fissile.toml')") == "EACCES"
        assert await broken("refused(open, ROOT.parent / 'given/fissile.toml')") == "EACCES"
        assert await broken("(ROOT.parent / 'given/other').read_text()") == "other"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
async def test_what_is_hidden_is_so_wherever_it_is_mounted(tmp_path: Path):
    folder = sample(tmp_path, CONFINED)
    again = tmp_path / "mounted again"
    again.mkdir()
    bind = ["mount", "--bind", str(folder), str(again)]
    if (await asyncio.to_thread(subprocess.run, bind, stderr=subprocess.DEVNULL)).returncode:
        pytest.skip("mounting is refused here")
    try:
        async with broken_into(folder) as broken:
            for file in (".fissile/journal.db", ".fissile/endpoints.json", "fissile.toml"):
                assert await broken(f"refused(open, ROOT.parent / 'mounted again/{file}')") == "EACCES", file
            assert await broken("(ROOT.parent / 'mounted again/beside/file').read_text()") == "beside"
            assert await broken("(ROOT.parent / 'mounted again/data/note').write_text('x')") == "1"
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(again)], check=True)


async def test_it_reads_what_else_its_user_may(broken: Broken):
    assert await broken("(ROOT / 'beside/file').read_text()") == "beside"
    assert await broken("(ROOT / 'sample.py').exists() and len(os.listdir('/etc')) > 3") == "True"
    (broken.root / "beside/later").write_text("later")
    assert await broken("(ROOT / 'beside/later').read_text()") == "later"
    # What comes later right beside the state folder is read once the service has started anew.
    (broken.root / "new").write_text("new")
    assert await broken("refused(open, ROOT / 'new')") == "EACCES"
    await broken.app.supervisor.operations.restart("back")
    assert await broken("(ROOT / 'new').read_text()") == "new"


async def test_what_may_be_seen_of_what_is_hidden(forked: Broken):
    """Sizes and times, and that something happens: the reference says so."""
    assert await forked("os.stat(STATE / 'journal.db').st_size > 0") == "True"
    assert await forked("libc.inotify_add_watch(libc.inotify_init(), os.fsencode(STATE), 0x100) > 0") == "True"


async def test_metadata_of_other_files_is_not_altered(broken: Broken):
    before = (broken.root / "beside/file").stat()
    deeds = {
        "os.chmod, FILE, 0o777": "EPERM",
        "os.chmod, os.open(FILE, os.O_RDONLY), 0o777": "EPERM",
        "os.chmod, f'/proc/self/fd/{os.open(FILE, os.O_PATH)}', 0o777": "EPERM",
        "os.chown, FILE, 1, 1": "EPERM",
        "os.lchown, FILE, 1, 1": "EPERM",
        "os.fchown, os.open(FILE, os.O_RDONLY), 1, 1": "EPERM",
        "os.utime, FILE, (1, 1)": "EPERM",
        "os.utime, FILE": "EPERM",
        "os.utime, os.open(FILE, os.O_RDONLY), (1, 1)": "EPERM",
        "os.setxattr, FILE, 'user.note', b'x'": errno.errorcode[errno.EOPNOTSUPP],
        "os.chmod, FILE.parent, 0o777": "EPERM",
        "os.chmod, ROOT / '.fissile', 0o755": "EPERM",
        "os.chmod, 'data/link', 0o777": "EPERM",
        "os.chmod, 'data/../beside/file', 0o777": "EPERM",
        "os.chmod, 'file', 0o777, dir_fd=os.open(FILE.parent, os.O_PATH)": "EPERM",
        "subprocess.check_output, ['chmod', '777', str(FILE)], stderr=-3": "no",
    }
    (broken.root / "data/link").symlink_to("../beside/file")
    for deed, answer in deeds.items():
        code = f"FILE = ROOT / 'beside/file'\nos.chdir(ROOT)\nrefused({deed})"
        if answer == "no":
            code = "subprocess.run(['chmod', '777', str(ROOT / 'beside/file')], stderr=subprocess.DEVNULL).returncode"
            assert await broken(code) == "1"
        else:
            assert await broken(code) == answer, deed
    after = (broken.root / "beside/file").stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


async def test_programs_alter_metadata_in_their_own_folders(broken: Broken):
    assert await broken("os.chdir(ROOT)\nshutil.copy2('sample.py', 'data/copy.py')") == "data/copy.py"
    own = (broken.root / "data/copy.py").stat()
    assert own.st_mtime == (broken.root / "sample.py").stat().st_mtime
    alter = """
        os.chdir(ROOT / 'data')
        os.chmod('copy.py', 0o640)
        os.chmod(os.open('.', os.O_RDONLY), 0o750)
        os.utime(os.open('copy.py', os.O_RDONLY), (5, 7))
        [oct(os.stat('copy.py').st_mode), oct(os.stat('.').st_mode), os.stat('copy.py').st_mtime]
    """
    assert await broken(alter) == "['0o100640', '0o40750', 7.0]"
    assert await broken("refused(os.chmod, ROOT / 'data/none', 0o600)") == "ENOENT"
    assert await broken("refused(os.chown, ROOT / 'data/copy.py', os.getuid(), os.getgid())") == "None"
    # Whoever runs a file with this bit would be this user.
    made = "refused(os.open, ROOT / 'data/made', os.O_CREAT | os.O_WRONLY, 0o4755)"
    assert await broken(made) == "EPERM"
    assert await broken("refused(os.mknod, ROOT / 'data/made', 0o104755)") == "EPERM"
    assert await broken("refused(os.chmod, ROOT / 'data/copy.py', 0o4755)") == "EPERM"
    assert (
        await broken("sqlite3.connect(ROOT / 'data/a.db').execute('pragma journal_mode=wal').fetchone()") == "('wal',)"
    )
    assert await broken("shutil.copytree(ROOT / 'beside', tempfile.mkdtemp() + '/copy') and 'copied'") == "copied"
    code = "subprocess.run('touch a && chmod 600 a && cp -p a b && ls -l a', shell=True, cwd=ROOT / 'data').returncode"
    assert await broken(code) == "0"


async def test_no_temporary_file_outlasts_it(forked: Broken):
    """Not even one that is deeper than a path may be long, or in a folder that is closed: `broken_into` looks."""
    deep = """
        os.chdir(tempfile.gettempdir())
        os.makedirs('closed/in') or os.chmod('closed/in', 0) or os.chmod('closed', 0)
        for _ in range(2000): os.mkdir('d') or os.chdir('d')
        os.chdir('/')
        'made'
    """
    before = await forked(deep.replace("'made'", "tempfile.gettempdir()"))
    assert await forked("len(os.listdir(tempfile.gettempdir()))") == "2"
    await forked.app.supervisor.operations.restart("back")
    await until(lambda: not Path(before).exists(), "its temporary files went")
    assert await forked(deep) == "made"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_whoever_root_has_made_another_user_alters_as_that_user(forked: Broken):
    """As a server does that begins as root and works as nobody: the warden lends it no rights of root's."""
    become = textwrap.dedent("""
        def nobody(deed):
            reader, writer = os.pipe()
            if not os.fork():
                os.setgroups([]), os.setgid(65534), os.setuid(65534)
                os.write(writer, str(refused(deed)).encode())
                os._exit(0)
            os.close(writer)
            os.wait()
            return os.read(reader, 99).decode()
        os.chdir(ROOT / 'data')
    """)
    setup = textwrap.dedent("""
        Path('roots').write_text('x') and os.chmod('roots', 0o600)
        os.mkdir('closed', 0o700), Path('closed/file').touch()
        os.mkdir('theirs'), os.chown('theirs', 65534, 65534)
    """)
    assert await forked(f"{become}{setup}\n'made'") == "made"
    for deed, answer in {
        "os.chmod('roots', 0o777)": "EPERM",
        "os.chmod(ROOT / 'data/roots', 0o777)": "EPERM",
        "os.fchmod(os.open('roots', os.O_PATH), 0o777)": "EPERM",
        "os.chmod(f'/proc/self/fd/{os.open(\"roots\", os.O_PATH)}', 0o777)": "EPERM",
        "os.chown('roots', 65534, 65534)": "EPERM",
        "os.utime('roots')": "EACCES",
        "os.utime('roots', (1, 1))": "EPERM",
        "os.chmod('closed/file', 0o777)": "EPERM",
        "os.chmod('file', 0o777, dir_fd=os.open('closed', os.O_PATH))": "EPERM",
        "Path('theirs/file').touch(0o600)": "None",
        "os.chmod('theirs/file', 0o640)": "None",
        "os.chmod('file', 0o604, dir_fd=os.open('theirs', os.O_PATH))": "None",
        "os.utime('theirs/file', (1, 1))": "None",
        "os.chown('theirs/file', 0, 0)": "EPERM",
        "subprocess.run('cp -p theirs/file theirs/copy && chmod 600 theirs/copy', shell=True).returncode": "0",
    }.items():
        assert await forked(f"{become}nobody(lambda: {deed})") == answer, deed
    assert await forked("refused(os.chmod, ROOT / 'data/theirs/file', 0o600)") == "None"
    assert await forked("refused(os.chown, ROOT / 'data/theirs/file', 0, 0)") == "None"


async def test_shared_memory_of_others_is_not_altered(broken: Broken):
    mode = os.stat("/dev/shm").st_mode & 0o7777
    assert await broken(f"refused(os.chmod, '/dev/shm', {mode})") == "EPERM"
    name = f"/dev/shm/walls-{os.getpid()}"
    own = f"Path('{name}').touch()\nrefused(os.chmod, '{name}', 0o600), os.unlink('{name}')"
    assert await broken(own) == "(None, None)"
    if os.geteuid() == 0:
        Path(name).touch()
        try:
            os.chown(name, 65534, 65534)
            assert await broken(f"refused(os.chmod, '{name}', 0o777)") == "EPERM"
            assert await broken(f"refused(os.chown, '{name}', 0, 0)") == "EPERM"
        finally:
            os.unlink(name)


@scoped
async def test_it_signals_its_own_processes_alone(broken: Broken):
    (others,) = broken.app.pids("pages")
    for pid in (others, os.getpid(), 1):
        assert await broken(f"refused(os.kill, {pid}, 0)") == "EPERM"
    assert await broken("refused(os.kill, os.getppid(), signal.SIGKILL)") == "EPERM"
    own = "child = subprocess.Popen(['sleep', '60'])\nchild.kill()\nchild.wait()"
    assert await broken(own) == "-9"


@scoped
async def test_abstract_sockets_of_others_are_out_of_reach(broken: Broken):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0walls-{os.getpid()}")
        listener.listen()
        code = f"refused(socket.socket(socket.AF_UNIX).connect, '\\0walls-{os.getpid()}')"
        assert await broken(code) == "EPERM"


async def test_terminals_of_the_same_user_are_common(forked: Broken):
    """The reference says so: a terminal that it opens itself is a file there, too."""
    outside, terminal = os.openpty()
    try:
        write = f"os.write(os.open({os.ttyname(terminal)!r}, os.O_RDWR | os.O_NOCTTY), b'seen')"
        assert await forked(write) == "4"
        assert os.read(outside, 4) == b"seen"
    finally:
        os.close(outside), os.close(terminal)


async def test_it_looks_into_no_other_process(broken: Broken):
    (others,) = broken.app.pids("pages")
    for pid in (others, os.getpid(), "os.getppid()"):
        for file in ("environ", "mem", "maps", "root/etc/passwd"):
            assert await broken(f"refused(open, f'/proc/{{{pid}}}/{file}')") in ("EACCES", "EPERM")
        assert await broken(f"refused(os.readlink, f'/proc/{{{pid}}}/fd/0')") == "EACCES"
    ptrace, pidfd_open, pidfd_getfd = (101, 434, 438) if os.uname().machine == "x86_64" else (117, 434, 438)
    attach = 16
    assert await broken(f"call({ptrace}, {attach}, {others}, 0, 0)") == "EPERM"
    assert await broken(f"call({pidfd_getfd}, libc.syscall({pidfd_open}, {others}, 0), 0, 0)") == "EPERM"
    assert (
        await broken("len(Path('/proc/self/environ').read_bytes()) > 10 and open('/proc/self/mem', 'rb') and 'own'")
        == "own"
    )


async def test_it_limits_no_other_process(broken: Broken):
    (others,) = broken.app.pids("pages")
    assert await broken(f"import resource\nrefused(resource.prlimit, {others}, resource.RLIMIT_CPU, (1, 1))") == "EPERM"
    assert await broken("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n'own'") == "own"
    assert await broken("refused(os.setpriority, os.PRIO_USER, 0, 5)") == "EPERM"


async def test_it_keeps_the_mark_by_which_local_doors_know_it(broken: Broken):
    """Also where all that were above it have died."""
    (own,) = broken.app.pids("back")
    before = mark_by_limit(own)
    assert before is not None
    locks, none = RLIMIT_LOCKS, "(resource.RLIM_INFINITY, resource.RLIM_INFINITY)"
    assert await broken(f"import resource\nrefused(resource.prlimit, 0, {locks}, {none})") == "EPERM"
    for program in ("ulimit -x unlimited", "ulimit -Sx 0", "prlimit --locks=0:0 --pid $$"):
        assert await broken(f"subprocess.run(['bash', '-c', '{program}'], stderr=-3).returncode") != "0"
    child = "child = subprocess.Popen(['sleep', '60'], start_new_session=True, env={})\nchild.pid"
    assert mark_by_limit(int(await broken(child))) == before


async def test_a_zygote_obeys_its_supervisor_however_many_others_come(forked: Broken):
    (forked.root / "data" / "flood.py").write_text(FLOOD)
    (zygote,) = (forked.root / ".fissile").glob("zygote-*.sock")
    run = f"subprocess.Popen([sys.executable, ROOT / 'data/flood.py', {str(zygote)!r}, ROOT / 'data/flood'])"
    assert await forked(f"{run} and 'begun'") == "begun"
    await until((forked.root / "data/flood").exists, "the door is full")
    (before,) = forked.app.pids("pages")
    await asyncio.wait_for(forked.app.supervisor.operations.restart("pages"), 20.0)
    assert forked.app.pids("pages") != [before]


async def test_not_even_its_warden_serves_it_against_others(broken: Broken):
    code = """
        names = [(pid, Path(f'/proc/{pid}/cmdline').read_bytes()) for pid in filter(str.isdigit, os.listdir('/proc'))]
        found = [pid for pid, name in names if b'warden' in name]
        [(refused(os.kill, int(pid), 9), refused(open, f'/proc/{pid}/mem')) for pid in found[:1]]
    """
    assert await broken(code) == "[('EPERM', 'EACCES')]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to lose")
async def test_root_is_left_few_privileges(broken: Broken):
    calls = {"unshare of users": "272, 0x10000000", "unshare of mounts": "272, 0x20000", "bpf": "321, 0, 0, 0"}
    calls |= {
        "keyctl": "250, 0, 0, 0",
        "chroot": "161, b'/tmp'",
        "mount": "165, 0, b'/tmp', 0, 0, 0",
        "setns": "308, 0, 0",
    }
    if os.uname().machine == "x86_64":
        for what, args in calls.items():
            assert await broken(f"call({args})") == "EPERM", what
    assert await broken("refused(os.mknod, ROOT / 'data/disk', 0o60600, os.makedev(254, 0))") in ("EACCES", "EPERM")
    disks = [str(path) for path in Path("/dev").iterdir() if path.is_block_device()]
    assert await broken(f"[refused(os.open, disk, os.O_RDONLY) for disk in {disks}]") == str(["EACCES"] * len(disks))
    assert await broken("refused(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)") == "EPERM"
    assert await broken("refused(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1))") == "EPERM"
    assert (
        await broken("[refused(open, device, 'r+b') for device in ('/dev/null', '/dev/urandom')]") == "['done', 'done']"
    )


async def test_a_program_is_confined_and_finds_what_is_in_its_folder(tmp_path: Path):
    more = "\n[services.tool]\ncommand = 'python3 tool.py'\nisolate = true\nready = '/'\n"
    folder = sample(tmp_path, more)
    (folder / "helper.py").write_text("words = 'helped'")
    (folder / "tool.py").write_text(TOOL)
    async with broken_into(folder) as broken:
        found = await broken.app.client.get(f"http://{broken.app.endpoints.services['tool'].public['tool']}/")
        # Where a program works in the folder above the state folder, names in there may be listed, and nothing read.
        assert found.json() == {
            "helped": "helped",
            "write": "EACCES",
            "read": "EACCES",
            "configuration": "EACCES",
            "chmod": "EPERM",
            "temporary": True,
        }
        assert broken.status("tool").isolation == "confined"


async def test_a_migration_is_confined(tmp_path: Path):
    folder = sample(tmp_path, CONFINED)
    code = (folder / "sample.py").read_text()
    (folder / "sample.py").write_text(
        code.replace("    async def start(self)", MIGRATE + "    async def start(self)", 1)
    )
    async with broken_into(folder):
        found = json.loads((folder / "data/migration").read_text())
        assert found == {"write": "Permission denied", "read": "Permission denied", "temporary": True}


async def test_temporary_files_go_with_the_replica(forked: Broken):
    made = Path(await forked("tempfile.mkdtemp()"))
    assert made.is_dir()
    await forked.app.supervisor.operations.restart("back")
    await until(lambda: not made.parent.exists(), "its folder is removed")
    assert await forked("tempfile.gettempdir()") != str(made.parent)


async def test_a_folder_that_holds_the_state_is_refused(tmp_path: Path):
    for disk in (".", "..", ".fissile"):
        folder = tmp_path / f"of{len(disk)}"
        folder.mkdir()
        app = sample(folder, f"\n[services.back.limits]\ndisk = ['{disk}']\n")
        (app / ".fissile").mkdir()
        supervisor = Supervisor(load(app), "microservices", port=0)
        with pytest.raises(ConfigError, match=r"is not apart from .*: name folders beside it"):
            await supervisor.start()


async def test_nothing_that_is_open_leads_out(forked: Broken):
    """What was opened before the walls were there would be open still."""
    code = """
        names = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        {os.readlink(name) for name in names if os.path.exists(name)}
    """
    opened = {one for one in ast.literal_eval(await forked(code)) if one.startswith("/")}
    assert {Path(one).suffix for one in opened} <= {".stacks", ""}
    assert {one for one in opened if not one.startswith(("/dev/null", "/dev/shm"))} <= {
        str(path) for path in (forked.root / ".fissile").glob("back*.stacks")
    }


def alone(code: str) -> str:
    """What a process says that confines itself."""
    head = """
        import os, sys
        from fissile.machine import confine, landlock, seccomp
        from fissile.machine.walls import Confinement
        from fissile.machine.walls import Walls
        data = sys.argv[1]
        walls = Walls(write=(data,))
        open(data + "/file", "w").close()
        def chmod(path):
            try:
                os.chmod(path, 0o600)
            except OSError as error:
                return error.strerror
    """
    with TemporaryDirectory() as data:
        program = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code), data]
        return subprocess.run(program, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_where_nobody_can_be_asked_metadata_is_left_alone():
    """As where something outside of us answers the system calls of everybody already (EBUSY, seccomp(2))."""
    code = """
        landlock.gain_nothing()
        seccomp.install(seccomp.architecture(), judged=seccomp.RET_USER_NOTIF, truncating=True)
        confine.enter(Confinement(walls=walls), "alone")
        print(chmod(data + "/file"))
    """
    assert alone(code) == "Operation not permitted"


def test_a_warden_that_dies_lets_nothing_pass():
    code = """
        import signal, time
        parent = os.getpid()
        confine.enter(Confinement(walls=walls), f"walls{parent}")
        print(chmod(data + "/file"), flush=True)
        sys.stdin.read()
        print(chmod(data + "/file"))
    """
    with TemporaryDirectory() as data:
        head = textwrap.dedent(alone.__code__.co_consts[1])
        program = [sys.executable, "-c", head + textwrap.dedent(code), data]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "None\n"
        name = f"fissile walls{child.pid} warden".encode()
        (warden,) = [
            int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if shown(int(pid), "cmdline").startswith(name)
        ]
        os.kill(warden, signal.SIGKILL)
        child.stdin.close()
        assert child.stdout.read() == "Function not implemented\n"
        assert child.wait() == 0


async def test_status_says_which_walls_stand(forked: Broken):
    back, pages = forked.status(), forked.status("pages")
    assert (back.isolation, pages.isolation) == ("confined", "none")
    assert {"write", "read", "ptrace"} <= set(back.walls)
    assert set(back.walls) | set(back.walls_missing) == {
        "write",
        "read",
        "metadata",
        "privileges",
        "ptrace",
        "signals",
        "abstract sockets",
    }
    assert pages.walls == ()


MIGRATE = """
    async def migrate(self) -> None:
        import json, tempfile
        def refused(path, mode):
            try:
                open(path, mode)
            except OSError as error:
                return error.strerror
        root = Path(os.path.realpath(FOLDER / "data")).parent
        found = {
            "write": refused(root / "note", "w"),
            "read": refused(root / ".fissile/journal.db", "rb"),
            "temporary": tempfile.gettempdir().startswith(str(root / ".fissile/tmp")),
        }
        (root / "data/migration").write_text(json.dumps(found))

"""
TOOL = """
import errno, json, os, sys, tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
sys.path.insert(0, os.getcwd())
import helper
APPLICATION = os.getcwd().partition("/.fissile/code/")[0]
def refused(deed, *args):
    try:
        deed(*args)
    except OSError as error:
        return errno.errorcode[error.errno]
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({
            "helped": helper.words,
            "write": refused(open, "note", "w"),
            "read": refused(open, APPLICATION + "/.fissile/endpoints.json"),
            "configuration": refused(open, "fissile.toml"),
            "chmod": refused(os.chmod, "helper.py", 0o777),
            "temporary": tempfile.gettempdir().startswith(APPLICATION + "/.fissile/tmp/"),
        }).encode())
HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
