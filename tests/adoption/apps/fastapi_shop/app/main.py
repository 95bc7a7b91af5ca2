import json
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from .config import Settings, get_settings
from .routers import pictures

app = FastAPI()
app.mount("/static", StaticFiles(directory="static"), name="static")
app.include_router(pictures.router)

templates = Jinja2Templates(directory="templates")


@app.get("/", response_class=HTMLResponse)
async def home(request: Request, settings: Annotated[Settings, Depends(get_settings)]):
    context = {"greeting": "Welcome", "name": settings.shop_name, "currency": settings.currency}
    return templates.TemplateResponse(request, "home.html", context)


@app.get("/prices")
def prices():
    return json.loads(Path("data/prices.json").read_text())
