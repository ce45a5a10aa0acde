"""From a database's own row identities to row numbers 0, 1, 2, ..."""

from __future__ import annotations

import numpy as np

from longspan.errors import DatabaseError

_CTID_BITS = 48  # a block of 32 bits, a place in it of 16


class RowNumbers:
    """The rows of one table, in the order in which they were read, by their identities.

    Args:
        keys: (rows,) int64, or (rows, 2) where a number and the partition's tell a row.
    """

    def __init__(self, keys: np.ndarray) -> None:
        self._partitions = np.unique(keys[:, 0]) if keys.ndim == 2 else None
        flat = self._flat(keys)
        self._order = None if (flat[1:] > flat[:-1]).all() else np.argsort(flat, kind="stable")
        self._keys = flat if self._order is None else flat[self._order]
        self._is_dense = len(flat) > 0 and self._order is None and int(flat[-1]) - int(flat[0]) == len(flat) - 1

    def of(self, keys: np.ndarray) -> np.ndarray:
        """(n,) int64 row numbers of identities. DatabaseError where the table had no such row: its index is damaged."""
        flat = self._flat(keys)
        if self._is_dense:
            places = flat - self._keys[0]
            are_there = (places >= 0) & (places < len(self._keys))
        else:
            places = np.searchsorted(self._keys, flat)
            are_there = places < len(self._keys)
            are_there[are_there] = self._keys[places[are_there]] == flat[are_there]
        if not are_there.all():
            raise DatabaseError("a join gives rows that the table does not: the database or an index of it is damaged")
        return places if self._order is None else self._order[places]

    def _flat(self, keys: np.ndarray) -> np.ndarray:
        if self._partitions is None:
            return keys
        return (np.searchsorted(self._partitions, keys[:, 0]) << _CTID_BITS) | keys[:, 1]
