"""A checkpoint's files copied into a folder that a framework saves a model in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from longspan.own_files import open_new

# What a checkpoint consists of, its card and licence included: no code, no pickles, no copies for other runtimes.
SUFFIXES: Final = frozenset({".json", ".safetensors", ".txt", ".model", ".metadata", ".md"})
NAMES: Final = ("LICENSE", "LICENCE", "NOTICE")
OTHER_RUNTIMES: Final = frozenset({"onnx", "openvino"})


def copy_checkpoint(source: Path, target: Path) -> None:
    """Copy what `Encoder` reads, and the licence, from `source` to `target`; nothing if they are the same folder.

    Raises: ValueError, one of the two lies inside the other: saving there would damage the model that is being saved.
    """
    source, target = source.resolve(), target.resolve()
    if source == target:
        return
    if source in target.parents or target in source.parents:
        raise ValueError(f"save: {target} and the model's own folder {source} must not lie in each other")
    for path in [found for found in source.rglob("*") if found.is_file() and _wanted(found.relative_to(source))]:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        aside = copy.with_name(f".{copy.name}.{os.getpid()}")
        try:
            with open(path, "rb") as whole, open_new(aside) as handle:
                shutil.copyfileobj(whole, handle)
            os.replace(aside, copy)
        finally:
            aside.unlink(missing_ok=True)


def _wanted(path: Path) -> bool:
    if any(part.startswith(".") or part in OTHER_RUNTIMES for part in path.parts):
        return False
    return path.suffix in SUFFIXES or path.name.startswith(NAMES)
