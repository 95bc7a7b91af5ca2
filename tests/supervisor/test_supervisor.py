"""Real services in real processes: started, killed, restarted, stopped."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from supervised import Output, descendants, left_in, lives, running, shown, until

from fissile.api.discovery import read_endpoints
from fissile.errors import ConfigError, FissileError, StartError
from fissile.journal.journal import JournalError
from fissile.orchestrator.replica import Replica
from fissile.settings.load import load
from fissile.supervisor.launcher import Launcher
from fissile.supervisor.restarter import StartFailed
from fissile.supervisor.supervisor import Supervisor


async def fails_to_start(folder: Path, error: type[Exception], topology: str = "microservices") -> str:
    """The message of the one error; nothing may be left."""
    before = set(descendants(os.getpid()))
    supervisor = Supervisor(load(folder), topology, port=0, logs=Output().logs())
    with pytest.raises(error) as caught:
        await supervisor.start()
    assert not [pid for pid in set(descendants(os.getpid())) - before if lives(pid)]
    assert left_in(folder) <= {"journal.db"}
    return str(caught.value)


async def test_every_service_is_a_process_of_its_own_and_they_call_each_other(folder: Path):
    async with running(folder) as app:
        back, pages = await app.call("Back.pid"), int((await app.client.get(app.page)).text)
        assert len({back, pages, os.getpid()}) == 3
        assert await app.call("Pages.back_pid") == back
        assert (await app.client.get(f"{app.page}/back")).text == str(back)
        assert read_endpoints(folder).services["back"].pids == (back,)
        assert shown(back, "cmdline").rstrip(b"\0") == b"fissile back.0"
    assert b"back    | back starts" in app.output.out
    assert b"back    | back stops" in app.output.out
    assert b"back    | its last words" in app.output.err


async def test_a_named_topology_with_several_replicas(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write("\n[services.back]\nreplicas = 3\n")
    async with running(folder, "pair") as app:
        assert len(app.pids("back")) == 3
        found = {await app.call("Pages.back_pid") for _ in range(60)}
        assert len(found) > 1
        assert found <= set(app.pids("back"))


async def test_a_killed_replica_is_back_by_itself_on_the_same_sockets(folder: Path):
    async with running(folder) as app:
        old = await app.call("Back.pid")
        os.kill(old, signal.SIGKILL)
        await until(lambda: not lives(old), "it is dead")
        begun = time.monotonic()
        # Waits in the queue of the callee's socket, and is answered by the next replica.
        new = await app.call("Pages.back_pid")
        assert new != old
        assert time.monotonic() - begun < 5.0
        await until(lambda: read_endpoints(folder).services["back"].pids == (new,), "the endpoints name the new one")
    assert b"back.0: pid %d was killed by SIGKILL; starting again" % old in app.output.err


async def test_a_service_that_keeps_dying_is_started_with_growing_pauses_and_harms_nobody(folder: Path):
    async with running(folder) as app:
        (folder / "back-dies").touch()
        os.kill((await app.call("Back.pid")), signal.SIGKILL)
        await until(lambda: app.output.err.count(b"starting again in") >= 3, "three pauses")
        assert (await app.client.get(app.page)).status_code == 200
        (folder / "back-dies").unlink()
        await until(lambda: app.pids("back"), "back serves again")
        assert await app.call("Pages.back_pid") == app.pids("back")[0]
    assert b"it was killed by SIGKILL before it was ready" in app.output.err


async def test_an_exit_is_reported_with_its_code(folder: Path):
    async with running(folder) as app:
        with suppress(AssertionError, httpx.HTTPError):
            await app.call("Back.exit", code=7)
        await until(lambda: b"ended with exit code 7" in app.output.err, "the code is in the log")


async def test_a_dead_spare_is_not_missed(folder: Path):
    async with running(folder) as app:
        zygote = app.supervisor.status().supervisor.zygote
        assert zygote is not None
        for _ in range(3):
            old = await app.call("Back.pid")

            def spares() -> list[int]:
                return [pid for pid in descendants(zygote) if pid not in app.pids("back") + app.pids("pages")]

            (spare,) = await until(spares, "a spare is made")
            os.kill(spare, signal.SIGKILL)
            os.kill(old, signal.SIGKILL)
            await until(lambda old=old: app.pids("back") not in ([], [old]), "back is back")
            assert await app.call("Pages.back_pid") in app.pids("back")


async def test_a_dead_zygote_takes_no_replica_with_it_and_is_replaced(folder: Path):
    async with running(folder) as app:
        old, zygote = await app.call("Back.pid"), app.supervisor.status().supervisor.zygote
        assert zygote is not None
        os.kill(zygote, signal.SIGKILL)
        await until(lambda: app.supervisor.status().supervisor.zygote not in (None, zygote), "there is another")
        assert await app.call("Pages.back_pid") == old
        os.kill(old, signal.SIGKILL)
        new = await until(lambda: [pid for pid in app.pids("back") if pid != old], "a replica from a new zygote")
        assert await app.call("Pages.back_pid") == new[0]
        assert app.supervisor.status().supervisor.zygote not in (None, zygote)


async def test_a_zygote_that_hangs_is_replaced_and_what_it_owed_is_done(folder: Path):
    async with running(folder) as app:
        old, zygote = await app.call("Back.pid"), app.supervisor.status().supervisor.zygote
        assert zygote is not None
        os.kill(zygote, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: app.ready("back") == 0, "its end is noticed without the zygote")
        assert time.monotonic() - killed < 1.0
        await until(lambda: app.supervisor.status().supervisor.trouble, "people are told")
        assert f"zygote {zygote} has not answered for" in app.supervisor.status().supervisor.trouble
        await until(lambda: app.ready("back") == 1, "a replica from a new zygote")
        assert time.monotonic() - killed < 10.0
        assert await app.call("Pages.back_pid") != old
        assert not lives(zygote)
        await until(lambda: not app.supervisor.status().supervisor.trouble, "all is well")
        happened = {entry.what: entry.reason for entry in app.supervisor.journal.history(limit=1000)}
        assert happened["ZygoteHung"] == f"zygote {zygote} did not answer for 5 s and was killed"
        assert f"pid {old} ended, nobody saw how" in happened["ReplicaExited"]


async def test_a_zygote_that_goes_on_in_time_stays_and_says_how_a_replica_ended(folder: Path):
    async with running(folder) as app:
        old, zygote = await app.call("Back.pid"), app.supervisor.status().supervisor.zygote
        assert zygote is not None
        os.kill(zygote, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        await until(lambda: app.ready("back") == 0, "its end is noticed without the zygote")
        os.kill(zygote, signal.SIGCONT)
        await until(lambda: app.ready("back") == 1, "a replica from the same zygote")
        assert app.supervisor.status().supervisor.zygote == zygote
        history = app.supervisor.journal.history(limit=1000)
        (explained,) = [entry.reason for entry in history if entry.what == "ReplicaExplained"]
        assert explained == f"pid {old} was killed by SIGKILL"


async def test_a_zygote_that_imports_for_long_is_left_alone(folder: Path):
    (folder / "slow.py").write_text("import time\ntime.sleep(7)\n")
    async with running(folder) as app:
        zygote = app.supervisor.status().supervisor.zygote
        (loaded,) = app.supervisor.parts.state.releases.by_name.values()  # pyright: ignore[reportPrivateUsage]
        await loaded.zygote.prepare(["slow"])
        old = await app.call("Back.pid")
        os.kill(old, signal.SIGKILL)
        await until(lambda: app.ready("back") == 0, "its end is noticed")
        await until(lambda: app.ready("back") == 1, "a replica after the import")
        assert app.supervisor.status().supervisor.zygote == zygote


async def test_a_spare_that_hangs_is_passed_over(folder: Path):
    async with running(folder) as app:
        zygote = app.supervisor.status().supervisor.zygote
        assert zygote is not None

        def spares() -> list[int]:
            return [pid for pid in descendants(zygote) if pid not in app.pids("back") + app.pids("pages")]

        (spare,) = await until(spares, "a spare is made")
        os.kill(spare, signal.SIGSTOP)
        old, killed = app.pids("back"), time.monotonic()
        os.kill(old[0], signal.SIGKILL)
        await until(lambda: app.ready("back") == 1 and app.pids("back") != old, "a replica without it")
        assert time.monotonic() - killed < 5.0
        assert spare not in app.pids("back")
        await until(lambda: not lives(spare), "it is ended")


async def test_restart_loses_no_request_on_new_or_kept_connections(folder: Path):
    async with running(folder) as app:
        done, failed = asyncio.Event(), list[str]()
        seen: set[str] = set()
        counts = {"kept": 0, "new": 0, "rpc": 0}

        async def load(kind: str) -> None:
            async with httpx.AsyncClient(timeout=30.0) as kept:
                while not done.is_set():
                    try:
                        if kind == "kept":
                            answer = await kept.get(f"{app.page}/back")
                        elif kind == "new":
                            async with httpx.AsyncClient(timeout=30.0) as fresh:
                                answer = await fresh.get(app.page)
                        else:
                            await app.call("Pages.back_pid")
                            counts[kind] += 1
                            continue
                        assert answer.status_code == 200, answer.text
                        seen.add(answer.text)
                        counts[kind] += 1
                    except (httpx.HTTPError, AssertionError) as error:
                        failed.append(f"{kind}: {error!r}")

        tasks = [asyncio.create_task(load(kind)) for kind in ("kept", "kept", "new", "rpc")]
        await until(lambda: all(counts.values()), "the load is there")
        before = {service: app.pids(service)[0] for service in ("pages", "back")}
        assert (await app.supervisor.operations.restart("pages")).replicas == 1
        assert (await app.supervisor.operations.restart("back")).services == {"back": 1}
        reached = dict(counts)
        await until(lambda: all(counts[kind] > reached[kind] for kind in counts), "the load goes on")
        done.set()
        await asyncio.gather(*tasks)
        after = {service: app.pids(service)[0] for service in ("pages", "back")}
        assert failed == []
        assert not set(before.values()) & set(after.values())
        assert {str(after["pages"]), str(after["back"])} <= seen


async def test_a_call_in_flight_is_finished_by_the_old_replica(folder: Path):
    async with running(folder) as app:
        old = await app.call("Back.pid")
        slow = asyncio.create_task(app.call("Back.slow", seconds=1.0))
        await until(lambda: b"slow begins" in app.output.out, "the call is in flight")
        restart = asyncio.create_task(app.supervisor.operations.restart("back"))
        assert await slow == old
        await restart
        assert await app.call("Back.pid") != old


async def test_a_new_replica_that_cannot_start_leaves_the_old_one_serving(folder: Path):
    async with running(folder) as app:
        old = await app.call("Back.pid")
        (folder / "back-cannot-start").touch()
        with pytest.raises(StartFailed, match="the database is not there"):
            await app.supervisor.operations.restart("back")
        assert await app.call("Pages.back_pid") == old
        (folder / "back-cannot-start").unlink()
        await app.supervisor.operations.restart("back")
        assert await app.call("Pages.back_pid") != old


async def test_restarts_at_the_same_time_are_all_answered(folder: Path):
    async with running(folder) as app:
        found = await asyncio.gather(*(app.supervisor.operations.restart("back") for _ in range(3)))
        assert [one.replicas for one in found] == [1, 1, 1]
        assert len(app.pids("back")) == 1


async def test_tokens_and_secrets_stand_in_no_argument_list_and_no_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with (folder / "fissile.toml").open("a") as file:
        file.write('\n[components.Back]\nsecret = "the secret of back"\n')
    async with running(folder) as app:
        assert await app.call("Back.secret_length") == len("the secret of back")
        secrets = [b"the secret of back", app.endpoints.token.encode(), app.supervisor.operator_token.encode()]
        looked = 0
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, FileNotFoundError):  # it has just ended, as a child of a start does
                visible = shown(pid, "cmdline") + shown(pid, "environ")
                assert not [secret for secret in secrets if secret in visible]
                looked += 1
        assert looked > len(app.endpoints.services)  # the replicas, and their zygote


async def test_a_replica_that_hears_nothing_is_killed(folder: Path):
    output = Output()
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=output.logs())
    endpoints = await supervisor.start()
    (pid,) = endpoints.services["back"].pids
    async with httpx.AsyncClient() as client:
        token = {"Authorization": f"Bearer {endpoints.token}"}
        await client.post(f"{endpoints.services['back'].gateway}/rpc/Back/deaf", headers=token)
    await supervisor.stop(drain_seconds_max=0.0)
    assert not lives(pid)


async def test_stopping_given_up_half_way_still_leaves_nothing(folder: Path):
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=Output().logs())
    before = set(descendants(os.getpid()))
    endpoints = await supervisor.start()
    started = set(descendants(os.getpid())) - before
    async with httpx.AsyncClient() as client:
        token = {"Authorization": f"Bearer {endpoints.token}"}
        await client.post(f"{endpoints.services['back'].gateway}/rpc/Back/deaf", headers=token)
    stopping = asyncio.create_task(supervisor.stop())
    (pages,) = endpoints.services["pages"].pids
    await until(lambda: not lives(pages), "the first wave has stopped")
    stopping.cancel()
    await asyncio.wait({stopping})
    assert not [pid for pid in started if lives(pid)]
    assert left_in(folder) <= {"journal.db"}


async def test_a_start_given_up_half_way_leaves_nothing(folder: Path):
    (folder / "sample.py").write_text("import time\ntime.sleep(3600)\n")
    before = set(descendants(os.getpid()))
    supervisor = Supervisor(load(folder), "microservices", port=0, logs=Output().logs())
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: set(descendants(os.getpid())) - before, "the zygote imports")
    starting.cancel()
    await asyncio.wait({starting})
    assert not await supervisor.give_up("nobody waits for it")
    assert not [pid for pid in set(descendants(os.getpid())) - before if lives(pid)]
    assert left_in(folder) <= {"journal.db"}


async def test_a_component_that_cannot_start(folder: Path):
    (folder / "back-cannot-start").touch()
    message = await fails_to_start(folder, StartError)
    assert "back cannot be started" in message
    assert "RuntimeError: the database is not there" in message


async def test_an_import_error_names_file_and_line(folder: Path):
    (folder / "sample.py").write_text("import os\n\nimport no_such_package\n")
    message = await fails_to_start(folder, ConfigError)
    assert "imports 'no_such_package', which is not installed" in message
    assert "sample.py, line 3" in message


async def test_configuration_mistakes_are_found_before_anything_starts(folder: Path):
    with (folder / "fissile.toml").open("a") as file:
        file.write('\n[components.Back]\nsecret = 3\nsecrt = "x"\n')
    message = await fails_to_start(folder, ConfigError)
    assert "unknown key 'secrt'" in message
    assert "Expected `str`, got `int`" in message


async def test_an_unknown_topology(folder: Path):
    message = await fails_to_start(folder, ConfigError, "quartet")
    assert "monolith, microservices, pair" in message


async def test_a_module_that_ends_the_process_while_it_is_imported(folder: Path):
    (folder / "sample.py").write_text("import os\nos._exit(4)\n")
    message = await fails_to_start(folder, Exception)
    assert "the process that imports sample:app has ended" in message


async def test_two_supervisors_on_one_folder(folder: Path):
    async with running(folder) as app:
        second = Supervisor(load(folder), "microservices", port=0, logs=Output().logs())
        with pytest.raises(ConfigError, match="runs already"):
            await second.start()
        assert await app.call("Back.pid") in app.pids("back")


async def test_threads_started_at_import_are_warned_of(folder: Path):
    text = (folder / "sample.py").read_text()
    extra = "\nimport threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"
    (folder / "sample.py").write_text(text + extra)
    async with running(folder) as app:
        assert await app.call("Back.pid") in app.pids("back")
    assert b"starts threads (poller)" in app.output.err


async def test_output_of_a_replica_is_complete_though_there_is_much_of_it(folder: Path):
    async with running(folder) as app:
        await app.call("Back.say", text="x" * 100, times=20_000)
    assert app.output.out.count(b"back    | " + b"x" * 100 + b"\n") == 20_000


async def test_hold_and_release(folder: Path):
    async with running(folder) as app:
        (old,) = app.pids("back")
        await app.supervisor.operations.hold("back")
        assert not lives(old)
        assert app.pids("back") == []
        await app.supervisor.operations.release("back")
        assert await app.call("Pages.back_pid") == app.pids("back")[0] != old


def _rests(pid: int) -> int:
    """How often a process has gone to sleep so far (proc_pid_status(5))."""
    (line,) = [one for one in shown(pid, "status").splitlines() if one.startswith(b"voluntary_ctxt_switches")]
    return int(line.split()[1])


async def test_an_idle_replica_wakes_for_its_heartbeat_and_for_little_else(folder: Path):
    async with running(folder) as app:
        (page,) = app.pids("pages")
        assert (await app.client.get(app.page)).status_code == 200
        await asyncio.sleep(1.0)
        before = _rests(page)
        await asyncio.sleep(3.0)
        assert _rests(page) - before <= 18  # a heartbeat, its answer, a deadline: ten looks a second make 40


async def test_a_start_that_fails_by_a_mistake_of_ours_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    launch = Launcher.launch
    mistakes = 1

    async def mistaken(launcher: Launcher, replica: Replica, out: int, err: int) -> Any:
        nonlocal mistakes
        if replica.set.startswith("back") and mistakes:
            mistakes -= 1
            raise RuntimeError("nobody has foreseen this")
        return await launch(launcher, replica, out, err)

    monkeypatch.setattr(Launcher, "launch", mistaken)
    async with running(folder) as app:
        assert len(app.pids("back")) == 1
        (failed,) = [e for e in app.supervisor.journal.history(service="back") if e.what == "ReplicaExited"]
        assert "internal error: RuntimeError: nobody has foreseen this" in failed.reason
        assert b"nobody has foreseen this" in app.output.err + app.output.out


async def test_migrations_that_fail_by_a_mistake_of_ours_keep_nobody_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    source = folder / "sample.py"
    source.write_text(
        source.read_text().replace(
            "    async def start(self) -> None:\n",
            "    async def migrate(self) -> None: ...\n\n    async def start(self) -> None:\n",
            1,
        )
    )

    async def mistaken(*_: Any) -> Any:
        raise RuntimeError("nobody has foreseen this")

    monkeypatch.setattr(Launcher, "migrate", mistaken)
    text = await fails_to_start(folder, StartError)
    assert "back cannot be started: internal error: RuntimeError: nobody has foreseen this" in text


async def test_a_restart_that_is_given_up_is_in_the_history_as_all_changes_are(folder: Path):
    async with running(folder) as app:
        old = app.pids("back")
        (folder / "back-cannot-start").touch()
        with pytest.raises(FissileError, match="the database is not there"):
            await app.supervisor.operations.restart("back")
        (given_up,) = [e for e in app.supervisor.journal.history(service="back") if e.what == "GiveUpRestart"]
        assert given_up.kind == "change"
        assert app.pids("back") == old
    assert b"the replica that it was to replace serves on" in app.output.err
    assert b"starting again" not in app.output.err


async def test_a_change_whose_write_is_cancelled_before_it_began_is_refused_and_holds_up_nobody(folder: Path):
    async with running(folder) as app:
        supervisor = app.supervisor
        before = supervisor.parts.state.desired
        change = asyncio.create_task(supervisor.operations.scale("back", 2, 2))
        while not (writes := [task for task in supervisor.parts.tasks if "_write" in repr(task.get_coro())]):  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
        writes[0].cancel()
        with pytest.raises(JournalError, match="stops"):
            await asyncio.wait_for(change, 5.0)
        assert supervisor.parts.state.desired == before
        await supervisor.operations.scale("back", 2, 2)
        assert supervisor.operations.wanted("back") == 2
