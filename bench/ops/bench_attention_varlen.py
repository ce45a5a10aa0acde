"""attention_varlen, plain, with ALiBi and with RoPE, in each compute type, beside torch's SDPA and FlexAttention.

    python -m bench.ops.bench_attention_varlen [--full] [--json FILE]

q, k and v are slices of one fused projection, about 8192 tokens: sequences of one length, and of the lengths that real
collections have. torch gets the same values as a batch, each of q, k and v by itself, padded to the longest where
lengths differ. RoPE is applied within our time; no peer fuses it, so that none takes part there. Only the two matrix
products are counted: 4 * length^2 * head_dim for a sequence and head.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference
from longspan.models.positions import alibi_slopes, rotary_tables
from longspan.models.spec import Rotary

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work, float32_limit
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..shapes import LENGTHS as REAL_LENGTHS
from ..shapes import MODELS, ModelShape
from ..truth import limits_of, rounded

BUDGET: Final = 65  # seconds of the short form, about
TOTAL_TOKENS: Final = 8192
LENGTHS: Final = (32, 128, 512, 2048, 8192)
SHORT_LENGTHS: Final[Mapping[str, tuple[int, ...]]] = {"MiniLM": (128,), "base": (32, 512, 2048)}
COLLECTIONS: Final = ("claims", "wiki passages", "abstracts")
SHORT_COLLECTIONS: Final = ("wiki passages",)
HEADS: Final = ("MiniLM", "base")  # 12 of 32; 12 of 64, as XLM-R and jina v2 base
DTYPES: Final[tuple[ComputeType, ...]] = ("float32", "bfloat16", "int8")  # int8: q k^T alone, from 256 keys on
POSITIONS: Final = ("plain", "alibi", "rope")
BIAS_LENGTH: Final = 512
CHECKED_ROWS: Final = 64


def cases(setting: Setting) -> Iterator[Case]:
    """Heads, a kind of position and a length each; in the short form positions at one length only."""
    for model in HEADS:
        for length in SHORT_LENGTHS[model] if setting.is_short else LENGTHS:
            for position in POSITIONS:
                if not setting.is_short or position == "plain" or (length == 512 and model == "base"):
                    yield _case(model, position, [length] * (TOTAL_TOKENS // length), {"length": length}, "length")
        for name in SHORT_COLLECTIONS if setting.is_short else COLLECTIONS:
            lengths = REAL_LENGTHS[name].draw(1000, 1, most=512)
            lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), TOTAL_TOKENS))]
            yield _case(model, "plain", lengths.tolist(), {"lengths": name}, None)

        yield _bias_case(model)


def _bias_case(model: str) -> Case:
    """Ours without positions, with ALiBi and with RoPE in turn: what they cost."""
    shape = MODELS[model]
    lengths = [BIAS_LENGTH] * (TOTAL_TOKENS // BIAS_LENGTH)
    labels: dict[str, str | int] = {"heads": f"{shape.heads} x {shape.head_dim}", "what a bias costs at": BIAS_LENGTH}
    work = _work(shape, lengths)

    def build(setting: Setting) -> Contest:
        contests = [_contest(position, shape.heads, shape.head_dim, lengths, setting, False) for position in POSITIONS]
        everyone = [
            Contestant(
                each.name if position == "plain" else f"{each.name} {position}",
                each.run,
                each.numerics,
                partial(_beside, each, contest.truth),
            )
            for position, contest in zip(POSITIONS, contests, strict=True)
            for each in contest.contestants
        ]
        limits = {name: max(contest.limits[name] for contest in contests) for name in contests[0].limits}
        return Contest(tuple(everyone), np.zeros_like(contests[0].truth), limits)

    return Case("attention_varlen", labels, work, build)


def _beside(contestant: Contestant, truth: np.ndarray, result: object) -> np.ndarray:
    """What it differs from its own truth by: each kind of position has another."""
    return contestant.read(result) - truth


def _work(shape: ModelShape, lengths: list[int]) -> Work:
    pairs = float(sum(length**2 for length in lengths))
    width = shape.heads * shape.head_dim
    return Work(4 * pairs * width, 4.0 * 4 * sum(lengths) * width)


def _case(model: str, position: str, lengths: list[int], label: dict[str, str | int], plot: str | None) -> Case:
    heads, head_dim = MODELS[model].heads, MODELS[model].head_dim
    work = _work(MODELS[model], lengths)
    labels = {"heads": f"{heads} x {head_dim}", "position": position, **label}
    asks = "" if position == "rope" else "attention"
    return Case("attention_varlen", labels, work, partial(_contest, position, heads, head_dim, lengths), asks, plot)


def _contest(
    position: str, heads: int, head_dim: int, lengths: list[int], setting: Setting, has_peers: bool = True
) -> Contest:
    rng = np.random.default_rng([lengths[0], heads, head_dim])
    fused = rng.standard_normal((sum(lengths), 3, heads, head_dim), np.float32)
    q, k, v = (fused[:, part] for part in range(3))
    cu_seqlens = np.cumsum([0, *lengths], dtype=np.int32)
    slopes = alibi_slopes(heads) if position == "alibi" else None
    cos, sin = rotary_tables(Rotary(10000.0, head_dim), max(lengths)) if position == "rope" else (None, None)
    contestants = []
    for dtype in DTYPES:
        out = np.empty(q.shape, np.float32)

        def run(dtype: ComputeType = dtype, out: np.ndarray = out) -> object:
            return ops.attention_varlen(
                q, k, v, cu_seqlens, cu_seqlens, slopes=slopes, cos=cos, sin=sin, dtype=dtype, out=out
            )

        contestants.append(Contestant(our_name(dtype), run, dtype))
    entered: list[Contestant] = []
    absent: dict[str, str] = {}
    if position != "rope" and has_peers:
        entered, absent = enter("attention", setting, q, k, v, np.asarray(lengths), slopes)
    rows = slice(max(0, lengths[0] - CHECKED_ROWS), lengths[0])  # the last ones of the first sequence
    everyone = tuple(replace(each, read=partial(_rows, each, rows)) for each in [*contestants, *entered])

    def attend(numerics: Numerics) -> np.ndarray:
        ends = [np.array([0, count], np.int32) for count in (rows.stop - rows.start, lengths[0])]
        own_slopes, own_cos, own_sin = (
            None if table is None else table.astype(np.float64) for table in (slopes, cos, sin)
        )
        first = [rounded(part[: lengths[0]], numerics, None) for part in (q, k, v)]
        return reference.attention_varlen(
            first[0][rows], first[1], first[2], *ends, slopes=own_slopes, cos=own_cos, sin=own_sin
        )

    truth = attend("float32")
    coarser: dict[Numerics, np.ndarray] = {numerics: attend(numerics) for numerics in DTYPES[1:]}
    return Contest(everyone, truth, limits_of(truth, coarser, float32_limit(head_dim)), absent)


def _rows(contestant: Contestant, rows: slice, result: object) -> np.ndarray:
    return contestant.read(result)[rows]


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_attention_varlen", __doc__, cases))
