import os
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

from dotenv import load_dotenv
from headlines import GREETING
from litestar import Litestar, get, post
from litestar.contrib.jinja import JinjaTemplateEngine
from litestar.response import ServerSentEvent, Template
from litestar.static_files import create_static_files_router
from litestar.template.config import TemplateConfig

HERE = Path(__file__).parent
load_dotenv(HERE / ".env", override=True)


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(HERE / "news.db", timeout=10)
    connection.execute("create table if not exists news (headline text)")
    return connection


def headlines() -> list[str]:
    with database() as connection:
        return [row[0] for row in connection.execute("select headline from news order by rowid")]


@get("/")
async def index() -> Template:
    context = {"editor": os.environ["EDITOR_NAME"], "source": os.environ.get("SOURCE", "")}
    return Template(template_name="index.html", context=context)


@post("/news/{headline:str}")
async def publish(headline: str) -> list[str]:
    with database() as connection:
        connection.execute("insert into news values (?)", [headline])
    return headlines()


async def events() -> AsyncGenerator[str, None]:
    yield GREETING
    for headline in headlines():
        yield headline


@get("/events", sync_to_thread=False)
def stream() -> ServerSentEvent:
    return ServerSentEvent(events())


app = Litestar(
    [index, publish, stream, create_static_files_router(path="/assets", directories=["assets"])],
    template_config=TemplateConfig(directory="templates", engine=JinjaTemplateEngine),
)
