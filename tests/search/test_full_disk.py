"""A disk that is full, or a quota that is used up: an OSError, and the folder holds the state that was saved last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import inputs
from longspan import BinaryIndex, MultiVectorStore, SparseIndex

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")

WRITER = """
import resource, sys
import numpy as np
from longspan import BinaryIndex, MultiVectorStore, SparseIndex

kind, folder = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # bytes of a file
rng = np.random.default_rng(0)
index = {"binary": BinaryIndex(40, store="int8"), "tokens": MultiVectorStore(16), "sparse": SparseIndex(500)}[kind]
while True:
    if kind == "binary":
        index.add(rng.normal(size=(300, 40)).astype(np.float32))
    elif kind == "tokens":
        index.add(list(rng.normal(size=(40, 10, 16)).astype(np.float32)))
    else:
        index.add([{int(i): 1.0 for i in rng.choice(500, 20, replace=False)} for _ in range(200)])
    before = len(index)
    try:
        index.save(folder)
    except OSError as error:
        print("full", type(error).__name__, flush=True)
        break
    print(before, flush=True)
assert len(index) == before, "what is in memory is as it was"
"""


@pytest.mark.parametrize("kind", ["binary", "tokens", "sparse"])
def test_the_last_state_stays(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "index"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, kind, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *saved, full = done.stdout.splitlines()
    assert full == "full OSError" and saved
    load = {"binary": BinaryIndex, "tokens": MultiVectorStore, "sparse": SparseIndex}[kind].load
    index = load(folder, verify=True)
    assert len(index) == int(saved[-1])
    more = {"binary": inputs.normal((3, 40), 1), "tokens": list(inputs.normal((3, 5, 16), 1)), "sparse": [{1: 1.0}] * 3}
    index.add(more[kind])
    index.save(folder)  # there is room again, for what was left half-written as well
    assert len(load(folder, verify=True)) == int(saved[-1]) + 3
    assert not [name for name in os.listdir(folder) if name.endswith(".new")]
