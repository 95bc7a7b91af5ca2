"""What replicas have in common because they are forked from one import: chance and temporary files are their own."""

import json
import os
import signal
import urllib.request
from pathlib import Path

from background import wait_until
from supervised import lives
from ways import application

CODE = """
import atexit, contextlib, functools, json, os, random, shutil, tempfile
import numpy

class Own(random.Random):
    pass

saved = random.Random()
saved.setstate(random.Random(7).getstate())
chance = {
    "random": random.random,
    "Random()": random.Random().random,
    "own class": Own().random,
    "seeded again": (lambda one: (one.seed(), one)[1])(random.Random(42)).random,
    "default_rng": numpy.random.default_rng().random,
    "spawned": numpy.random.default_rng().spawn(1)[0].random,
    "MT19937": numpy.random.Generator(numpy.random.MT19937()).random,
    "RandomState": numpy.random.RandomState().rand,
    "numpy.random": numpy.random.rand,
}
fixed = {
    "Random(42)": random.Random(42).random,
    "setstate": saved.random,
    "default_rng(42)": numpy.random.default_rng(42).random,
    "default_rng(2**127)": numpy.random.default_rng(2**127).random,
    "RandomState(42)": numpy.random.RandomState(42).rand,
}
folder = tempfile.TemporaryDirectory(prefix="replicas-")
file = tempfile.NamedTemporaryFile(prefix="replicas-")
by_hand, later, partly = (tempfile.mkdtemp(prefix="replicas-") for _ in range(3))
atexit.register(shutil.rmtree, by_hand)
atexit.register(functools.partial(shutil.rmtree, partly))
stack = contextlib.ExitStack()
stack.callback(shutil.rmtree, later)
atexit.register(stack.close)
places = [folder.name, file.name, by_hand, later, partly]
atexit.register(lambda: print("buffered, and written at the end of", os.getpid(), flush=True))

numbers = {name: float(draw()) for name, draw in ()}

async def page(scope, receive, send):
    if not numbers:
        numbers.update({name: float(draw()) for name, draw in (chance | fixed).items()})
    body = json.dumps({"pid": os.getpid(), "numbers": numbers, "chance": list(chance), "places": places}).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

from fissile import Application, component

@component
class Pages:
    def http(self):
        return page

app = Application(Pages)
"""


def replicas(page: str, count: int) -> dict[int, dict]:
    """What so many of them say."""
    found: dict[int, dict] = {}

    def ask() -> bool:
        with urllib.request.urlopen(page, timeout=10) as answer:
            one = json.load(answer)
        found[one["pid"]] = one
        return len(found) >= count

    wait_until(ask, f"answers of {count} replicas")
    return found


def test_replicas_have_chance_of_their_own_and_leave_temporary_files_to_each_other(tmp_path: Path):
    with application(tmp_path / "app", "three replicas", CODE) as (run, page):
        found = replicas(page, 3)
        first, *others = found.values()
        for name, number in first["numbers"].items():
            same = [one["numbers"][name] == number for one in others]
            assert not any(same) if name in first["chance"] else all(same), name
        # One ends as it does in a restart; what the import made for all stays.
        os.kill(first["pid"], signal.SIGTERM)
        wait_until(lambda: not lives(first["pid"]), "the end of a replica")
        assert all(os.path.exists(place) for place in first["places"])
        assert f"written at the end of {first['pid']}" in run.output
        run.end()
        assert not [place for place in first["places"] if os.path.exists(place)]
