"""attention_varlen of torch tensors against float64: every kind of bias, mask and shape, and its gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

from gpu_errors import EXP2, matrix_sum, sums_error
from kernel_cases import FLOATS, HALVES, ON_GPU, ROUNDING, assert_within, cu_seqlens, normal, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import attention_varlen_forward as forward
from longspan.kernels.rope import rope as rope_of
from longspan.kernels.rope import rotate as rotate_in_place
from longspan.ops.attention_varlen import key_limits
from longspan.packing.tiles import list_tiles

HEADS = 2
LOG2_E = float(np.log2(np.e))
RAGGED = (0, 1, 63, 64, 65, 3, 0, 1, 100)
MAX_POSITION = 2048


@dataclass(frozen=True, slots=True)
class Case:
    """Packed rows, offsets and options, as the op takes them."""

    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    offsets: tuple[torch.Tensor, torch.Tensor]
    options: dict[str, object]

    def run(self, **more: object) -> torch.Tensor:
        return ops.attention_varlen(*self.rows, *self.offsets, **self.options, **more, backend="triton")

    def reference(self, kind: type, rows: tuple[np.ndarray, ...] | None = None) -> np.ndarray:
        rows = rows or tuple(plain(x, kind) for x in self.rows)
        options = {name: plain(value, kind) for name, value in self.options.items()}
        return reference.attention_varlen(*rows, *map(plain, self.offsets), **options)


def rope(half: int, **more: object) -> dict[str, object]:
    angles = np.outer(np.arange(MAX_POSITION), 10000.0 ** -(np.arange(half) / half))
    return {"cos": tensor(np.cos(angles), torch.float32), "sin": tensor(np.sin(angles), torch.float32), **more}


def table(reach: int) -> torch.Tensor:
    return normal((HEADS, 2 * reach + 1), 4, dtype=torch.float32)


SLOPES = tensor(np.array([0.5, 0.0625]), torch.float32)
OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "scale": {"softmax_scale": 1.0},
    "alibi": {"slopes": SLOPES},
    "table": {"bias_table": table(20)},
    "table of one": {"bias_table": table(0)},
    "causal": {"causal": True},
    "window": {"window": (5, 3)},
    "left window": {"window": (70, -1)},
    "causal window": {"causal": True, "window": (66, 9)},
    "alibi table window": {"slopes": SLOPES, "bias_table": table(100), "window": (0, 90)},
    "rope": rope(8),
    "full rope": rope(16),
    "interleaved": rope(8, interleaved=True),
    "rope alibi causal": rope(3, slopes=SLOPES, causal=True),
    "rope by key": {},  # tables as long as the keys: `case` makes them
}


def case(
    lengths: tuple[int, ...],
    head_dim: int,
    kind: str,
    dtype: torch.dtype,
    lengths_k: tuple[int, ...] | None = None,
    kv_heads: int = 1,
) -> Case:
    lengths_k = lengths_k or lengths
    q = normal((sum(lengths), HEADS, head_dim), 1, dtype=dtype)
    k, v = (normal((sum(lengths_k), kv_heads, head_dim), seed, dtype=dtype) for seed in (2, 3))
    options = OPTIONS[kind]
    if kind == "rope by key":
        angles = normal((sum(lengths_k), head_dim // 2), 5, dtype=torch.float32)
        options = {"cos": angles.cos(), "sin": angles.sin(), "rotary_by_key": True}
    return Case((q, k, v), (cu_seqlens(lengths), cu_seqlens(lengths_k)), options)


def check(case: Case) -> torch.Tensor:
    """Compare with float64. Rounding a weight moves a result by at most u * (weights times |v|), rounding rotated rows
    moves a score by at most (2 u + u^2) * scale * |q| |k|, and with it a weight by twice as much in proportion."""
    got = case.run(out=torch.full_like(case.rows[0], torch.nan))
    truth, native = case.reference(np.float64), case.reference(np.float32)
    u = ROUNDING[got.dtype]
    allowed = (u * (1 + 2.0**-8) + 2.0**-23) * np.abs(truth) + sums_error(truth, native)
    q, k, v = (plain(x) for x in case.rows)
    weighed = case.reference(np.float64, (q, k, np.abs(v)))
    allowed += 2 * EXP2 * weighed  # of the weights, and of their sum
    if got.dtype != torch.float32:
        longest = [np.linalg.norm(x, axis=-1).max(initial=0) for x in (q, k)]
        moved = matrix_sum(q.shape[-1]) + (2 * u + u * u if "cos" in case.options else 0)
        moved *= longest[0] * longest[1] * case.options.get("softmax_scale", q.shape[-1] ** -0.5)
        allowed += (u * (1 + 2.0**-8) + matrix_sum(len(k)) + np.expm1(2 * moved)) * weighed
    assert_within(got, truth, allowed)
    return got


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", OPTIONS)
def test_matches_reference(kind: str, dtype: torch.dtype) -> None:
    check(case(RAGGED, 32, kind, dtype))


@pytest.mark.parametrize(
    "kind", [kind for kind in OPTIONS if kind not in ("plain", "scale", "table of one", "full rope")]
)
def test_queries_end_where_the_keys_end(kind: str) -> None:
    lengths, lengths_k = (1, 5, 64, 40, 3), (70, 5, 130, 41, 64)
    if "rope" not in kind and kind != "interleaved":  # positions before the first key have no angle
        lengths, lengths_k = (*lengths, 70, 7), (*lengths_k, 30, 0)
    got = check(case(lengths, 16, kind, torch.float16, lengths_k))
    if lengths[-1] == 7:
        assert not got[-7:].any(), "no key must give zeros"


def test_more_sequences_than_one_look_finds() -> None:
    check(case(tuple(number % 3 for number in range(300)), 16, "alibi", torch.float16))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("head_dim", [1, 7, 33, 64, 96, 128, 160])
def test_any_head_dim(head_dim: int, dtype: torch.dtype) -> None:
    check(case((1, 130, 66), head_dim, "alibi", dtype, kv_heads=2))


@pytest.mark.parametrize("kind", ["plain", "alibi", "table", "alibi table window", "causal", "rope"])
def test_blocks_far_from_the_diagonal(kind: str) -> None:
    lengths = (1500, 700) if ON_GPU else (520,)
    check(case(lengths, 16, kind, torch.float16))
    check(case((1, 260), 16, kind, torch.float32))


LISTED = ((0, 1, 63, 64, 65, 3, 0, 1, 100), (130, 20, 20, 20, 20, 20, 5, 1, 1), (40,) * 5)


@pytest.mark.parametrize("kind", ["plain", "alibi", "table", "causal", "window", "causal window", "alibi table window"])
@pytest.mark.parametrize("lengths", LISTED, ids=str)
def test_listed_tiles(kind: str, lengths: tuple[int, ...]) -> None:
    """Tiles that the host has listed, with several short sequences in some of them, and empty ones behind."""
    batch = case(lengths, 32, kind, torch.float16)
    truth = check(batch).float()
    given = {"slopes": None, "bias_table": None, "causal": False, "window": None, **batch.options}
    left, right = key_limits(given["causal"], given["window"])
    options = forward.Options(32**-0.5, given["slopes"], given["bias_table"], window_left=left, window_right=right)
    for rows, fixed in ((64, {}), (128, {"count": 20, "groups": True}), (64, {"groups": False})):
        listed = list_tiles(batch.offsets[0].cpu().numpy(), rows, **fixed)
        spans = None if listed.spans is None else tensor(listed.spans)
        tiles, got = forward.Tiles(tensor(listed.tiles), spans, rows), torch.full_like(batch.rows[0], torch.nan)
        forward.attend(*batch.rows, *batch.offsets, options, got, tiles=tiles)
        # Two ways to sum the same weights: each is within the bound that `check` holds the first to.
        assert (got.float() - truth).abs().max() <= 4 * ROUNDING[torch.float16] * batch.rows[2].abs().max()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "half, head_dim, interleaved", [(16, 32, False), (3, 32, False), (8, 32, True), (48, 96, False)]
)
def test_rotated_in_place(half: int, head_dim: int, interleaved: bool, dtype: torch.dtype) -> None:
    """As the kernel that rotates into new memory, which attention's own test holds against float64; v stays."""
    lengths, tables = (70, 0, 1, 130), rope(half)
    fused = normal((201, 5, head_dim), 1, dtype=dtype)
    before, offsets = fused.clone(), cu_seqlens(lengths)
    positions = np.concatenate([np.arange(length) for length in lengths]).astype(np.int32)
    part = fused[:, :4]
    rotate_in_place(part, tensor(positions), tables["cos"], tables["sin"], interleaved=interleaved)
    expected = rope_of(before[:, :4], offsets, offsets, tables["cos"], tables["sin"], interleaved=interleaved)
    u = ROUNDING[dtype]
    assert (part.float() - expected.float()).abs().max() <= 2 * u * before.abs().max() * 2**0.5
    assert torch.equal(fused[:, 4], before[:, 4]) and torch.equal(part[..., 2 * half :], before[:, :4, 2 * half :])
    assert torch.equal(part[0, :, : 2 * half], before[0, :4, : 2 * half]), "place 0 is not turned"


