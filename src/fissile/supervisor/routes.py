"""Routes as replicas are told them: `orchestrator` decides by names, and here these become addresses and tokens."""

from fissile.orchestrator.routing import Told
from fissile.rpc.access import Access, token_digest
from fissile.runtime.control import OPERATOR, Callee, OtherBuild, Routes
from fissile.supervisor.state import SupervisorState


def rendered(state: SupervisorState, told: Told) -> Routes:
    """Routes with addresses and tokens in place of names."""
    found, callers, secrets = told.routes, told.routes.callers, state.secrets
    peers = {token_digest(secrets.operator): OPERATOR}
    peers |= {token_digest(secrets.services[one]): one for one in callers.services if one != OPERATOR}
    members = {str(name): components for name, components in callers.services.items()}
    return Routes(
        version=told.version,
        release=found.release,
        releases=found.releases,
        callees={
            other: Callee(
                callee.service,
                state.sets.addresses(other, callee.targets),
                secrets.services[callee.service] if callee.program else "",
                callee.away,
            )
            for other, callee in found.callees.items()
        },
        targets={release: dict[str, str](way) for release, way in found.targets.items()},
        shares=found.shares,
        other_builds={
            door: OtherBuild(route.share, tuple(map(state.folder.handover_path, route.serials)))
            for door, route in found.other_builds.items()
        },
        sticky=found.sticky,
        rollout=found.rollout,
        access=Access(peers, members, callers.references, callers.understood),
        gateway_peers=tuple(sorted(token_digest(secrets.services[one]) for one in callers.programs)),
    )
