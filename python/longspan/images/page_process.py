"""Pages of strangers' PDF files, drawn in a process of their own, which is ended if it takes too long.

What a page draws is a program: two kilobytes can keep PDFium busy for hours, it cannot be stopped on the way, and a
file made for it may crash it. So the caller's process only waits, for as long as it wants to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, Final

import numpy as np

from longspan.images.pages import PdfPage, count_pages

ASK: Final = struct.Struct("<cQIQd")  # what, a number, bytes of the name and of the file behind it, seconds
ANSWER: Final = struct.Struct("<cQ")  # how it went, and bytes that follow
SHAPE: Final = struct.Struct("<QQ")
SAME_FILE: Final = (1 << 64) - 1  # in place of a file's bytes
COUNT, DRAW, DONE, BAD, MISSING = b"c", b"d", b"o", b"v", b"i"
MAX_SECONDS: Final = 1e6
MAX_MEMORY: Final = 2 << 30  # bytes of address space of the process, where the system keeps to it


class PageTimeError(ValueError):
    """Pages take longer than their caller allows."""


class PageProcesses:
    """The processes, each started when all others are busy and kept for the next caller. Threads may share it."""

    def __init__(self) -> None:
        self._idle: list[_Process] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def ask(self, what: bytes, number: int, file: bytes, name: str, seconds: float) -> bytes:
        """What a process answers. Raises: as `PdfPage.read`, and PageTimeError."""
        process = self._take(file) or _Process()
        answer = process.ask(what, number, file, name, min(seconds, MAX_SECONDS))
        with self._lock:
            is_kept = process.is_alive and not self._is_closed
            if is_kept:
                self._idle.append(process)
        if not is_kept:
            process.close()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _take(self, file: bytes) -> _Process | None:
        """One that waits, if there is one: if possible one that has this file already."""
        with self._lock:
            self._idle.sort(key=lambda one: one.file is file)
            while self._idle:
                process = self._idle.pop()
                if process.is_running:
                    return process
                process.close()
            return None

    def close(self) -> None:
        """End those that wait; others end when they are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()


class PageDrawer:
    """The pages of one caller, whose seconds go down with each.

    Args:
        processes: where they are drawn.
        seconds: that all of them together may take.
    """

    def __init__(self, processes: PageProcesses, seconds: float) -> None:
        self._processes = processes
        self._seconds = self._left = seconds

    def count(self, file: bytes, name: str) -> int:
        """How many pages the file has. Raises: as `PdfPage.read`, and PageTimeError."""
        return int.from_bytes(self._ask(COUNT, 0, file, name), "little")

    def page(self, file: bytes, number: int) -> PdfPage:
        """One of them, drawn when it is read."""
        return DrawnPage(file, number, self)

    def draw(self, file: bytes, number: int, name: str) -> np.ndarray:
        """See `PdfPage.read`. Raises: the same, and PageTimeError."""
        answer = self._ask(DRAW, number, file, name)
        height, width = SHAPE.unpack_from(answer)
        return np.frombuffer(answer, np.uint8, offset=SHAPE.size).reshape(height, width, 3).copy()

    def _ask(self, what: bytes, number: int, file: bytes, name: str) -> bytes:
        started = time.monotonic()
        try:
            if self._left <= 0:
                raise PageTimeError(name)
            return self._processes.ask(what, number, file, name, self._left)
        except PageTimeError:
            message = f"{name}: the pages take more than the {self._seconds:g} seconds that drawing them may take"
            raise PageTimeError(f"{message}; send fewer of them, or images") from None
        finally:
            self._left -= time.monotonic() - started


@dataclass(frozen=True)
class DrawnPage(PdfPage):
    """A page that is drawn elsewhere."""

    drawer: PageDrawer = field(repr=False)

    def read(self, name: str = "page") -> np.ndarray:
        """See `PdfPage.read`."""
        assert isinstance(self.path, bytes), "made of a file's contents"
        return self.drawer.draw(self.path, self.number, name)


