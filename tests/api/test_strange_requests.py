"""What nobody should send: an answer says whose fault it was, and never that it was ours."""

import json
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from served import WithApi
from test_api import tcp

from fissile.api.openapi import document
from fissile.api.problem import STATUSES
from fissile.api.schema import BODY_BYTES_MAX
from fissile.api.table import OPERATIONS

LONG = "9" * 400
BEYOND = str(2**64)
NUMBERS = [LONG, "9" * 5000, BEYOND, "-1", "-" + LONG, "1e9", "NaN", "0x10", "1_000", "\u0661", " ", "+1", "\x00"]
BODIES: list[Any] = [
    b"\xff\xfe",
    b'"',
    b"[]",
    b"null",
    b"1",
    b"NaN",
    b'{"who": "\\ud800"}',
    b'{"who": "\xff"}',
    b"[" * 100_000,
    b'{"who":' * 100_000,
    b'{"who": 1}',
    b'{"who": "a", "who": 2}',
    b'{"nobody knows": 1}',
    b'{"who": null}',
    json.dumps({"who": "w" * 201}).encode(),
    json.dumps({"why": "w" * 2001}).encode(),
    json.dumps({"who": "\x1b[2J"}).encode(),
    json.dumps({"who": "a\nb"}).encode(),
    json.dumps({"why": "\x1b]0;title\x07"}).encode(),
    json.dumps({"why": "\x9b2J"}).encode(),
]
NUMBERS_IN_BODIES = ['{"%s": ' + number + "}" for number in (LONG, BEYOND, "-1", "1e999", "NaN", '"1"', "1.5", "true")]


def refused(answer: httpx.Response, status: int = 400) -> None:
    """By a problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


async def test_numbers_that_are_none_or_too_large(api: WithApi):
    async with tcp(api) as client:
        for number in NUMBERS:
            for path in ("/history", "/events"):
                refused(await client.get(path, params={"after": number}))
            refused(await client.get("/history", params={"limit": number}))
            if number.isprintable() and number.strip():
                refused(await client.get("/events", headers={"Last-Event-ID": number.encode()}))
            if number.strip("\x00 "):
                refused(await client.get(f"/rollouts/{number}"))
        refused(await client.get("/history", params={"limit": "0"}))
        refused(await client.get(f"/rollouts/{10**18 - 1}"), 404)
        assert (await client.get("/history", params={"limit": 10**18 - 1, "after": 10**18 - 1})).json() == []
        for template in NUMBERS_IN_BODIES:
            for path, field in (
                ("/services/back/scale", "replicas"),
                ("/services/back/scale", "max"),
                ("/promote", "rollout"),
                ("/abort", "rollout"),
            ):
                refused(await client.post(path, content=template % field))
        for text in (LONG, "1e999", "NaN", '"1"'):
            for field in ("canary", "watch_seconds"):
                answer = await client.post("/deploy", content=f'{{"plan": true, "{field}": {text}}}')
                assert answer.status_code in (400, 409), answer.text


async def test_bodies_that_are_none(api: WithApi):
    async with tcp(api) as client:
        for operation in OPERATIONS.values():
            if operation.body is None:
                continue
            path = operation.path.format(service="back")
            for body in BODIES:
                refused(await client.post(path, content=body))
            refused(await client.post(path, content=b" " * (BODY_BYTES_MAX + 1)), 413)
    assert api.downs == 0
    assert api.run.ready("back") == 1


async def test_who_and_why_are_kept_as_they_were_said(api: WithApi):
    async with tcp(api) as client:
        said = {"who": "Zoë (CI)", "why": "line 1\n\tline 2 — ünï", "replicas": 1}
        assert (await client.post("/services/back/scale", json=said)).status_code == 200
        (entry,) = [e for e in (await client.get("/history")).json() if e["what"] == "ScaleService"]
        assert (entry["who"], entry["reason"]) == (said["who"], said["why"])


async def test_what_is_not_there_is_a_problem_with_the_way_on(api: WithApi):
    async with tcp(api) as client:
        refused(await client.get("/nothing"), 404)
        refused(await client.get("/%ff%00"), 404)
        answer = await client.delete("/status")
        refused(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
        refused(await client.get("/deploy"), 405)


async def test_monitors_ask_without_a_token(api: WithApi):
    async with httpx.AsyncClient(base_url=api.run.endpoints.api or api.run.supervisor.endpoints().api) as client:
        assert (await client.get("/health")).json() == {"status": "ok"}
        answer = await client.head("/health")
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head("/status")).status_code == 401
        refused(await client.get("/status", headers={"Authorization": "Basic eDp5"}), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_known_in_any_case(api: WithApi, scheme: str):
    endpoints = api.run.supervisor.endpoints()
    headers = {"Authorization": f"{scheme} {endpoints.api_token}"}
    async with httpx.AsyncClient(base_url=endpoints.api, headers=headers) as client:
        assert (await client.get("/status")).status_code == 200


def test_the_document_names_every_status():
    found = document()
    validate(found)
    for path, verbs in found["paths"].items():
        for one in verbs.values():
            told = set(one["responses"]) - {"200"}
            assert told == {"400", "403", "408", "431", "503"} if path == "/health" else told == set(map(str, STATUSES))
