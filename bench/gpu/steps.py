"""Steps of a command for rented time: processes with a limit, all of whose children end with them.

What a step prints goes into one log as it comes. A file that cannot be written (a full disk) costs itself alone: the
lines are printed as well.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "LONGSPAN_STEP"  # in the environment of all that a step starts
TAIL: Final = 1500  # bytes of a step's output in its line
MOST_LOG: Final = 1 << 20  # bytes of a step's output in the log; what is beyond is left out, but for the tail
PATIENCE: Final = 5.0  # seconds for what was killed to be gone


@dataclass(frozen=True, slots=True)
class Step:
    """A shell command and its limit in seconds. `dry` is what stands for it without a GPU; None leaves it out. `unless`
    are steps of which one that succeeds makes it needless."""

    name: str
    command: str
    limit: float
    dry: str | None = None
    unless: tuple[str, ...] = ()


def run_step(
    step: Step, command: str, limit: float, log: Path, env: Mapping[str, str], root: Path
) -> dict[str, object]:
    """Run it from `root`. Returns: its line."""
    started, mark = time.monotonic(), f"{os.getpid()}-{time.monotonic_ns()}"
    how = {"cwd": root, "env": {**env, MARK: mark}, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(["bash", "-c", command], **how, start_new_session=True)  # type: ignore[call-overload]
    assert process.stdout is not None
    output = Output(log, f"== {step.name}: {command}\n".encode())
    reader = threading.Thread(target=output.read, args=(process.stdout.fileno(),), daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        end_all(process, mark)
        reader.join(PATIENCE)
        if not reader.is_alive():
            process.stdout.close()
        output.close()
    return {
        "step": step.name,
        "status": process.returncode,
        "timed_out": timed_out,
        "seconds": round(time.monotonic() - started, 1),
        "limit": round(limit, 1),
        "tail": output.tail(),
    }


class Output:
    """What a step prints, into the log as it comes; its end is kept."""

    def __init__(self, log: Path, heading: bytes) -> None:
        self._end: deque[bytes] = deque()
        self._kept = self._logged = 0
        self._file = None
        with suppress(OSError):  # told by whoever looks for the log
            self._file = log.open("ab", buffering=0)
        self._log(heading)

    def read(self, descriptor: int) -> None:
        """Until nobody holds the other end any more."""
        with suppress(OSError):
            while chunk := os.read(descriptor, 1 << 16):
                self._end.append(chunk)
                self._kept += len(chunk)
                while self._kept - len(self._end[0]) >= TAIL:
                    self._kept -= len(self._end.popleft())
                self._log(chunk)

    def _log(self, chunk: bytes) -> None:
        if self._file is None or self._logged > MOST_LOG:
            return
        self._logged += len(chunk)
        with suppress(OSError):
            self._file.write(chunk if self._logged <= MOST_LOG else b"\n... more than a log may have\n")

    def tail(self) -> str:
        """The last that was printed."""
        return b"".join([*self._end])[-TAIL:].decode("utf-8", "replace")

    def close(self) -> None:
        """The log gets the end of what was too long for it."""
        if self._file is None:
            return
        with suppress(OSError):
            if self._logged > MOST_LOG:
                self._file.write(self.tail().encode())
            self._file.close()


def end_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a step's process, and whatever it has started, in a session of its own or not: what hangs on a device would
    slow whatever comes next. Processes that end at the same moment may have started others, so look again."""
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        left = marked(mark)
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if process.poll() is not None and not left:
            return
        if time.monotonic() > until:  # such as one that waits in the kernel for a device that is gone
            print(f"still there after SIGKILL: {left or [process.pid]}", file=sys.stderr)
            return
        time.sleep(0.05)


def marked(mark: str) -> list[int]:
    """Living processes with that mark in their environment; Linux alone tells."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def add_line(file: Path | None, line: Mapping[str, object]) -> None:
    """A line of JSON more; where that cannot be written, it is said, and the rest goes on."""
    if file is None:
        return
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(line) + "\n")
    except OSError as error:
        print(f"not written to {file}: {error.strerror}: {json.dumps(line)[:300]}", file=sys.stderr, flush=True)
