"""`Retrofitted`: nodes and their vectors, with all that a later update, a search or a store needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longspan.arguments import names_arguments
from longspan.relations.plan import Nodes, Plan
from longspan.relations.settings import Settings
from longspan.vectors.origin import Origin

if TYPE_CHECKING:
    import os

    from longspan.relations.database import Database
    from longspan.relations.schema import ColumnName
    from longspan.relations.search import Hit
    from longspan.relations.update import Mode, Update
    from longspan.relations.vectors import TextEncoder, Vectors


@names_arguments
@dataclass(slots=True)
class Retrofitted:
    """What `retrofit` gives.

    Args:
        plan: the nodes and relations.
        vectors: (n, d) float32, in the order of `plan.nodes`.
        base: (n, d) float32, what the encoder gave; rows of NaN for nodes without one.
        settings: how it was computed.
        steps: how many steps were taken (products of conjugate gradients, for the exact optimum).
        change: how far a row moved at most in the last step (for the exact optimum, the largest relative residual).
        seconds: what solving took, without embedding.
        model: the encoder's name, where it has one.
        origin: which model made the base vectors, and in which compute type, where the encoder tells.
        report: of a result that `update` gave, what it did.
    """

    plan: Plan
    vectors: np.ndarray
    base: np.ndarray
    settings: Settings
    steps: int
    change: float
    seconds: float = 0.0
    model: str | None = None
    origin: Origin | None = None
    report: Update | None = None

    def __repr__(self) -> str:
        count, dim = self.vectors.shape
        how = f"solver={self.settings.solver!r}, steps={self.steps}, change={self.change:.3g}"
        return f"Retrofitted({count:,} vectors of {dim}, {how})"

    @property
    def nodes(self) -> Nodes:
        """(table, column, text) of each row."""
        return self.plan.nodes

    def vector(self, column: str | ColumnName, text: str) -> np.ndarray:
        """(d,) of one value. ValueError where there is none."""
        found: np.ndarray = self.vectors[self.plan.node(column, text)]
        return found

    def neighbors(
        self, column: str | ColumnName, text: str, k: int = 10, *, within: str | ColumnName | None = None
    ) -> list[Hit]:
        """The k values whose vectors are nearest to a value's, by cosine, itself left out; more of it at
        `longspan.relations.search.neighbors`."""
        from longspan.relations import search

        return search.neighbors(self, self.plan.node(column, text), k, within=within)

    def find(
        self, text: str, encoder: TextEncoder, k: int = 10, *, within: str | ColumnName | None = None
    ) -> list[Hit]:
        """The k values nearest to any text, which is placed where a value without relations would lie."""
        from longspan.relations import search

        return search.find(self, text, encoder, k, within=within)

    def complete(
        self, column: str | ColumnName, text: str, target: str | ColumnName, k: int = 10, *, known: bool = True
    ) -> list[Hit]:
        """Which values of the column `target` go with this value: link prediction by cosine.

        `known=False` leaves out those that a relation joins to it already; a hit says whether one does.
        """
        from longspan.relations import search

        return search.complete(self, self.plan.node(column, text), target, k, known=known)

    def update(
        self,
        source: Database | Plan,
        vectors: Vectors | None = None,
        *,
        mode: Mode = "refresh",
        show_progress_bar: bool | None = None,
    ) -> Retrofitted:
        """A new result of what the database holds now; see `update.update`."""
        from longspan.relations import update

        return update.update(self, source, vectors, mode=mode, show_progress_bar=show_progress_bar)

    def save(self, out: str | os.PathLike[str], *, table: str | None = None, force: bool = False) -> None:
        """Write it to a .npz file, a Parquet file, or a table in SQLite or PostgreSQL; more of it at
        `longspan.relations.stores.save`."""
        from longspan.relations import stores

        stores.save(self, out, table=table, force=force)

    @classmethod
    def load(cls, place: str | os.PathLike[str], *, table: str | None = None) -> Retrofitted:
        """Read back what `save` wrote, Parquet apart; see `longspan.relations.stores.load`."""
        from longspan.relations import stores

        return stores.load(place, table=table)
