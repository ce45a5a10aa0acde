"""Who else used the processor while we measured, from the kernel's counts: our own work is not taken for theirs."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .record import num_cores

STAT: Final = Path("/proc/stat")
FREQUENCY: Final = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"  # kHz
BUSY_SHARE: Final = 0.1  # of the cores, taken by others while we measured: from here on timings are doubtful
IDLE: Final = (3, 4)  # columns of /proc/stat: idle, waiting for a disk
STEAL: Final = 7  # what the host of a virtual machine gave to others


@dataclass(frozen=True, slots=True)
class Watch:
    """The counts at one moment."""

    seconds: float
    ours: float  # CPU seconds of this process and of its children that ended
    all: float | None  # of every process, stolen ones included; None where the system does not say

    @classmethod
    def now(cls) -> Watch:
        """The counts now."""
        times = os.times()
        return cls(time.perf_counter(), sum(times[:4]), _all_seconds())

    def others_share(self) -> float | None:
        """Of the cores' time since, the part that others had; None where the system does not say."""
        now = Watch.now()
        if self.all is None or now.all is None or now.seconds <= self.seconds:
            return None
        others = (now.all - self.all) - (now.ours - self.ours)
        return max(0.0, others / ((now.seconds - self.seconds) * (os.cpu_count() or 1)))

    def warning(self) -> str | None:
        """One sentence if others were busy since; None if it was quiet, or nobody can say."""
        share = self.others_share()
        if share is None or share <= BUSY_SHARE:
            return None
        return f"the machine was busy: others had {share:.0%} of its cores; times are too long, and ratios lean"


def frequencies() -> dict[str, float]:
    """MHz of the slowest and the fastest core now; empty where the system does not say."""
    values = [_mhz(core) for core in range(os.cpu_count() or 1)]
    known = [value for value in values if value is not None] or _cpuinfo_mhz()
    return {"least": min(known), "most": max(known)} if known else {}


def describe_setting(threads: int) -> dict[str, object]:
    """What a figure depends on and may change from run to run."""
    from longspan import _core

    load = round(os.getloadavg()[0], 2)
    return {"threads": threads, "cores": num_cores(), "isa": _core.isa(), "mhz": frequencies(), "load": load}


def _all_seconds() -> float | None:
    try:
        counts = [int(count) for count in STAT.read_text(encoding="ascii").splitlines()[0].split()[1:]]
    except (OSError, ValueError, IndexError):
        return None
    # Guests' time (the last two) is in the user's already.
    busy = sum(count for column, count in enumerate(counts[: STEAL + 1]) if column not in IDLE)
    return busy / os.sysconf("SC_CLK_TCK")


def _mhz(core: int) -> float | None:
    try:
        return int(Path(FREQUENCY.format(core)).read_text(encoding="ascii")) / 1000
    except (OSError, ValueError):
        return None


def _cpuinfo_mhz() -> list[float]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
