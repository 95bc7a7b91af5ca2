from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from fissile import component
from library.shelf import Shelf


@component
class Pages:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def _index(self, request: Request) -> HTMLResponse:
        page = Path("library/templates/index.html").read_text()
        return HTMLResponse(page.format(heading="Library", shelf=await self._shelf.name()))

    async def _books(self, request: Request) -> JSONResponse:
        if request.method == "POST":
            await self._shelf.add(request.query_params["title"])
        return JSONResponse(await self._shelf.titles())

    def http(self) -> Starlette:
        return Starlette(routes=[Route("/", self._index), Route("/books", self._books, methods=["GET", "POST"])])
