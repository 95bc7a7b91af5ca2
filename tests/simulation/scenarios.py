"""Worlds of the tests' own: calm ones, and neighbours of one that is not."""

import msgspec

from fissile.orchestrator.desired import DesiredSet
from fissile.simulation.dice import Chance
from fissile.simulation.faults import service
from fissile.simulation.machine import Habits, Phase
from fissile.simulation.world import FAULT_SECONDS, ServicePlan, World


def steady(chance: Chance, loads: int = 3) -> World:
    """A world without faults under a load that does not change, begun with too few or too many replicas."""
    dice = chance("")
    services = {f"s{number}": service(dice, troubled=False) for number in range(loads)}
    for one in services.values():
        one.want = msgspec.structs.replace(one.want, replicas_min=1, replicas_max=20, replicas=dice.randint(1, 20))
        one.load = ((0.0, dice.random() * 30),)
        one.want = msgspec.structs.replace(one.want, allow_overlap=True)
    return World(chance, services, cores=dice.choice([4, 64]), scale_seconds=0.5)


def with_neighbour(chance: Chance, *, broken: bool) -> World:
    """A world whose service "neighbour" is well, or dies at each start."""
    dice = chance("")
    services = {f"s{number}": service(dice) for number in range(2)}
    share = 1.0 if broken else 0.0
    neighbour = ServicePlan(DesiredSet(4, 4, 4), Habits(0.05, stillborn_share=share))
    world = World(chance, {"neighbour": neighbour, **services}, cores=4)
    for name in services:
        for _ in range(6):
            world.clock.at(dice.random() * FAULT_SECONDS, _crash_one, world, name)
    return world


def _crash_one(world: World, name: str) -> None:
    serving = [p for p in world.machine.alive(name) if p.phase is Phase.SERVING]
    if serving:
        world.machine.kill(serving[0])
