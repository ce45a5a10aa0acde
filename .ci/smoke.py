"""The installed wheel on its own: it imports without torch, embeds, and its command runs.

Usage: smoke.py MODEL_FOLDER [--in-process]   the second leaves the command out, where no process can be started
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

import longspan


def main(model: str, *options: str) -> None:
    """Raises where something is amiss."""
    package = Path(longspan.__file__).parent
    assert "site-packages" in package.parts, f"not the installed wheel: {package}"
    assert (package / "py.typed").exists() and (package / "_core.pyi").exists()
    assert importlib.util.find_spec("torch") is None, "the wheel pulled in torch"
    vectors = longspan.Encoder(model).encode(["a text", "another text"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    commands = [["--version"], ["info", model], ["embed", "--help"], ["bench", "list"]]
    for arguments in [] if options == ("--in-process",) else commands:
        subprocess.run(["longspan", *arguments], check=True, stdout=subprocess.DEVNULL)
    print(f"smoke test passed: longspan {longspan.__version__}, {longspan.Encoder(model).explain()}")


main(*sys.argv[1:])
