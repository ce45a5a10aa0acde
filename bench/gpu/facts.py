"""What figures are of, as one JSON object: the GPU, its clocks and limits, versions, the assembler that Triton uses."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu,memory.total,memory.used"
PACKAGES = ("torch", "triton", "numpy", "sentence-transformers", "transformers", "peft", "late-interaction-kernels",
            "flash-maxsim", "flash-attn", "pytest", "pytest-xdist")  # fmt: skip


def said(*command: str) -> str:
    """The first line that a command prints, or why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"none: {error}"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[-1] if lines else f"none: status {done.returncode}"


def version(package: str) -> str:
    """Of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, object]:
    """All of it; torch's part only where torch is."""
    found: dict[str, object] = {
        "python": sys.version.split()[0],
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "nvidia-smi": said("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"),
        "nvcc": said("nvcc", "--version"),
        "g++": said("g++", "-dumpfullversion"),
        **{package: version(package) for package in PACKAGES},
    }
    try:
        import torch
        import triton
    except ImportError as error:
        return {**found, "torch cuda": f"none: {error}"}
    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    ptxas = os.environ.get("TRITON_PTXAS_PATH") or str(own)
    found["triton's ptxas"] = said(ptxas, "--version") if shutil.which(ptxas) else f"none at {ptxas}"
    found["torch cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        found["cublas"] = str(torch.backends.cuda.preferred_blas_library())
    return found


if __name__ == "__main__":
    print(json.dumps(facts(), indent=1))