def test_every_config() -> None:
    batch = case((150, 1, 300), 32, "rope alibi causal", torch.float16)
    slopes, cos, sin = batch.options["slopes"], batch.options["cos"], batch.options["sin"]
    options = forward.Options(32**-0.5, slopes, None, cos, sin, window_right=0)
    expected = check(batch).float()
    for config in {config for configs in forward.CONFIGS.values() for config in configs}:
        got = torch.full_like(batch.rows[0], torch.nan)
        forward.attend(*batch.rows, *batch.offsets, options, got, None, config)
        # Two ways to sum the same weights: each is within the bound that `check` holds the first to.
        assert (got.float() - expected).abs().max() <= 4 * ROUNDING[torch.float16] * batch.rows[2].abs().max()


def test_keys_rotated_once_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "config_for", lambda *_args: forward.Config(64, 32, 4, 1))
    for kind in ("rope", "interleaved", "rope by key"):
        batch = case((5, 70, 130), 32, kind, torch.float16)
        monkeypatch.setattr(forward, "ROTATE_ON_LOAD", 1000)
        on_load = batch.run()
        monkeypatch.setattr(forward, "ROTATE_ON_LOAD", 0)
        assert torch.equal(batch.run(), on_load)


@pytest.mark.parametrize("kind", ["alibi", "rope"])
def test_one_sequence_alone_gives_the_same_bits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tiles' size may depend on the batch, and with it the order of the sums; within one size nothing does.
    monkeypatch.setattr(forward, "config_for", lambda *_args: forward.Config(64, 32, 4, 1))
    batch = case((1, 150, 33, 0, 64), 32, kind, torch.float16)
    expected = batch.run()
    bounds = batch.offsets[0].tolist()
    for start, end in pairwise(bounds):
        offsets = cu_seqlens((end - start,))
        rows = tuple(x[start:end].clone() for x in batch.rows)
        one = replace(batch, rows=rows, offsets=(offsets, offsets))
        assert torch.equal(one.run(), expected[start:end])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter, at rows of NaN
