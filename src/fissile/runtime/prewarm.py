"""What every replica of an application does first, done once for all."""

import asyncio

import uvloop

from fissile.component.graph import Graph
from fissile.component.wiring import CELLS, local_reference
from fissile.rpc.access import Access
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.deadline import environment
from fissile.rpc.server import Export, Server
from fissile.rpc.stub import remote
from fissile.runtime.control import CONTROL_INTERFACE
from fissile.runtime.edge import Edge
from fissile.telemetry.recorder import Recorder


def prewarm(graph: Graph) -> asyncio.AbstractEventLoop:
    """Do once what every replica of the application does first; an event loop that has run.

    In a zygote methods are compiled and protocols imported by it, for all that it forks; in a process
    that waits to become a replica the memory that is written to becomes its own. The classes stand in
    for their instances: their methods are looked up and never called.
    """
    real = environment(observe=Recorder(CELLS).observe, report=lambda _label, _sentence: None)
    own = [component for component in graph.components.values() if not component.foreign]
    exports = {component.name: Export(component.interface, component.cls) for component in own}
    Server("prewarm", exports, Access({}, {}, {}), observe=real.observe)
    interfaces = [*(export.interface for export in exports.values()), CONTROL_INTERFACE]
    channel = Channel("prewarm", (), caller_service="", token="", callers=("",), contracts=contracts_of(interfaces))
    for export in exports.values():
        local_reference(export.interface, export.instance, real)
    for interface in interfaces:
        remote(interface, channel, caller="", observe=real.observe)
    Edge(None)
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    return loop
