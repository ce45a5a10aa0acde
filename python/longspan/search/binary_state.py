"""What a binary index's folder says of it beside its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import IndexFileError
from longspan.integers import LARGEST
from longspan.search.header import Column, listed, read_dim, read_floats, read_next_id, read_origin
from longspan.search.rows import Rows, Store, is_store
from longspan.search.spread import MeanDirection
from longspan.vectors.origin import Origin


@dataclass(frozen=True, slots=True)
class BinaryState:
    """As `header.State`."""

    FORMAT: ClassVar[str] = "longspan binary index"

    dim: int
    store: Store
    center_documents: np.ndarray | None  # (dim,) f32
    center_queries: np.ndarray | None
    next_id: int
    direction: MeanDirection
    origin: Origin | None = None

    def columns(self) -> dict[str, Column]:
        """Those of `Rows`."""
        like = Rows.empty(0, self.dim, self.store).columns()
        return {
            name: Column(column.dtype, column.shape[1:], is_scattered=name in ("vectors", "scales"))
            for name, column in like.items()
        }

    def to_json(self) -> dict[str, object]:
        """What `from_json` takes."""
        return {
            "dim": self.dim,
            "store": self.store,
            "next_id": self.next_id,
            "origin": None if self.origin is None else self.origin.to_json(),
            "center_documents": listed(self.center_documents),
            "center_queries": listed(self.center_queries),
            "direction_total": listed(self.direction.total),
            "direction_count": self.direction.count,
        }

    @classmethod
    def from_json(cls, body: JsonObject) -> BinaryState:
        """Raises: IndexFileError, a field is not what `to_json` gives."""
        dim, store = read_dim(body), body.get_str("store")
        if not is_store(store):
            raise IndexFileError(f"{body.source}: store {store!r} is not one of an index")
        total = read_floats(body, "direction_total", dim, np.float64)
        if total is None:
            raise IndexFileError(f"{body.source}: 'direction_total' must be numbers, got null")
        count = body.get_int("direction_count")
        if not 0 <= count <= LARGEST or (np.abs(total) > 1.001 * count).any():  # a sum of so many vectors of length 1
            raise IndexFileError(f"{body.source}: 'direction_total' is no sum of {count} directions")
        return cls(
            dim=dim,
            store=store,
            center_documents=read_floats(body, "center_documents", dim, np.float32),
            center_queries=read_floats(body, "center_queries", dim, np.float32),
            next_id=read_next_id(body),
            direction=MeanDirection(total, count),
            origin=read_origin(body),
        )
