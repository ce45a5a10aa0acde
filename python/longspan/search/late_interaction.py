"""MaxSim over lists of token vectors: every query against every document, or the best documents of one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longspan.integers import checked_int
from longspan.ops.maxsim import maxsim, maxsim_topk

TokenArrays = Sequence[np.ndarray] | np.ndarray  # (tokens, dim) of each text; or one such array, for one


@dataclass(frozen=True, slots=True)
class Ranked:
    """A document that a query found.

    Attributes:
        document: its place in the list, or its id in a store.
        score: higher is better; at most the query's number of tokens.
    """

    document: int
    score: float


def score(queries: TokenArrays, documents: TokenArrays) -> np.ndarray:
    """(num_queries, num_docs) f32: for each token of a query its best dot product with one of the document's, summed.

    Args:
        queries: for each query (tokens, dim); or one such array, for one query.
        documents: as `queries`; none without tokens.
    Raises: TypeError or ValueError, naming the array that breaks a line above.
    """
    left, right = token_arrays("score", "queries", queries), token_arrays("score", "documents", documents)
    if not left or not right:
        return np.zeros((len(left), len(right)), np.float32)
    _check_dims(left, right)
    return np.asarray(maxsim(*_operands(left, right)))


def rank(query: np.ndarray, documents: TokenArrays, top_k: int) -> list[Ranked]:
    """The `top_k` best documents of a query (tokens, dim), or all if there are fewer, best first; equal ones in order.

    Raises: as `score`; ValueError, `top_k` is below 1.
    """
    count = checked_top_k("rank", top_k)
    left, right = token_arrays("rank", "query", [query]), token_arrays("rank", "documents", documents)
    if not right:
        return []
    _check_dims(left, right)
    scores, found = maxsim_topk(*_operands(left, right), min(count, len(right)))
    pairs = zip(np.asarray(found)[0].tolist(), np.asarray(scores)[0].tolist(), strict=True)
    return [Ranked(document, value) for document, value in pairs]


def checked_top_k(caller: str, top_k: int, name: str = "top_k") -> int:
    """`top_k` as an int. TypeError where it is none, ValueError below 1."""
    count = checked_int(f"{caller}: {name}", top_k)
    if count < 1:
        raise ValueError(f"{caller}: {name} must be 1 or more, got {count}")
    return count


def token_arrays(caller: str, name: str, arrays: TokenArrays) -> list[np.ndarray]:
    """Each array as (tokens, dim) f32; one alone as a list of one. TypeError or ValueError where it is not that."""
    if isinstance(arrays, (str, bytes)) or not hasattr(arrays, "__iter__"):
        raise TypeError(f"{caller}: {name} must be a list of (tokens, dim) arrays, got one {type(arrays).__name__}")
    whole = isinstance(arrays, np.ndarray) and arrays.ndim == 2
    checked = [_array(caller, f"{name}[{place}]", one) for place, one in enumerate([arrays] if whole else arrays)]
    for place, array in enumerate(checked):
        if array.ndim != 2 or array.shape[1] < 1 or array.dtype.kind != "f":
            raise ValueError(
                f"{caller}: {name}[{place}] must be (tokens, dim) of floats, got {array.shape} of {array.dtype}"
            )
        if not len(array):
            raise ValueError(f"{caller}: {name}[{place}] has no token; leave it out")
    return [array.astype(np.float32, copy=False) for array in checked]


def _array(caller: str, name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{caller}: {name} must be (tokens, dim) of floats, got rows of several lengths") from None


def _check_dims(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    dim = left[0].shape[1]
    for array in (*left, *right):
        if array.shape[1] != dim:
            raise ValueError(
                f"score: all vectors must have one dim, got {dim} and {array.shape[1]}; encode both with one dim="
            )


def _operands(left: list[np.ndarray], right: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the ops take: tokens of all queries, of all documents, and where each one's begin."""
    return np.concatenate(left), np.concatenate(right), _offsets(left), _offsets(right)


def _offsets(arrays: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *map(len, arrays)]).astype(np.int32)