class _Process:
    """One process; one thread's at a time."""

    def __init__(self) -> None:
        # One thread of BLAS: more reserve memory that is never used, and would count. Paths as they are here.
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        given = {name: value for name, value in os.environ.items() if not name.startswith("LONGSPAN_")}  # no keys
        self._popen = subprocess.Popen(
            [sys.executable, "-c", "from longspan.images.page_process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**given, **own},
            start_new_session=True,  # a Ctrl-C is the caller's, who then lets it finish
        )
        self.file = b""  # that it has read
        self.is_alive = True
        self._is_late = False

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._popen.poll() is None

    def ask(self, what: bytes, number: int, file: bytes, name: str, seconds: float) -> bytes | Exception:
        """What it answers, or why there is no answer."""
        timer = threading.Timer(seconds, self._stop)
        timer.daemon = True
        timer.start()
        try:
            return self._ask(what, number, file, name, seconds)
        except (OSError, EOFError):
            self.is_alive = False
            self._popen.kill()
            code = self._popen.wait()
            if self._is_late or code == -signal.SIGXCPU:
                return PageTimeError(name)
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            return ValueError(f"{name}: the file cannot be drawn: the process that tried it ended with {how}")
        finally:
            timer.cancel()
            timer.join()
            self.is_alive = self.is_alive and not self._is_late

    def _ask(self, what: bytes, number: int, file: bytes, name: str, seconds: float) -> bytes | Exception:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        called = name.encode("utf-8", "replace")
        is_known = self.file is file
        size = SAME_FILE if is_known else len(file)
        self._popen.stdin.write(ASK.pack(what, number, len(called), size, seconds) + called)
        if not is_known:
            self._popen.stdin.write(file)
        self._popen.stdin.flush()
        self.file = file
        how, size = ANSWER.unpack(_exactly(self._popen.stdout, ANSWER.size))
        answer = _exactly(self._popen.stdout, size)
        if how == DONE:
            return answer
        return (ImportError if how == MISSING else ValueError)(answer.decode("utf-8", "replace"))

    def _stop(self) -> None:
        self._is_late = True
        self._popen.kill()

    def close(self) -> None:
        """End it."""
        for pipe in (self._popen.stdin, self._popen.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what was not written yet has no reader any more
                continue
        self._popen.kill()
        self._popen.wait()


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises: EOFError, the pipe ended before."""
    found = pipe.read(size)
    if len(found) < size:
        raise EOFError
    return found


def main() -> None:
    """The process: answers what it is asked, until nobody asks any more."""
    import resource

    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that nothing that is printed looks like an answer
    with contextlib.suppress(ValueError, OSError):  # a system that has no such limit, or a lower one already
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    file = b""
    while head := asked.read(ASK.size):
        what, number, name_size, file_size, seconds = ASK.unpack(head)
        name = asked.read(name_size).decode()
        if file_size != SAME_FILE:
            file = asked.read(file_size)
        _end_after(seconds)
        how, answer = _answered(what, number, file, name)
        answers.write(ANSWER.pack(how, len(answer)) + answer)
        answers.flush()


def _end_after(seconds: float) -> None:
    """A second way to end, for when the caller is not there any more; a lower limit that is there already stays."""
    import resource

    soonest, most = int(time.process_time() + seconds) + 2, resource.getrlimit(resource.RLIMIT_CPU)[1]
    if most == resource.RLIM_INFINITY or soonest < most:
        resource.setrlimit(resource.RLIMIT_CPU, (soonest, most))


def _answered(what: bytes, number: int, file: bytes, name: str) -> tuple[bytes, bytes]:
    try:
        if what == COUNT:
            return DONE, count_pages(file, name).to_bytes(8, "little")
        pixels = PdfPage(file, number).read(name)
    except ImportError as error:
        return MISSING, str(error).encode()
    except ValueError as error:
        return BAD, str(error).encode()
    return DONE, SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()
