"""Answers with the versions of all that had a part in the answer."""

import asyncio
import json

from chain.back import Back
from chain.middle import Middle
from fissile import component

VERSION = 1


@component
class Front:
    def __init__(self, middle: Middle, back: Back) -> None:
        self._middle = middle
        self._back = back

    def http(self):
        async def app(scope, receive, send):
            if scope["path"] == "/stream":
                answer = [VERSION] * 2 + [v async for v in self._back.versions(20, 0.05)]
            elif scope["path"] == "/slow":
                first = await self._back.version()
                await asyncio.sleep(0.5)
                answer = [VERSION, *await self._middle.relayed(), first]
            else:
                answer = [VERSION, *await self._middle.relayed(), await self._back.version()]
            body = json.dumps(answer).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return app
