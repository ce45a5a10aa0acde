"""Cases of attention_varlen that its tests share: packed q, k, v and options, seeded; and how a result is held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

import inputs
from errors import assert_no_worse
from longspan import ops, reference

HEADS = 4
RAGGED = (0, 1, 63, 64, 65, 3, 200, 0, 1, 17, 48, 130)  # one batch: enough values for a fair comparison of errors
MAX_POSITION = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Packed q, k, v with their offsets, and the op's options. Equal only to itself, so that results can be kept."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    cu_seqlens_q: np.ndarray
    cu_seqlens_k: np.ndarray
    options: dict[str, object]

    @property
    def args(self) -> tuple[np.ndarray, ...]:
        return self.q, self.k, self.v, self.cu_seqlens_q, self.cu_seqlens_k

    def double(self) -> Case:
        q, k, v = (array.astype(np.float64) for array in (self.q, self.k, self.v))
        options = {
            name: value.astype(np.float64) if isinstance(value, np.ndarray) else value
            for name, value in self.options.items()
        }
        return replace(self, q=q, k=k, v=v, options=options)

    def sequence(self, number: int) -> Case:
        """One sequence of it, in memory of its own."""
        rows = slice(*self.cu_seqlens_q[number : number + 2])
        keys = slice(*self.cu_seqlens_k[number : number + 2])
        q, k, v = self.q[rows].copy(), self.k[keys].copy(), self.v[keys].copy()
        options = dict(self.options)
        if options.get("rotary_by_key"):
            options |= {name: self.options[name][keys].copy() for name in ("cos", "sin")}
        offsets = {"cu_seqlens_q": inputs.cu_seqlens([len(q)]), "cu_seqlens_k": inputs.cu_seqlens([len(k)])}
        return replace(self, q=q, k=k, v=v, options=options, **offsets)


@cache
def case(
    lengths: tuple[int, ...],
    head_dim: int,
    kind: str = "plain",
    *,
    lengths_k: tuple[int, ...] | None = None,
    kv_heads: int = HEADS,
) -> Case:
    """Made once for all instruction sets; `kind` is one of OPTIONS."""
    keys = lengths if lengths_k is None else lengths_k
    q = inputs.normal((sum(lengths), HEADS, head_dim), 1)
    k = inputs.normal((sum(keys), kv_heads, head_dim), 2)
    v = inputs.normal((sum(keys), kv_heads, head_dim), 3)
    options = OPTIONS[kind]
    if kind == "full rope":
        options = rope(head_dim // 2)
    if kind == "rope by key":
        options = rope_by_key(len(k), min(head_dim // 2, 9))
    return Case(q, k, v, inputs.cu_seqlens(list(lengths)), inputs.cu_seqlens(list(keys)), options)


@cache
def references(dtype: str, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The result in float64, nothing rounded, and that of the same maths in `dtype`."""
    double = case.double()
    return (
        reference.attention_varlen(*double.args, **double.options),
        reference.attention_varlen(*case.args, **case.options, dtype=dtype),
    )


def attend(dtype: str, case: Case, **options: object) -> np.ndarray:
    """The op's result."""
    return ops.attention_varlen(*case.args, **{**case.options, **options}, dtype=dtype)


def check(dtype: str, case: Case) -> np.ndarray:
    """The op's result, which lies where it was asked for and is as near to float64 as `dtype` can be."""
    poisoned = np.full_like(case.q, np.nan)
    assert attend(dtype, case, out=poisoned) is poisoned
    assert_no_worse(poisoned, *references(dtype, case))
    return poisoned


def rope(half: int, interleaved: bool = False) -> dict[str, object]:
    """Tables of MAX_POSITION rows."""
    angles = np.outer(np.arange(MAX_POSITION), 10000.0 ** -(np.arange(half) / half))
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)}
    return {**{name: table.astype(np.float32) for name, table in tables.items()}, "interleaved": interleaved}


def rope_by_key(total_k: int, half: int) -> dict[str, object]:
    """Angles of no order: a row for each key of the pack."""
    angles = inputs.normal((total_k, half), 5)
    return {"cos": np.cos(angles), "sin": np.sin(angles), "rotary_by_key": True}


def slopes() -> np.ndarray:
    return np.array([0.5, 0.25, 0.125, 0.0], np.float32)


def bias_table(max_distance: int) -> np.ndarray:
    return inputs.normal((HEADS, 2 * max_distance + 1), 4)


OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "scale": {"softmax_scale": 1.0},
    "alibi": {"slopes": slopes()},
    "table": {"bias_table": bias_table(20)},
    "table of one": {"bias_table": bias_table(0)},
    "causal": {"causal": True},
    "window": {"window": (5, 3)},
    "left window": {"window": (70, -1)},
    "causal window": {"causal": True, "window": (66, 9)},
    "alibi table window": {"slopes": slopes(), "bias_table": bias_table(100), "window": (0, 90)},
    "rope": rope(8),
    "full rope": {},  # tables as wide as the heads: `case` makes them
    "rope by key": {},  # tables as long as the keys: these too
    "interleaved": rope(8, interleaved=True),
    "rope alibi causal": {**rope(3), "slopes": slopes(), "causal": True},
}
