"""What befalls a world, drawn from a seed: crashes, hangs, slow starts, deaths of those in charge."""

import random

import msgspec
from machine import Habits, Phase
from world import ServicePlan, World

from fissile.orchestrator.acts import Change, RestartService, ScaleService
from fissile.orchestrator.desired import DesiredService

FAULT_SECONDS = 40.0
# The longest pause before a restart, and the limits of a start and of a drain, after the last fault.
SETTLE_SECONDS = 60.0
QUIET_SECONDS = 15.0
WHO = "operator"


def service(dice: random.Random, *, troubled: bool = True) -> ServicePlan:
    """Any service."""
    low = dice.choice([0, 1, 1, 1, 2, 3])
    high = low + dice.choice([0, 0, 1, 4, 12])
    overlap = high > 1 or dice.random() < 0.8
    low, high = (low, high) if high else (1, 1)
    start, drain = dice.choice([0.02, 0.1, 1.0]), dice.choice([0.1, 1.0])
    share = 0.2 if troubled and dice.random() < 0.5 else 0.0
    times = sorted(dice.random() * FAULT_SECONDS for _ in range(dice.randrange(4)))
    loads = tuple((when, dice.choice([0.0, 1.0, 5.0, 20.0])) for when in (0.0, *times))
    return ServicePlan(
        want=DesiredService(
            replicas=max(low, 1),
            replicas_min=low,
            replicas_max=high,
            start_seconds_max=4.0,
            silent_seconds_max=4.0,
            drain_seconds_max=3.0,
            stop_seconds_max=1.0,
            overlap=overlap,
        ),
        habits=Habits(start, drain, slow_share=share, stillborn_share=share * 2, deaf_share=share),
        weight=dice.choice([1.0, 2.0]),
        load=loads,
    )


def troubled(seed: int) -> World:
    """A world in which everything fails for a while, and then nothing."""
    dice = random.Random(seed)
    services = {f"s{number}": service(dice) for number in range(1, dice.randint(2, 5))}
    world = World(seed, services, cores=dice.choice([0, 1, 4, 16]))
    world.report_late_seconds = dice.choice([0.0, 0.01, 0.5])
    rate = dice.choice([0.2, 1.0, 4.0])
    now = 0.0
    while (now := now + dice.expovariate(rate)) < FAULT_SECONDS:
        world.clock.at(now, _befall, world, dice)
    world.clock.at(FAULT_SECONDS, mend, world)
    return world


def _befall(world: World, dice: random.Random) -> None:
    kind = dice.choices(
        ["crash", "hang", "mute", "zygote", "supervisor", "scale", "restart"], weights=[6, 2, 2, 1, 2, 2, 3]
    )[0]
    processes = list(world.machine.processes.values())
    name = dice.choice(list(world.services))
    if kind == "zygote":
        world.kill_zygote(dice.random())
    elif kind == "supervisor":
        world.kill_supervisor()
        world.clock.after(0.2 + dice.random() * 3.0, world.start_supervisor)
    elif kind == "scale":
        low = dice.randrange(4)
        if world.services[name].want.overlap:
            world.change(Change(WHO, ScaleService(name, low, low + dice.choice([0, 3])), "asked for"))
    elif kind == "restart":
        newest = max([world.desired.services[name].revision, *(p.revision for p in world.machine.alive(name))])
        if not world.desired.services[name].zero_by:  # nothing runs there that could be restarted
            world.change(Change(WHO, RestartService(name, newest + 1), "asked for"))
    elif processes:
        process = dice.choice(processes)
        if kind == "crash":
            world.machine.kill(process)
        elif kind == "hang":
            world.machine.hang(process)
        else:
            process.mute_until = world.clock.now + dice.random() * 6.0


def mend(world: World) -> None:
    """No faults any more, but for those that last."""
    for habits in world.machine.habits.values():
        habits.slow_share = habits.stillborn_share = habits.deaf_share = 0.0
    world.machine.zygote_returns_at = 0.0


def settled(world: World) -> None:
    """Run it through its trouble and until it has had the time to recover; Broken if it does not."""
    world.clock.run(FAULT_SECONDS + SETTLE_SECONDS)
    # The autoscaler may still move: only of a world that it leaves alone for a while can this be said.
    for _ in range(20):
        if world.clock.now - world.changed_at >= QUIET_SECONDS:
            break
        world.clock.run(world.changed_at + QUIET_SECONDS)
    world.check_settled()


def steady(seed: int, loads: int = 3) -> World:
    """A world without faults under a load that does not change, begun with too few or too many replicas."""
    dice = random.Random(seed)
    services = {f"s{number}": service(dice, troubled=False) for number in range(loads)}
    for one in services.values():
        one.want = msgspec.structs.replace(one.want, replicas_min=1, replicas_max=20, replicas=dice.randint(1, 20))
        one.load = ((0.0, dice.random() * 30),)
        one.want = msgspec.structs.replace(one.want, overlap=True)
    return World(seed, services, cores=dice.choice([4, 64]), scale_seconds=0.5)


def with_neighbour(seed: int, *, broken: bool) -> World:
    """A world whose service "neighbour" is well, or dies at each start."""
    dice = random.Random(seed)
    services = {f"s{number}": service(dice) for number in range(2)}
    share = 1.0 if broken else 0.0
    neighbour = ServicePlan(DesiredService(4, 4, 4), Habits(0.05, stillborn_share=share))
    world = World(seed, {"neighbour": neighbour, **services}, cores=4)
    for name in services:
        for _ in range(6):
            world.clock.at(dice.random() * FAULT_SECONDS, _crash_one, world, name)
    return world


def _crash_one(world: World, name: str) -> None:
    serving = [p for p in world.machine.alive(name) if p.phase is Phase.SERVING]
    if serving:
        world.machine.kill(serving[0])
