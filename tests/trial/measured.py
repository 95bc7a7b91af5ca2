"""Run by itself: what each service of small applications really answers, before and after a change.

Input: JSON lines of [folder, path of imports, [[service, module, class], ...]]. Output: a line for each, with what each
service's `run()` gave. Each is imported in a process of its own.
"""

import json
import os
import sys
from typing import Any


def answers(folder: str, path: str, services: list[list[str]]) -> dict[str, str]:
    """What the services of the application in a folder answer, each in a process of its own."""
    return {service: answer(folder, path, module, name) for service, module, name in services}


def answer(folder: str, path: str, module: str, name: str) -> str:
    """In a child, as whatever is imported there stays there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading) as file:
            said = file.read()
        os.waitpid(child, 0)
        return said
    os.close(reading)
    with open(writing, "w") as file:
        file.write(_run(folder, path, module, name))
        file.flush()
        os._exit(0)


def _run(folder: str, path: str, module: str, name: str) -> str:
    import importlib

    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.join(folder, path))
    try:
        importlib.import_module("shop")
        made: Any = getattr(importlib.import_module(module), name)()
        return repr(made.run())
    except Exception as error:  # it is an answer like another
        return f"{type(error).__name__}: {error}".replace(folder, "")


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answers(*json.loads(line))), flush=True)
