"""A chat room: each message goes to everybody, and stays in the history."""

import asyncio
import json
import os
import signal
from pathlib import Path

from dotenv import load_dotenv
from room import welcome
from websockets.asyncio.server import broadcast, serve

load_dotenv()
HISTORY = Path("history.jsonl")
CONNECTIONS = set()


def history():
    return [json.loads(line) for line in HISTORY.read_text().splitlines()] if HISTORY.exists() else []


async def chat(websocket):
    CONNECTIONS.add(websocket)
    try:
        await websocket.send(welcome(os.environ["ROOM"]))
        await websocket.send(json.dumps(history()))
        async for message in websocket:
            with HISTORY.open("a") as file:
                file.write(json.dumps(message) + "\n")
            broadcast(CONNECTIONS, message)
    finally:
        CONNECTIONS.remove(websocket)


async def main():
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
    async with serve(chat, os.environ["HOST"], int(os.environ["PORT"])):
        await stop


asyncio.run(main())
