"""What befalls a world, drawn from a seed: crashes, hangs, slow starts, deaths of those in charge."""

from fissile.names import ServiceName, SetName, service_of
from fissile.orchestrator.acts import AbortRollout, Change, PromoteRollout, RestartService, ScaleService
from fissile.orchestrator.desired import DesiredSet, Stage
from fissile.simulation.deploys import DeployWorld
from fissile.simulation.dice import Chance, Dice
from fissile.simulation.machine import Habits, Phase
from fissile.simulation.world import FAULT_SECONDS, QUIET_SECONDS, RECOVERY_SECONDS, WHO, ServicePlan, World


def service(dice: Dice, *, troubled: bool = True) -> ServicePlan:
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
        want=_want(low, high, overlap=overlap),
        habits=Habits(start, drain, slow_share=share, stillborn_share=share * 2, deaf_share=share),
        weight=dice.choice([1.0, 2.0]),
        load=loads,
    )


def _want(low: int, high: int, *, overlap: bool) -> DesiredSet:
    """A set between two counts, whose limits are short, so that a world settles soon."""
    return DesiredSet(
        replicas=max(low, 1),
        replicas_min=low,
        replicas_max=high,
        start_seconds_max=4.0,
        silent_seconds_max=4.0,
        drain_seconds_max=3.0,
        stop_seconds_max=1.0,
        allow_overlap=overlap,
    )


def troubled(chance: Chance) -> World:
    """A world in which everything fails for a while, and then nothing."""
    dice = chance("")
    services = {ServiceName(f"s{number}"): service(dice) for number in range(1, dice.randint(2, 5))}
    world = World(chance, services, cores=dice.choice([0, 1, 4, 16]))
    world.report_late_seconds = dice.choice([0.0, 0.01, 0.5])
    rate = dice.choice([0.2, 1.0, 4.0])
    now = 0.0
    while (now := now + dice.expovariate(rate)) < FAULT_SECONDS:
        world.clock.at(now, _befall, world, dice)
    world.clock.at(FAULT_SECONDS, mend, world)
    return world


def _befall(world: World, dice: Dice) -> None:
    kind = dice.choices(
        ["crash", "hang", "mute", "zygote", "supervisor", "scale", "restart"], weights=[6, 2, 2, 1, 2, 2, 3]
    )[0]
    processes = list(world.machine.processes.values())
    name = SetName(dice.choice(list(world.services)))
    if kind == "zygote":
        world.kill_zygote(dice.random())
    elif kind == "supervisor":
        world.kill_supervisor()
        world.clock.after(0.2 + dice.random() * 3.0, world.start_supervisor)
    elif kind == "scale":
        low = dice.randrange(4)
        if world.plan_of(name).want.allow_overlap:
            world.change(Change(WHO, ScaleService(name, low, low + dice.choice([0, 3])), "asked for"))
    elif kind == "restart":
        newest = max([world.desired.sets[name].revision, *(p.revision for p in world.machine.alive(name))])
        if not world.desired.sets[name].zero_by:  # nothing runs there that could be restarted
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
    world.clock.run(FAULT_SECONDS + RECOVERY_SECONDS)
    # The autoscaler may still move: only of a world that it leaves alone for a while can this be said.
    for _ in range(20):
        if world.clock.now - world.changed_at >= QUIET_SECONDS:
            break
        world.clock.run(world.changed_at + QUIET_SECONDS)
    world.check_settled()


