"""A result as one .npz file: arrays `vectors`, `base`, `texts`, `text_ends`, `pairs`, and `state`, JSON in UTF-8.

with np.load("films.npz") as film: film["vectors"]
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from longspan.errors import DatabaseError
from longspan.own_files import written_aside
from longspan.relations.result import Retrofitted
from longspan.relations.stores.state import from_state, to_state


def save(result: Retrofitted, path: Path) -> None:
    """Write it, aside first."""
    state, pairs = to_state(result)
    encoded = [text.encode("utf-8") for text in result.plan.texts]
    with written_aside(path) as aside, open(aside, "wb") as handle:
        np.savez(
            handle,
            vectors=result.vectors,
            base=result.base,
            texts=np.frombuffer(b"".join(encoded), np.uint8),
            text_ends=np.cumsum([len(text) for text in encoded], dtype=np.int64),
            pairs=pairs,
            state=np.frombuffer(state.encode("utf-8"), np.uint8),
        )


def load(path: Path) -> Retrofitted:
    """Read it. FileNotFoundError; DatabaseError, it is no such file, or damaged."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("vectors", "base", "texts", "text_ends", "pairs", "state")}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DatabaseError(f"{path}: not a result of longspan, or damaged ({error})") from error
    raw, ends = found["texts"].tobytes(), found["text_ends"].tolist()
    try:
        texts = [raw[start:end].decode("utf-8") for start, end in zip([0, *ends], ends)]
        state = found["state"].tobytes().decode("utf-8")
    except (UnicodeDecodeError, TypeError) as error:
        raise DatabaseError(f"{path}: its texts are damaged; retrofit anew") from error
    return from_state(str(path), state, found["pairs"], texts, found["vectors"], found["base"])
