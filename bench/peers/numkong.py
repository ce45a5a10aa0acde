"""NumKong (SimSIMD before): kernels on one thread; it leaves threads, and the search for the nearest, to its caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal, TypeAlias

import numkong
import numpy as np

from ..case import Contestant, Setting

KINDS: Final[tuple[Literal["float32", "bfloat16"], ...]] = ("float32", "bfloat16")
Packed: TypeAlias = "list[numkong.MaxSimPackedMatrix]"


def hamming_topk(setting: Setting, queries: np.ndarray, codes: np.ndarray, k: int) -> list[Contestant]:
    """queries, codes (n, bytes) uint8: all distances, a share of the codes to each thread, then NumPy's partition."""
    parts = [numkong.hammings_pack(part, "uint1") for part in np.array_split(codes, setting.threads)]
    pool = ThreadPoolExecutor(setting.threads)

    def distances(part: numkong.PackedMatrix) -> np.ndarray:
        return np.asarray(numkong.hammings_packed(queries, part))

    def run() -> np.ndarray:
        found = np.concatenate(list(pool.map(distances, parts)), axis=1)
        return np.sort(np.partition(found, k - 1, axis=1)[:, :k], axis=1)

    return [Contestant("numkong", run, "bits", lambda found: found.astype(np.int32))]


def maxsim(setting: Setting, query: np.ndarray, docs: np.ndarray) -> list[Contestant]:
    """query (tokens, dim), docs (n, tokens, dim), all of unit length; packed beforehand, as its documentation does.

    Its score is the sum of the least angular distances, 1 - cosine: ours is the number of query tokens less that.
    """
    pool = ThreadPoolExecutor(setting.threads)
    contestants = []
    for numerics in KINDS:
        asked, *packed = [numkong.maxsim_pack(numkong.astype(rows, numerics), numerics) for rows in (query, *docs)]
        shares = [packed[start :: setting.threads] for start in range(setting.threads)]

        def scores(share: Packed, asked: numkong.MaxSimPackedMatrix = asked) -> list[float]:
            return [numkong.maxsim_packed(asked, doc) for doc in share]

        def run(shares: list[Packed] = shares, scores: Callable[[Packed], list[float]] = scores) -> np.ndarray:
            found = np.empty(len(docs))
            for start, values in enumerate(pool.map(scores, shares)):
                found[start :: setting.threads] = values
            return len(query) - found

        contestants.append(Contestant(f"numkong {numerics}", run, numerics))
    return contestants
