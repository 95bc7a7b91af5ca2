"""Services that scale themselves, with real processes and a real load."""

import asyncio
import time
from pathlib import Path

from supervised import Running, running, until

from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR
from fissile.runtime.loading import load_application


def scaled(folder: Path, text: str) -> Path:
    with (folder / "fissile.toml").open("a") as file:
        file.write(text)
    return folder


async def busy(app: Running, callers: int, seconds: float, stop: asyncio.Event) -> int:
    """Calls of back's slow method, so many at once, until told to stop; how many were answered."""
    answered = 0

    async def one() -> None:
        nonlocal answered
        while not stop.is_set():
            await app.call("Pages.slow_back", seconds=seconds)
            answered += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(one())
    return answered


async def test_a_step_of_load_gets_replicas_within_a_second_and_nobody_else_does(folder: Path):
    scaled(
        folder,
        "\n[machine]\ncores = 16\n"
        "[services.back.scale]\nmin = 1\nmax = 12\ntarget = 2.0\n"
        "[services.pages.scale]\nmin = 1\nmax = 8\ntarget = 4.0\n",
    )
    async with running(folder) as app:
        stop = asyncio.Event()
        light = asyncio.create_task(busy(app, 2, 0.2, stop))
        await asyncio.sleep(1.0)  # a second of light load, which is what the step is a step from
        assert len(app.pids("back")) == 1
        begun = time.monotonic()
        heavy = asyncio.create_task(busy(app, 18, 0.2, stop))
        await until(lambda: app.ready("back") >= 10, "ten replicas")
        taken = time.monotonic() - begun
        assert taken < 3.0
        assert app.ready("pages") == 1
        stop.set()
        await asyncio.gather(light, heavy)
        history = app.supervisor.journal.history(service="back")
        assert [entry for entry in history if entry.who == "autoscaler" and "panic" in entry.reason]
        held = app.supervisor.journal.history(service="pages")
        assert [entry for entry in held if entry.what == "ScalingHeld" and "wait for back" in entry.reason]


async def test_a_service_sleeps_and_the_first_call_wakes_it(folder: Path):
    scaled(folder, "\n[services.back.scale]\nmin = 0\nmax = 2\nidle_seconds = 0.5\n")
    async with running(folder) as app:
        assert await app.call("Pages.back_pid") > 0
        await until(lambda: not app.pids("back"), "back sleeps")
        begun = time.monotonic()
        assert await app.call("Pages.back_pid") in app.pids("back")
        assert time.monotonic() - begun < 2.0
        await until(lambda: not app.pids("back"), "back sleeps again")
        # Over its own HTTP/JSON as well.
        assert await app.call("Back.pid") > 0
        reasons = [entry.reason for entry in app.supervisor.journal.history(service="back")]
        assert any("no calls for 0.5 s" in reason for reason in reasons)
        assert any("while it slept" in reason for reason in reasons)


async def test_scaling_down_loses_no_call(folder: Path):
    scaled(folder, "\n[services.back]\nreplicas = 4\n")
    async with running(folder) as app:
        graph = load_application("sample:app", folder)
        interface = graph.components["Pages"].interface
        channel = Channel(
            "pages",
            app.supervisor.operations.addresses("pages"),
            caller_service=OPERATOR,
            token=app.supervisor.operator_token,
            callers=(OPERATOR,),
            contracts=contracts_of([interface]),
        )
        pages = remote(interface, channel, caller=OPERATOR)
        done, count = asyncio.Event(), 0

        async def caller() -> None:
            nonlocal count
            while not done.is_set():
                await pages.slow_back(0.01)
                count += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(caller())
            for replicas in (1, 5, 2, 6, 1):
                await app.supervisor.operations.scale("back", replicas, replicas)
                await until(lambda wanted=replicas: len(app.pids("back")) == app.ready("back") == wanted, "scaled")
            done.set()
        await channel.close()
        assert count > 50
