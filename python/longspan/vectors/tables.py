"""Results as tables, of pyarrow or pandas, and in one line for a REPL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.vectors.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas
    import pyarrow

SHOWN: Final = 3  # of what there may be many, in one line
Columns = Mapping[str, "np.ndarray | list[str]"]


def arrow_table(columns: Columns) -> pyarrow.Table:
    """`pyarrow.Table` of equally long columns; one of (n, dim) becomes lists of fixed size.

    Raises: ImportError, pyarrow is not installed.
    """
    pa = _pyarrow()
    return pa.table({name: _arrow_column(pa, values) for name, values in columns.items()})


def pandas_frame(columns: Columns) -> pandas.DataFrame:
    """`pandas.DataFrame` of the columns; one of (n, dim) becomes an array a row.

    Raises: ImportError, pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas needs pandas, which is not installed: pip install pandas") from error
    return pandas.DataFrame({name: list(values) if np.ndim(values) > 1 else values for name, values in columns.items()})


class Tabular:
    """A result that is a table. A subclass says what its columns are."""

    __slots__ = ()

    def _columns(self) -> Columns:
        raise NotImplementedError

    def to_arrow(self) -> pyarrow.Table:
        """The result as a table of pyarrow's; the class says which columns it has.

        Raises: ImportError, pyarrow is not installed: `pip install 'longspan[parquet]'`.
        """
        return arrow_table(self._columns())

    def to_pandas(self) -> pandas.DataFrame:
        """The result as a frame of pandas', with the columns of `to_arrow`.

        Raises: ImportError, pandas is not installed.
        """
        return pandas_frame(self._columns())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScoredIds(Tabular):
    """Rankings: (k,) arrays of one query, or (num_queries, k).

    Attributes:
        ids: int64; -1 where there are no more.
        scores: f32, higher is better.
    """

    ids: IntArray
    scores: FloatArray

    def __repr__(self) -> str:
        return ranking_line(type(self).__name__, self.ids, self.scores)

    def _columns(self) -> dict[str, np.ndarray]:
        return ranking_columns(self.ids, score=self.scores)


def ranking_columns(ids: np.ndarray, **values: np.ndarray | None) -> dict[str, np.ndarray]:
    """One row a hit: query and rank, both from 0, id, and what else there is; places without a hit (-1) are left out.

    Args:
        ids: (k,) of one query, or (num_queries, k).
        values: each of the same shape; None is left out.
    """
    rows = np.atleast_2d(ids)
    there = rows >= 0
    queries, ranks = np.nonzero(there)
    columns = {"query": queries, "rank": ranks, "id": rows[there]}
    return columns | {name: np.atleast_2d(each)[there] for name, each in values.items() if each is not None}


def ranking_line(kind: str, ids: np.ndarray, scores: np.ndarray, *, score: str = "score") -> str:
    """The best hits of one query, or of each of the first queries the best one, in a line."""
    if not ids.size:
        return f"{kind}({'no queries' if ids.ndim == 2 and not len(ids) else 'no hits'})"
    if ids.ndim == 1:
        count = int((ids >= 0).sum())
        hits = zip(ids[: min(SHOWN, count)].tolist(), scores.tolist())
        found = [f"{number} ({score} {value:.4g})" for number, value in hits]
        return f"{kind}({_counted(count, 'hit')}: {_listed(found, count)})"
    num_queries, k = ids.shape
    best = [str(number) if number >= 0 else "none" for number in ids[:SHOWN, 0].tolist()]
    each = f"{'up to ' if (ids < 0).any() else ''}{_counted(k, 'hit')} each"
    return f"{kind}({_counted(num_queries, 'query', 'queries')}, {each}; best ids {_listed(best, num_queries)})"


def clipped(text: str, size: int = 24) -> str:
    """The beginning of a text as Python writes it, without line ends."""
    return repr(text) if len(text) <= size else repr(text[: size - 1] + "…")


def _listed(shown: list[str], count: int) -> str:
    return ", ".join([*shown, *(["..."] if count > len(shown) else [])])


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _arrow_column(pa: ModuleType, values: np.ndarray | list[str]) -> object:
    if isinstance(values, list):
        return pa.array(values, pa.string())
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1])


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("to_arrow needs pyarrow, which is an extra: pip install 'longspan[parquet]'") from error
    module: ModuleType = pyarrow
    return module