def deploying(chance: Chance) -> DeployWorld:
    """A world in which everything happens for a while, deploys above all, and then nothing."""
    dice = chance("")
    services: dict[ServiceName, ServicePlan] = {}
    rare: set[str] = set()
    for number in range(dice.randint(2, 4)):
        low = dice.choice([1, 1, 2, 3])
        high = low + dice.choice([0, 0, 3])
        if number and dice.random() < 0.25:
            low, high = 0, 3
            rare.add(f"s{number}")
        want = _want(low, high, overlap=high > 1 or number == 0 or dice.random() < 0.5)
        habits = Habits(dice.choice([0.02, 0.1, 1.0]), dice.choice([0.1, 1.0]))
        load = ((0.0, dice.choice([0.0, 2.0, 8.0]) if low else 0.0),)
        services[ServiceName(f"s{number}")] = ServicePlan(want, habits, load=load)
    cores, write_seconds = dice.choice([0, 2, 8]), dice.choice([0.0, 0.005, 0.05, 0.5])
    world = DeployWorld(chance, services, frozenset(rare), cores=cores, write_seconds=write_seconds)
    world.report_late_seconds = dice.choice([0.0, 0.01, 0.3, 2.0])
    _also_slow_and_mute(world, chance("slow and mute"))
    rate = dice.choice([0.3, 1.0])
    now = 1.0
    while (now := now + dice.expovariate(rate)) < FAULT_SECONDS:
        world.clock.at(now, _befall_deploys, world, dice)
    # The last rollout is left alone, but for the clock.
    world.clock.at(FAULT_SECONDS - 3.0, world.deploy, dice)
    if dice.random() < 0.5:
        world.clock.at(FAULT_SECONDS - 1.0 + 2.0 * dice.random(), world.set_clock, -3600.0)
    world.clock.at(FAULT_SECONDS, mend, world)
    world.clock.at(FAULT_SECONDS, _mend_migrations, world)
    world.clock.at(FAULT_SECONDS + 10.0, _decide, world, dice)
    return world


DEPLOY_EVENTS = {
    "deploy": 8,
    "back": 6,
    "promote": 1,
    "abort": 2,
    "crash": 3,
    "hang": 1,
    "zygote": 1,
    "supervisor": 3,
    "scale": 1,
    "restart": 1,
    "clock": 1,
}


def _befall_deploys(world: DeployWorld, dice: Dice) -> None:
    (kind,) = dice.choices(list(DEPLOY_EVENTS), weights=list(DEPLOY_EVENTS.values()))
    name = dice.choice(list(world.desired.sets))
    if kind == "deploy":
        world.deploy(dice)
    elif kind == "back":
        world.roll_back(dice)
    elif kind == "promote":
        world.try_to(PromoteRollout(world.wall()), "good")
    elif kind == "abort":
        world.try_to(AbortRollout(world.wall()), "bad")
    elif kind == "zygote":
        world.kill_zygote(dice.random())
    elif kind == "supervisor":
        world.kill_supervisor()
        world.clock.after(0.2 + dice.random() * 3.0, world.start_supervisor)
    elif kind == "clock":
        world.set_clock(dice.choice([-3600.0, -2.0, 2.0]))
    elif kind == "scale":
        low, high = 1 + dice.randrange(3), dice.choice([0, 3])
        if world.desired.sets[name].allow_overlap:
            world.scale(service_of(name), low, low + high)
    elif kind == "restart":
        newest = max([world.desired.sets[name].revision, *(p.revision for p in world.machine.alive(name))])
        world.try_to(RestartService(name, newest + 1), "asked for")
    elif world.machine.processes:
        process = dice.choice(list(world.machine.processes.values()))
        if kind == "crash":
            world.machine.kill(process)
        elif process.phase is Phase.SERVING:
            world.machine.hang(process)


def _decide(world: DeployWorld, dice: Dice) -> None:
    """Somebody comes and decides what is still watched."""
    rollout = world.desired.rollout
    if rollout is not None and rollout.stage is Stage.CANARY:
        act = PromoteRollout if dice.random() < 0.5 else AbortRollout
        world.try_to(act(world.wall()), "it is time")
    if world.desired.rollout is not None:
        world.clock.after(5.0, _decide, world, dice)


def _mend_migrations(world: DeployWorld) -> None:
    """They succeed from now on; where some have failed at the start, somebody starts the application again."""
    world.migrations.failed_share = 0.0
    if world.loop is not None and world.loop.state.paused:
        world.kill_supervisor()
        world.start_supervisor()


def _also_slow_and_mute(world: DeployWorld, dice: Dice) -> None:
    """In some worlds starts are slow or fail, some replicas are deaf, and reports are lost for a while."""
    if dice.random() < 0.8:
        return
    for habits in world.machine.habits.values():
        habits.slow_share = habits.deaf_share = 0.1 * dice.random()
        habits.stillborn_share = 0.2 * dice.random()
    now = 0.0
    while (now := now + dice.expovariate(0.1)) < FAULT_SECONDS:
        world.clock.at(now, _mute, world, dice)


def _mute(world: DeployWorld, dice: Dice) -> None:
    processes = list(world.machine.processes.values())
    if processes:
        dice.choice(processes).mute_until = world.clock.now + dice.random() * 6.0
