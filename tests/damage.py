"""What happens to folders in the world: files altered, writers killed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import inputs


def altered_folders(good: Path, folder: Path, count: int) -> Iterator[int]:
    """`folder`, a copy of `good`, with one file altered at a time: bits, bytes, cuts, holes."""
    rng, names = inputs.rng(11), sorted(path.name for path in good.iterdir() if path.name != "lock")
    shutil.copytree(good, folder)
    for attempt in range(count):
        name = names[attempt % len(names)]
        whole = bytearray((good / name).read_bytes())
        place, kind = int(rng.integers(len(whole))), int(rng.integers(4))
        if kind == 0:
            whole[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del whole[place:]
        elif kind == 2:
            del whole[place : place + int(rng.integers(1, 9))]
        else:
            whole[place : place + 4] = rng.bytes(4)
        (folder / name).write_bytes(whole)
        yield attempt
        (folder / name).write_bytes((good / name).read_bytes())


def killed_writers(script: str, folder: Path, kills: int) -> Iterator[str | None]:
    """Run `script FOLDER SEED`, which says "ready" and then a line for each saved state, and kill it at any moment.

    Yields: the last line that was said, None if none was.
    """
    rng = inputs.rng(13)
    for kill in range(kills):
        command = [sys.executable, "-c", script, str(folder), str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(float(rng.uniform(0, 0.15)))
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split("\n")[:-1]  # a line that was cut off does not count
        yield said[-1] if said else None
