"""The supervisor's API as other programs see it: over its Unix socket, and over TCP with a token."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from served import WithApi

from fissile.api.openapi import document
from fissile.api.table import OPERATIONS


@asynccontextmanager
async def tcp(api: WithApi, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    endpoints = api.run.supervisor.endpoints()
    headers = {"Authorization": f"Bearer {endpoints.api_token if token is None else token}"}
    async with httpx.AsyncClient(base_url=endpoints.api, headers=headers, timeout=30.0) as client:
        yield client


@asynccontextmanager
async def unix(api: WithApi) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=api.run.supervisor.endpoints().api_socket)
    async with httpx.AsyncClient(base_url="http://supervisor", transport=transport, timeout=30.0) as client:
        yield client


def test_the_document_is_valid_openapi_and_holds_every_operation():
    found = document()
    validate(found)
    operations = {one["operationId"] for verbs in found["paths"].values() for one in verbs.values()}
    assert operations == set(OPERATIONS)
    assert "SupervisorStatus" in found["components"]["schemas"]


async def test_status_is_what_the_document_says(api: WithApi):
    async with tcp(api) as client, unix(api) as local:
        found = (await client.get("/status")).json()
        assert found.keys() == document()["components"]["schemas"]["SupervisorStatus"]["properties"].keys()
        assert found["supervisor"]["pid"] == (await local.get("/status")).json()["supervisor"]["pid"]
        for service in found["services"]:
            assert service["topology"] == "microservices"
            assert service["limits"]
            (replica,) = service["replicas"]
            assert replica["state"] == "ready"
            assert replica["pid"] in api.run.pids(service["name"])
            assert len(replica["build"]) >= 12
        assert (await client.get("/openapi.json")).json() == document()


@pytest.mark.parametrize("token", ["-", "wrong", "ümläut"])
async def test_a_wrong_token_gets_nothing_and_is_told_what_to_send(api: WithApi, token: str):
    endpoints = api.run.supervisor.endpoints()
    headers = {"Authorization": f"Bearer {token}".encode()}
    async with httpx.AsyncClient(base_url=endpoints.api, headers=headers) as client:
        for name, operation in OPERATIONS.items():
            path = operation.path.format(service="back", number=1)
            answer = await client.request(operation.verb, path, json={"replicas": 0})
            if operation.open:
                assert answer.status_code == 200, name
                continue
            assert answer.status_code == 401, name
            problem = answer.json()
            assert problem["detail"] == "the token is wrong"
            assert "api_token" in problem["remedy"]
    assert api.downs == 0
    assert api.run.ready("back") == 1


async def test_the_socket_is_this_users_alone(api: WithApi):
    path = Path(api.run.supervisor.endpoints().api_socket)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_scale_and_restart_say_who_and_why_in_the_history(api: WithApi):
    async with tcp(api) as client:
        before = api.run.pids("back")
        answer = await client.post("/services/back/scale", json={"replicas": 2, "who": "anna", "why": "a fair"})
        assert (answer.status_code, answer.json()) == (200, {"replicas": 2})
        answer = await client.post("/services/back/restart", json={"who": "ben", "why": "new data"})
        restarted = answer.json()
        assert (restarted["replicas"], restarted["services"], restarted["warnings"]) == (2, {"back": 2}, [])
        assert not set(before) & {
            r.pid for r in api.run.supervisor.operations.observed("back").replicas.values() if r.lives()
        }
        history = (await client.get("/history", params={"service": "back", "limit": 1000})).json()
        changes = [
            (e["who"], e["what"], e["why"] if "why" in e else e["reason"]) for e in history if e["kind"] == "change"
        ]
        assert changes == [("anna", "ScaleService", "a fair"), ("ben", "RestartService", "new data")]
        assert [e["id"] for e in history] == sorted(e["id"] for e in history)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/services/nobody/scale", {"replicas": 2}, 404, "there is no service 'nobody'"),
        ("/services/nobody/restart", {}, 404, "there is no service 'nobody'"),
        ("/services/back/scale", {"replicas": -1}, 400, "Expected `int` >= 0"),
        ("/services/back/scale", {"min": 3, "max": 2}, 409, "cannot have 3..2 replicas"),
        ("/services/back/scale", {"replicas": 100_000}, 409, "cannot have"),
        ("/services/back/scale", {}, 400, "give replicas, or min and max, or auto"),
        ("/services/back/scale", {"replicas": "many"}, 400, "Expected `int | null`, got `str`"),
        ("/services/back/scale", {"replica": 2}, 400, "unknown field `replica`"),
        ("/services/back/scale", None, 400, "give replicas, or min and max, or auto"),
    ],
)
async def test_bad_requests_change_nothing_and_say_why(api: WithApi, path: str, body: Any, status: int, words: str):
    desired = api.run.supervisor.parts.state.desired
    async with tcp(api) as client:
        answer = await client.post(path, json=body) if body is not None else await client.post(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert words in answer.json()["detail"]
        assert answer.json()["remedy"]
    assert api.run.supervisor.parts.state.desired == desired


async def test_a_query_that_makes_no_sense(api: WithApi):
    async with tcp(api) as client:
        assert (await client.get("/history", params={"after": "yesterday"})).status_code == 400
        assert (await client.get("/nothing")).status_code == 404


async def test_events_arrive_as_they_happen_and_go_on_where_a_reader_left_off(api: WithApi):
    async with unix(api) as client:
        seen: list[dict[str, Any]] = []
        async with client.stream("GET", "/events", params={"service": "back"}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith(":")
            await client.post("/services/back/scale", json={"replicas": 2})
            async for line in lines:
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:]))
                    if seen[-1]["what"] == "ReplicaReady":
                        break
        assert [event["what"] for event in seen] == ["ScaleService", "ReplicaStarted", "ReplicaReady"]
        headers = {"Last-Event-ID": str(seen[0]["id"])}
        async with client.stream("GET", "/events", params={"service": "back"}, headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    assert line == f"id: {seen[1]['id']}"
                    break


async def test_the_end_is_asked_for_and_answered(api: WithApi):
    async with tcp(api) as client:
        assert (await client.post("/down")).status_code == 200
    async with asyncio.timeout(5.0):
        while not api.downs:
            await asyncio.sleep(0.01)
    assert api.downs == 1


async def test_an_order_that_is_under_way_when_all_is_stopped_is_answered(api: WithApi):
    async with api.run.supervisor.deployer.preparing, unix(api) as client:
        asked = asyncio.create_task(client.post("/deploy", json={}))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asked), 0.3)
        await api.server.close()
        answer = await asked
        assert (answer.status_code, answer.json()["detail"]) == (503, "the application was stopped in the meantime")
