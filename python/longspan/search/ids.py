"""Ids of an index's rows: given ones checked, new ones handed out, rows deleted by them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from longspan.integers import LARGEST
from longspan.search.segment import C, Columns, Segment, rises


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose ids they are, as errors say it."""

    name: str  # of the class
    noun: str


def check_ids(owner: Owner, method: str, ids: np.ndarray, name: str = "ids") -> np.ndarray:
    """(n,) int64."""
    if isinstance(ids, Set):
        raise ValueError(f"{owner.name}.{method}: {name} must be (n,) integers, got a set; give a list of them")
    given = np.asarray(ids)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        got = f"{given.shape} {given.dtype}" if given.dtype != np.object_ or given.ndim else type(ids).__name__
        raise ValueError(f"{owner.name}.{method}: {name} must be (n,) integers, got {got}")
    if given.size and given.dtype.kind == "u" and int(given.max()) > LARGEST:
        raise ValueError(f"{owner.name}.{method}: {name} must be below 2^63, got {given.max()}")
    return given.astype(np.int64)


def check_filter(owner: Owner, filter: np.ndarray | None) -> np.ndarray | None:
    """None, bool by id, or sorted ids."""
    if filter is None:
        return None
    given = np.asarray(filter)
    if given.dtype == np.bool_ and given.ndim == 1:
        return given
    return np.unique(check_ids(owner, "search", filter, "filter"))


def fresh_ids(
    owner: Owner, segments: Sequence[Segment[Columns]], next_id: int, ids: np.ndarray | None, n: int
) -> np.ndarray:
    """(n,) int64 ids that no segment holds yet; None counts on from `next_id`."""
    if ids is None and next_id + n - 1 > LARGEST:
        left = LARGEST - next_id + 1
        raise ValueError(
            f"{owner.name}.add: {n} ids from {next_id} on would pass 2^63, {left} are left; give ids that are free"
        )
    if ids is None:
        return np.arange(next_id, next_id + n, dtype=np.int64)
    fresh = _all_different(owner, ids, n)
    if n and fresh.min() < next_id:
        for segment in segments:
            if (taken := fresh[segment.find(fresh) >= 0]).size:
                raise ValueError(f"{owner.name}.add: id {taken[0]} is in the {owner.noun} already; delete it first")
    return fresh


def without(owner: Owner, segments: Sequence[Segment[C]], ids: np.ndarray) -> tuple[Segment[C], ...]:
    """The segments, the rows of these ids deleted. ValueError where one is not there."""
    wanted = np.unique(check_ids(owner, "delete", ids))
    places = [segment.find(wanted) for segment in segments]
    is_found = np.zeros(len(wanted), np.bool_)
    for rows in places:
        is_found |= rows >= 0
    if not is_found.all():
        raise ValueError(f"{owner.name}.delete: id {wanted[~is_found][0]} is not in the {owner.noun}")
    return tuple(
        segment.with_deleted(rows[rows >= 0]) if (rows >= 0).any() else segment
        for segment, rows in zip(segments, places)
    )


def live_ids(segments: Sequence[Segment[Columns]]) -> np.ndarray:
    """(n,) int64 ids of all rows that are not deleted, in order."""
    parts = [np.zeros(0, np.int64)]
    for segment in segments:
        segment.verify("ids")
        parts.append(segment.rows.ids[segment.live_rows()])
    return np.concatenate(parts)


def wanted_bits(segment: Segment[Columns], filter: np.ndarray | None) -> np.ndarray | None:
    """Which rows may be found, as bits, most significant first; None for all. `filter`: as `check_filter` gives it."""
    live = None if segment.deleted is None else ~segment.deleted
    if filter is None:
        return live
    segment.verify("ids")
    ids = segment.rows.ids
    if filter.dtype == np.bool_:
        is_wanted = ids < len(filter)
        is_wanted[is_wanted] = filter[ids[is_wanted]]
    elif len(filter) == 0:
        is_wanted = np.zeros(len(ids), np.bool_)
    else:  # sorted ids
        is_wanted = filter[np.minimum(np.searchsorted(filter, ids), len(filter) - 1)] == ids
    bits = np.packbits(is_wanted)
    return bits if live is None else bits & live


def _all_different(owner: Owner, ids: np.ndarray, n: int) -> np.ndarray:
    """(n,) int64, 0 or above."""
    fresh = check_ids(owner, "add", ids)
    if len(fresh) != n:
        raise ValueError(f"{owner.name}.add: ids must be ({n},) (as rows), got {fresh.shape}")
    if n and fresh.min() < 0:
        raise ValueError(f"{owner.name}.add: ids must be 0 or above, got {fresh.min()}")
    if n and not rises(fresh):
        ordered = np.sort(fresh)
        if (twice := ordered[1:][ordered[1:] == ordered[:-1]]).size:
            raise ValueError(f"{owner.name}.add: ids must differ, {twice[0]} is given twice")
    return fresh
