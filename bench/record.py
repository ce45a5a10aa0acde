"""What a figure was measured on, and the JSON file that it is kept in."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]  # of a checkout
SCHEMA: Final = 1  # rises when a reader of the old files would misread the new ones
PACKAGES: Final = ("numpy", "tokenizers", "torch", "transformers", "sentence-transformers", "onnxruntime")


def machine() -> dict[str, object]:
    """Processor, cores, load, instruction set and the versions of what may take part."""
    import longspan
    from longspan import _core

    return {
        "cpu": _cpu_name(),
        "cores": num_cores(),
        "load": round(os.getloadavg()[0], 2),
        "isa": _core.isa(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "longspan": longspan.__version__,
        **{name: version for name in PACKAGES if (version := _version(name))},
    }


def commit() -> dict[str, str]:
    """The checkout's commit, "+" behind it where files differ from it; LONGSPAN_COMMIT where there is no git. Empty in
    an installation."""
    if not (ROOT / ".git").exists():
        return {"commit": told} if (told := os.environ.get("LONGSPAN_COMMIT")) else {}
    said = []
    for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
        said.append(done.stdout.strip())
    return {"commit": said[0] + ("+" if said[1] else "")}


def model_name(model: str) -> str:
    """A hub's name as it is, of a local folder its last part: a record is no place for paths of a machine."""
    return Path(model).resolve().name if Path(model).is_dir() else model


def write_json(path: Path, bench: str, body: Mapping[str, object]) -> None:
    """Write `body` with schema, bench, date and machine; aside first, then renamed: the file is whole or absent.

    Raises: OSError, the file cannot be written.
    """
    record = {
        "schema": SCHEMA,
        "bench": bench,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        **body,
    }
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