def test_nan_stays_in_its_sequence() -> None:
    batch = case((20, 64, 70), 32, "alibi", torch.float16)
    expected = batch.run()
    for number in range(3):
        rows = tuple(x.clone() for x in batch.rows)
        rows[number][20:84] = torch.nan
        got = replace(batch, rows=rows).run()
        assert got[20:84].isnan().all()
        assert torch.equal(got[:20], expected[:20]) and torch.equal(got[84:], expected[84:])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
def test_nan_stays_in_its_sequence_of_a_tile_of_several(spoilt: float) -> None:
    batch = case((20, 24, 20), 32, "alibi", torch.float16)
    listed = list_tiles(batch.offsets[0].cpu().numpy(), 64)
    assert len(listed.tiles) == 1
    tiles = forward.Tiles(tensor(listed.tiles), tensor(listed.spans), 64)

    def run(rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
        got = torch.empty_like(rows[0])
        forward.attend(*rows, *batch.offsets, forward.Options(32**-0.5, SLOPES), got, tiles=tiles)
        return got

    expected = run(batch.rows)
    for number in range(3):
        rows = tuple(x.clone() for x in batch.rows)
        rows[number][20:44] = spoilt
        got = run(rows)
        assert not got[20:44].isfinite().any()
        assert torch.equal(got[:20], expected[:20]) and torch.equal(got[44:], expected[44:])


def test_laws() -> None:
    batch = case(RAGGED, 32, "plain", torch.float16)
    expected = batch.run()
    assert torch.equal(batch.run(window=(-1, -1)), expected)
    assert torch.equal(batch.run(softmax_scale=32**-0.5), expected)
    assert torch.equal(batch.run(causal=True), batch.run(window=(-1, 0)))
    assert torch.equal(batch.run(window=(0, 0)), batch.rows[2].expand(-1, HEADS, -1))


def test_layouts() -> None:
    lengths, dim = (65, 0, 20), 32
    offsets = cu_seqlens(lengths)
    fused = normal((sum(lengths), 3, HEADS, dim), 1, dtype=torch.float16)
    batch = Case(tuple(fused.unbind(1)), (offsets, offsets), OPTIONS["rope alibi causal"])
    expected = Case(tuple(x.contiguous() for x in batch.rows), batch.offsets, batch.options).run()
    assert torch.equal(batch.run(), expected)
    columns = tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in batch.rows)
    assert torch.equal(replace(batch, rows=columns).run(), expected)
    assert torch.equal(batch.run(out=torch.empty_like(columns[0])), expected)
    assert batch.run(out=batch.rows[0]) is batch.rows[0] and torch.equal(batch.rows[0], expected)


