"""A FastAPI application as anybody writes it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.greeting = "hello"
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello() -> dict[str, object]:
    return {"greeting": app.state.greeting, "pid": os.getpid()}


@app.get("/slow")
async def slow(seconds: float = 0.2) -> dict[str, object]:
    await asyncio.sleep(seconds)
    return {"pid": os.getpid()}
