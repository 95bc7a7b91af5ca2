"""Logging as the application set it up, wherever it runs: nothing is thrown away, and nothing is said twice."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from background import wait_until
from ways import WAYS, application

FRAME = """
import logging, sys
{imported}
STDERR = sys.stderr

class Page:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        {first}
        for name in ("shop", "other"):
            logging.getLogger(name).debug("a debug")
            logging.getLogger(name).info("an info")
            logging.getLogger(name).warning("a warning")
        print("to stderr as it was at import", file=STDERR, flush=True)
        logging.getLogger("shop").error("the end")
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b"ok"}})

page = Page()

from fissile import Application, component

@component
class Pages:
    def http(self):
        return page

app = Application(Pages)
"""
AT_ROOT = """
logging.basicConfig(
    level=logging.DEBUG, format="MINE %(levelname)s %(name)s %(message)s",
    handlers=[logging.StreamHandler(), logging.FileHandler({file!r})],
)
"""
NAMED = """
import logging.config
logging.config.dictConfig({{
    "version": 1, "disable_existing_loggers": False,
    "formatters": {{"f": {{"format": "MINE %(levelname)s %(message)s"}}}},
    "handlers": {{"h": {{"class": "logging.StreamHandler", "formatter": "f", "stream": "ext://sys.stderr"}}}},
    "loggers": {{"shop": {{"level": "DEBUG", "handlers": ["h"]}}}},
}})
"""
LEVEL = "logging.getLogger().setLevel(logging.ERROR)"
LATE = 'logging.basicConfig(level=logging.WARNING, format="MINE %(levelname)s %(name)s %(message)s")'

OURS = ["INFO other: an info", "WARNING other: a warning"]
STYLES = {
    "at the root": (
        AT_ROOT,
        "pass",
        [
            f"MINE {one}"
            for one in (
                "DEBUG shop a debug",
                "INFO shop an info",
                "WARNING shop a warning",
                "DEBUG other a debug",
                "INFO other an info",
                "WARNING other a warning",
                "ERROR shop the end",
            )
        ],
    ),
    "of one logger": (
        NAMED,
        "pass",
        [
            "MINE DEBUG a debug",
            "MINE INFO an info",
            "MINE WARNING a warning",
            *OURS,
            "MINE ERROR the end",
        ],
    ),
    "a level alone": (LEVEL, "pass", ["ERROR shop: the end"]),
    "after the import": (
        "",
        LATE,
        [
            "MINE WARNING shop a warning",
            "MINE WARNING other a warning",
            "MINE ERROR shop the end",
        ],
    ),
    "none": ("", "pass", ["INFO shop: an info", "WARNING shop: a warning", *OURS, "ERROR shop: the end"]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("style", STYLES)
def test_logging_is_as_the_application_set_it_up(tmp_path: Path, way: str, style: str):
    imported, first, expected = STYLES[style]
    file = tmp_path / "mine.log"
    code = FRAME.format(imported=imported.format(file=str(file)), first=first)
    with application(tmp_path / "app", way, code) as (run, page):
        with urllib.request.urlopen(page, timeout=10):
            pass
        wait_until(lambda: "the end" in run.output, "the last record")
        said = [line.rpartition("| ")[2] for line in run.output.splitlines()]
        assert [line for line in said if line.endswith((" debug", " info", " warning", " the end"))] == expected
        assert "to stderr as it was at import" in said
        if style == "at the root":
            assert file.read_text().splitlines() == expected
        run.end()


DISABLES = """
import logging.config
logging.config.dictConfig({{
    "version": 1,
    "handlers": {{"h": {{"class": "logging.StreamHandler"}}}},
    "root": {{"level": "INFO", "handlers": ["h"]}},
}})
"""


@pytest.mark.parametrize("way", WAYS)
def test_the_traceback_of_a_500_is_logged_though_dict_config_disables_all_loggers_there_are(tmp_path: Path, way: str):
    """That is the default of `disable_existing_loggers`."""
    code = FRAME.format(imported=DISABLES.format(), first="1 / 0")
    with application(tmp_path / "app", way, code) as (run, page):
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(page, timeout=10)
        wait_until(lambda: "ZeroDivisionError: division by zero" in run.output, "the traceback")
