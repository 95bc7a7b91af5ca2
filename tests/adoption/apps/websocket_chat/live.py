from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"heard: {text}")


async def index(request):
    return FileResponse("index.html")


app = Starlette(routes=[WebSocketRoute("/echo", echo), Route("/", index)])
