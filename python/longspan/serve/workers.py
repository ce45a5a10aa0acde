"""Several processes at one port: each with its own socket, among which the kernel deals connections out.

On a CPU the models are loaded once, before the processes part: their weights lie in memory once, as no process writes
to them. On GPUs each process loads its own, on a GPU of its own.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final

log = logging.getLogger("longspan.serve")

MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"  # where the processes' metrics meet; read when the library is imported
TOO_FAST: Final = 5.0  # seconds within which a process that ends has not got anywhere
MOST_FAST_ENDS: Final = 5


@dataclass(slots=True)
class Worker:
    """A process of ours."""

    number: int  # from 0
    pid: int
    started: float


class Supervisor:
    """Starts the processes, starts one again that ends, and hands signals on.

    Args:
        count: processes.
        work: what each does, given its number from 0; it returns when the process is to end well.
        grace: seconds that they have to end after the first signal.
    """

    def __init__(self, count: int, work: Callable[[int], None], grace: float) -> None:
        self._count = count
        self._work = work
        self._grace = grace
        self._workers: dict[int, Worker] = {}
        self._signals = 0
        self._fast_ends = 0

    def run(self) -> int:
        """Until a signal. Returns: the exit code, 0 if all ended well."""
        gc.freeze()  # so that the collector of a process does not touch, and copy, what all share
        for number in range(self._count):
            self._start(number)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        code = 0
        deadline = float("inf")
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                code = self._ended(pid, status) or code
                continue
            if self._signals and deadline == float("inf"):
                deadline = time.monotonic() + self._grace
            if time.monotonic() > deadline or self._signals > 1:
                self._kill(signal.SIGKILL)
                code = 1
            time.sleep(0.05)
        return code

    def _start(self, number: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._workers[pid] = Worker(number, pid, time.monotonic())
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self._work(number)
            code = 0
        except BaseException:
            log.exception("worker %d failed", number)
        finally:
            os._exit(code)

    def _ended(self, pid: int, status: int) -> int:
        worker = self._workers.pop(pid, None)
        if worker is None:
            return 0
        _forget_metrics(pid)
        code = os.waitstatus_to_exitcode(status)
        if self._signals:
            return 1 if code else 0
        log.error("worker %d ended with code %d, and is started again", worker.number, code)
        self._fast_ends = self._fast_ends + 1 if time.monotonic() - worker.started < TOO_FAST else 0
        if self._fast_ends > MOST_FAST_ENDS:
            log.error("workers end as soon as they are started; the server gives up")
            self._signals = 1
            self._kill(signal.SIGTERM)
            return 1
        self._start(worker.number)
        return 0

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._kill(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)

    def _kill(self, sig: signal.Signals) -> None:
        for pid in list(self._workers):
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                continue


class MetricsFolder:
    """A folder for the processes' metrics, for as long as the server runs."""

    def __enter__(self) -> None:
        assert "prometheus_client" not in sys.modules, "it reads the variable when it is imported"
        self._made = None
        if MULTIPROCESS not in os.environ:
            self._made = tempfile.mkdtemp(prefix="longspan-metrics-")
            os.environ[MULTIPROCESS] = self._made

    def __exit__(self, *error: object) -> None:
        if self._made is not None:
            os.environ.pop(MULTIPROCESS, None)
            shutil.rmtree(self._made, ignore_errors=True)


def _forget_metrics(pid: int) -> None:
    """Of a process that has ended, what only the living have: gauges."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
