"""A new index, as the first vectors are: with a mean taken off them, where signs alone would tell little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from longspan.search import BinaryIndex, MultiVectorStore

Center = Literal["auto", "yes", "no"]
SAMPLE = 1024  # documents at least, if there are so many, whose mean decides on a centre


def new_index(
    sample: np.ndarray, queries: np.ndarray | None = None, *, store: str = "int8", center: Center = "auto"
) -> BinaryIndex:
    """Empty, for vectors such as the sample's.

    Args:
        sample: (n, dim) floats, or codes as uint8.
        queries: (n, dim) floats of typical questions, whose own mean is taken off queries; None for none.
        store: what candidates are scored with again.
        center: "auto" takes a mean off where the sample lies in a narrow cone, or `queries` are given.
    Raises: ValueError, one vector a text is not stored so.
    """
    from longspan.search import BinaryIndex
    from longspan.search.rows import is_store
    from longspan.search.spread import FEW, NARROW_MEAN, MeanDirection

    if not is_store(store):
        raise ValueError(f"--store {store} is for token vectors; one vector a text takes codes, int8 or float32")
    if sample.dtype == np.uint8:
        return BinaryIndex(8 * sample.shape[1], store="codes")
    direction = MeanDirection(np.zeros(sample.shape[1]))
    direction.add(sample)
    is_narrow = direction.count >= FEW and (direction.length or 0.0) > NARROW_MEAN
    if center == "no" or (center == "auto" and queries is None and not is_narrow):
        return BinaryIndex(sample.shape[1], store=store)
    return BinaryIndex.learn(sample, queries, store=store)


def new_store(dim: int, store: str = "int8") -> MultiVectorStore:
    """Empty, for token vectors. Raises: ValueError, they are not stored so."""
    from longspan.search import MultiVectorStore
    from longspan.search.token_rows import TOKEN_STORES, is_token_store

    if not is_token_store(store):
        known = ", ".join(TOKEN_STORES)
        raise ValueError(f"--store {store} is for models of one vector a text; token vectors take one of {known}")
    return MultiVectorStore(dim, store=store)