def test_nothing_to_do() -> None:
    for lengths in ((), (0,), (0, 0)):
        batch = case(lengths, 32, "plain", torch.float16)
        assert batch.run().shape == (0, HEADS, 32)
    no_keys = case((3, 2), 32, "plain", torch.float16, lengths_k=(0, 0))
    assert not no_keys.run().any()


def spelt_out(case: Case, rows: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The op in plain torch, in base 2 as the kernels have it, for its gradients. Every query sees a key."""
    options, outs = case.options, []
    dtype = rows[0].dtype
    left, right = options.get("window") or (-1, -1)
    for start_q, end_q, start_k, end_k in zip(*(x for o in case.offsets for x in (o.tolist(), o.tolist()[1:]))):
        q, k, v = (
            x[start:end].transpose(0, 1)
            for x, start, end in zip(rows, (start_q, start_k, start_k), (end_q, end_k, end_k))
        )
        k, v = (x.repeat_interleave(HEADS // x.shape[0], 0) for x in (k, v))
        j = torch.arange(end_k - start_k, device=q.device)
        i = torch.arange(end_q - start_q, device=q.device) + len(j) - (end_q - start_q)
        if "cos" in options:
            q, k = (
                rotated(x, options["cos"][at], options["sin"][at], options.get("interleaved", False))
                for x, at in ((q, i), (k, j))
            )
        ahead = j - i[:, None]
        scores = q @ k.transpose(1, 2) * options.get("softmax_scale", q.shape[-1] ** -0.5)
        if "slopes" in options:
            scores = scores - options["slopes"][:, None, None].to(dtype) * ahead.abs()
        if "bias_table" in options:
            reach = options["bias_table"].shape[1] // 2
            scores = scores + options["bias_table"].to(dtype)[:, ahead.clamp(-reach, reach) + reach]
        hidden = (
            (ahead > 0) & bool(options.get("causal")) | (ahead < -left) & (left >= 0) | (ahead > right) & (right >= 0)
        )
        scores = (scores * LOG2_E).masked_fill(hidden, -torch.inf)
        total = scores.sub(scores.amax(-1, keepdim=True)).exp2().sum(-1, keepdim=True)
        weights = scores.sub(scores.amax(-1, keepdim=True) + total.log2()).exp2()
        if dtype == torch.float32:  # as a GPU's exponentials are: each off by its own share of what they may be
            weights = weights * (1 + EXP2 * torch.cos(torch.arange(weights.numel(), device=q.device)).view_as(weights))
        outs.append((weights @ v).transpose(0, 1))
    return torch.cat(outs)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    half, cos, sin = cos.shape[1], cos.to(x.dtype), sin.to(x.dtype)
    pairs = x[..., : 2 * half].unflatten(-1, (half, 2) if interleaved else (2, half))
    first, second = pairs.unbind(-1 if interleaved else -2)
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], -1 if interleaved else -2)
    return torch.cat([turned.flatten(-2), x[..., 2 * half :]], -1)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "alibi table window", "causal window", "interleaved", "rope alibi causal"])
def test_gradients(kind: str, dtype: torch.dtype) -> None:
    batch = case((0, 1, 40, 66, 5), 16, kind, dtype, lengths_k=(3, 1, 70, 66, 5))
    grad = normal(tuple(batch.rows[0].shape), 9, dtype=dtype)

    def gradients(run: object, dtype: torch.dtype) -> list[np.ndarray]:
        rows = tuple(x.detach().to(dtype).requires_grad_() for x in batch.rows)
        options = {
            n: v.to(torch.float64) if dtype == torch.float64 and isinstance(v, torch.Tensor) else v
            for n, v in batch.options.items()
        }
        run(replace(batch, rows=rows, options=options), rows).backward(grad.to(dtype))
        return [x.grad for x in rows]

    got = gradients(lambda case, _rows: case.run(), dtype)
    truth, native = gradients(spelt_out, torch.float64), gradients(spelt_out, dtype)
    for ours, true, theirs in zip(got, truth, native):
        # In the dtype's own arithmetic, twice: plain torch rounds after each step as the kernels do, and oftener.
        error, allowed = (x.double().sub(true).abs().max() for x in (ours, theirs))
        ulp = ROUNDING[dtype] * 2 * true.abs().max()
        assert error <= 2 * allowed + ulp, (error, allowed, ulp)


def test_gradients_of_tables_are_refused() -> None:
    batch = case((3,), 16, "alibi", torch.float32)
    asking = replace(batch, options={"slopes": SLOPES.clone().requires_grad_()})
    with pytest.raises(ValueError, match="attention_varlen: gradients reach q, k and v only; give slopes detached"):
        asking.run()
