"""Runs `fissile` and watches what it leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from supervised import descendants, left_in, lives

WAIT_SECONDS_MAX = 30.0


def fissile(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    command = [sys.executable, "-m", "fissile", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False)


class Run:
    """`fissile run` in the background of a test. sign: what it prints once it is up."""

    def __init__(self, target: Path | str, *options: str, cwd: Path | None = None, sign: str = "/openapi.json") -> None:
        self.folder = cwd or Path(target)
        command = [sys.executable, "-m", "fissile", "run", str(target), "--port", "0", *options]
        self._log = (self.folder.parent / "output").open("w+")
        self.process = subprocess.Popen(command, cwd=cwd, stdout=self._log, stderr=subprocess.STDOUT)
        self.started: list[int] = []
        self._sign = sign

    def __enter__(self) -> "Run":
        try:
            self.wait_for(self._sign)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.started = descendants(self.process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in left:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self._log.close()

    @property
    def output(self) -> str:
        """All that it has printed."""
        return Path(self._log.name).read_text()

    @property
    def page(self) -> str:
        """The address of Pages."""
        found = re.search(r"^Pages\s+(http://\S+)$", self.output, re.MULTILINE)
        assert found is not None, self.output
        return found[1]

    def wait_for(self, text: str) -> None:
        """Wait until it has printed a text."""
        limit = time.monotonic() + WAIT_SECONDS_MAX
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < limit, f"{text!r} was not printed:\n{self.output}"
            time.sleep(0.01)

    def end(self, number: signal.Signals = signal.SIGINT, *, traceback: bool = False) -> None:
        """End it by a signal, and see that nothing is left. traceback: one was to be shown."""
        self.process.send_signal(number)
        assert self.process.wait(WAIT_SECONDS_MAX) == 0, self.output
        assert not [pid for pid in self.started if lives(pid)]
        assert left_in(self.folder) <= {"journal.db"}
        assert ("Traceback" in self.output) == traceback
