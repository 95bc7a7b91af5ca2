"""How a tool in another process speaks with the supervisor that runs an application."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from fissile.component.interface import read_interface
from fissile.errors import ConfigError
from fissile.rpc.channel import Channel, contracts_of
from fissile.rpc.stub import remote
from fissile.runtime.control import OPERATOR
from fissile.supervisor.desk import Supervision
from fissile.supervisor.state import Endpoints


@asynccontextmanager
async def operator(endpoints: Endpoints) -> AsyncGenerator[Supervision]:
    """A reference to the running supervisor. Raises ConfigError if there is none; its calls raise CallError."""
    if not endpoints.control:
        raise ConfigError(
            f"{endpoints.application} runs as one process (pid {endpoints.pid}): nothing supervises it",
            remedy="run it with --topology microservices, or restart that process",
        )
    interface, _ = read_interface(Supervision)
    channel = Channel(
        "supervisor",
        [endpoints.control],
        caller_service=OPERATOR,
        token=endpoints.control_token,
        callers=(OPERATOR,),
        contracts=contracts_of([interface]),
    )
    try:
        yield cast(Supervision, remote(interface, channel, caller=OPERATOR))
    finally:
        await channel.close()
