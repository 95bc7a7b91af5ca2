"""Every OpenAPI document against the service that it describes: what it allows and what it forbids, at random.

Answers have a status that the document names, and none is an error of the service. FISSILE_EXAMPLES says how many
requests are made of each operation and kind; without it there are a few, the same each time.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

sys.path.insert(0, str(Path(__file__).parents[1] / "supervisor"))
sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from background import background

SHOP = Path(__file__).parents[2] / "examples" / "shop"
EXAMPLES = int(os.environ.get("FISSILE_EXAMPLES", "0"))
FEW = 4
SECONDS_MAX = 15
CHECKS: list[Any] = [not_a_server_error, status_code_conformance, content_type_conformance]
# It has no end; it ends all that is asked.
ENDLESS, LAST = "/events", "/down"
# Each moves all requests to a copy of the code: once or twice is enough, and it takes seconds.
SLOW = ("/deploy", "/rollback")


@pytest.fixture(scope="module", params=["monolith", "microservices"])
def doors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each document, with the token for it."""
    folder = tmp_path_factory.mktemp(request.param) / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__", ".fissile", "node", "data"))
    with background(folder) as app:
        found = app.up("--topology", request.param)
        services = found["services"].values()
        yield {one["gateway"]: found["token"] for one in services if one["gateway"]} | {
            found["api"]: found["api_token"]
        }
        app.down()


def test_no_answer_is_an_error_of_the_service_or_has_a_status_that_is_not_told(doors: dict[str, str]):
    asked = 0
    found: list[Exception] = []
    with requests.Session() as session:
        for address, token in doors.items():
            session.headers["Authorization"] = f"Bearer {token}"
            schema: Any = schemathesis.openapi.from_url(f"{address}/openapi.json")
            for result in schema.get_all_operations():
                try:
                    asked += _attack(result.ok(), session)
                except Exception as error:
                    found.append(error)
    if found:
        raise ExceptionGroup("answers that should not be", found)
    assert asked >= FEW * 20


def _attack(operation: Any, session: requests.Session) -> int:
    """How many requests were made of it."""
    asked = 0
    if operation.path in (ENDLESS, LAST):
        return asked
    modes = [GenerationMode.NEGATIVE] if operation.path in SLOW else list(GenerationMode)
    for mode in modes:

        @seed(7)
        @settings(
            max_examples=EXAMPLES or FEW,
            phases=[Phase.generate],
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            nonlocal asked
            asked += 1
            response = case.call(session=session, timeout=SECONDS_MAX)
            case.validate_response(response, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:
            if mode is not GenerationMode.NEGATIVE:
                raise
            # Nothing is forbidden: it takes no arguments.
    return asked
