"""What `bench.gpu.smoke` runs: each kernel at a shape of real models, with a truth by plain torch in f32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from bench.gpu.attention import padded
from bench.gpu.contest import Setting
from longspan.kernels import attention_varlen_forward as forward
from longspan.kernels.attention_varlen_backward import attend_backward
from longspan.kernels.embed import TableLora, embed
from longspan.kernels.gated import gated
from longspan.kernels.layer_norm import layer_norm, rms_norm
from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear, widened
from longspan.kernels.maxsim import maxsim, maxsim_topk
from longspan.kernels.multi_lora import launch_multi_lora, launch_shrink
from longspan.kernels.pool_logits import pool_logits
from longspan.kernels.pool_mean import pool_mean
from longspan.kernels.product import launch_product
from longspan.kernels.retrofit_step import group_sums, retrofit_step
from longspan.kernels.rope import rotate
from longspan.kernels.span_mean import span_mean
from longspan.packing.tiles import list_tiles

Case: TypeAlias = tuple[Callable[[], torch.Tensor], torch.Tensor, float]
LIMIT = 1e-2  # of bf16
EXACT = 1e-5  # of f32 sums in another order


def cases(setting: Setting) -> dict[str, Callable[[], Case]]:
    """By name; each is made when it is called."""
    found: dict[str, Callable[[], Case]] = {
        "layer_norm": partial(norm, setting, True),
        "rms_norm": partial(norm, setting, False),
        "gated": partial(gated_pair, setting),
        "embed": partial(embedding, setting),
        "rotate": partial(rotation, setting),
        "attention": partial(attention, setting),
        "attention_alibi": partial(attention, setting, alibi=True),
        "attention_128": partial(attention, setting, head_dim=128, alibi=True),
        "attention_causal_grouped": partial(attention, setting, head_dim=128, kv_heads=2, causal=True),
        "attention_window": partial(attention, setting, window=64),
        "attention_table": partial(attention, setting, table=True),
        "attention_listed": partial(attention, setting, alibi=True, listed=True),
        "attention_groups": partial(attention, setting, alibi=True, listed=True, length=20),
        "attention_rope_on_load": partial(attention, setting, rope=True, length=64),
        "attention_f32": partial(attention, setting, dtype=torch.float32, length=128),
        "attention_backward": partial(backward, setting),
        "attention_sm90": partial(attention, setting, alibi=True, sm90=True),
        "shrink": partial(shrink, setting),
        "multi_lora": partial(lora, setting),
        "linear_gelu_tanh": partial(epilogue, setting),
        "linear_adapters": partial(folded, setting),
        "product": partial(fused, setting, None),
        "product_pair": partial(fused, setting, "first"),
        "pool_mean": partial(means, setting, False),
        "span_mean": partial(means, setting, True),
        "pool_logits": partial(words, setting),
        "retrofit_step": partial(retrofit, setting, False),
        "group_sums": partial(retrofit, setting, True),
        "maxsim": partial(scores, setting, "half"),
        "maxsim_int8": partial(scores, setting, "int8"),
        "maxsim_topk": partial(scores, setting, "topk"),
        "cuda_binarize": partial(codes, setting, "binarize"),
        "cuda_span_mean": partial(means, setting, True, backend="cuda"),
        "cuda_hamming": partial(codes, setting, "hamming"),
        "cuda_hamming_topk": partial(codes, setting, "topk"),
    }
    return found


def offsets_of(setting: Setting, lengths: list[int]) -> torch.Tensor:
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=setting.device)


def ids_of(setting: Setting, rows: int, below: int, least: int = 0) -> torch.Tensor:
    return torch.randint(least, below, (rows,), device=setting.device, dtype=torch.int32)


def norm(setting: Setting, centred: bool) -> Case:
    x, residual = (setting.normal(setting.size(16384, 20), setting.size(768, 40)) for _ in range(2))
    weight, bias = (setting.normal(x.shape[1], dtype=torch.float32) for _ in range(2))
    z = x.float() + residual.float()
    if centred:
        truth = F.layer_norm(z, (x.shape[1],), weight, bias, 1e-5)
        return lambda: layer_norm(x, weight, bias, eps=1e-5, residual=residual, out=None), truth, LIMIT
    truth = F.rms_norm(z, (x.shape[1],), weight, 1e-5)
    return lambda: rms_norm(x, weight, eps=1e-5, residual=residual, out=None), truth, LIMIT


def gated_pair(setting: Setting) -> Case:
    u = setting.normal(setting.size(16384, 20), setting.size(6144, 40))
    bias = setting.normal(u.shape[1])
    first, second = (u.float() + bias.float()).chunk(2, dim=1)
    return lambda: gated(u, bias, activation="gelu", gate="first"), F.gelu(first) * second, LIMIT


def fused(setting: Setting, gate: str | None) -> Case:
    width, depth = setting.size(3072, 40), setting.size(768, 50)
    x, residual = setting.normal(setting.size(16384, 20), depth), setting.normal(setting.size(16384, 20), width)
    outputs = width if gate is None else 2 * width
    weight, bias = setting.normal(outputs, depth) * depth**-0.5, setting.normal(outputs)
    out, u = torch.empty_like(residual), x.float() @ weight.float().T + bias.float()
    truth = residual.float() + (F.gelu(u) if gate is None else F.gelu(u[:, :width]) * u[:, width:])

    def call() -> torch.Tensor:
        launch_product(x, weight, bias, "gelu", gate, residual, out)
        return out

    return call, truth, LIMIT


def embedding(setting: Setting) -> Case:
    rows, dim, vocab = setting.size(16384, 20), setting.size(1024, 40), setting.size(30000, 50)
    ids, places, tasks = ids_of(setting, rows, vocab), ids_of(setting, rows, 512), ids_of(setting, rows, 5, -1)
    word, table = setting.normal(vocab, dim), setting.normal(514, dim)
    token_type, weight, bias = (setting.normal(dim, dtype=torch.float32) for _ in range(3))
    lora = TableLora(setting.normal(5, vocab, 4), setting.normal(5, 4, dim), setting.normal(5, dim))
    out = torch.empty((rows, dim), dtype=setting.half, device=setting.device)

    def call() -> torch.Tensor:
        how = {"positions": places, "places": table, "offset": 2, "token_type": token_type}
        embed(ids, word, out, **how, lora_ids=tasks, adapters=lora, norm=(weight, bias), eps=1e-5)
        return out

    z = word[ids].float() + table[places.long() + 2].float() + token_type
    own = (tasks >= 0).float()[:, None]
    task = tasks.clamp_min(0).long()
    part = torch.einsum("nr,nrd->nd", lora.rows[task, ids.long()].float(), lora.expand[task].float())
    z += own * (part + lora.token_type[task].float())
    return call, F.layer_norm(z, (dim,), weight, bias, 1e-5), LIMIT


def angles(setting: Setting, half: int) -> tuple[torch.Tensor, torch.Tensor]:
    turns = torch.arange(8192, device=setting.device)[:, None] * 10000.0 ** -(
        torch.arange(half, device=setting.device) / half
    )
    return turns.cos(), turns.sin()


def rotated(x: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.float().chunk(2, dim=2)
    c, s = cos[positions.long()][:, None], sin[positions.long()][:, None]
    return torch.cat([first * c - second * s, second * c + first * s], dim=2)


def rotation(setting: Setting) -> Case:
    rows, (cos, sin) = setting.size(16384, 20), angles(setting, 32)
    qkv, positions = setting.normal(rows, setting.size(36, 6), 64), ids_of(setting, rows, 8192)
    part = qkv[:, : qkv.shape[1] * 2 // 3]
    before = part.clone()

    def call() -> torch.Tensor:
        part.copy_(before)
        rotate(part, positions, cos, sin, interleaved=False)
        return part

    return call, rotated(before, positions, cos, sin), LIMIT


def attention(
    setting: Setting,
    *,
    head_dim: int = 64,
    kv_heads: int | None = None,
    length: int = 512,
    alibi: bool = False,
    causal: bool = False,
    window: int | None = None,
    table: bool = False,
    rope: bool = False,
    listed: bool = False,
    sm90: bool = False,
    dtype: torch.dtype | None = None,
) -> Case:
    length = setting.size(length, 10)
    count, heads = setting.size(max(1, 8192 // length), 3), setting.size(8, 2)
    kv_heads = min(kv_heads or heads, heads)
    total = count * length
    q = setting.normal(total, heads, head_dim, dtype=dtype)
    k, v = (setting.normal(total, kv_heads, head_dim, dtype=dtype) for _ in range(2))
    offsets = offsets_of(setting, [length] * count)
    slopes = 2.0 ** -torch.arange(1, heads + 1, device=setting.device) if alibi else None
    reach = 100
    biases = setting.normal(heads, 2 * reach + 1, dtype=torch.float32) if table else None
    cos, sin = angles(setting, head_dim // 2) if rope else (None, None)
    options = forward.Options(
        head_dim**-0.5, slopes, biases, cos, sin, window_left=window, window_right=0 if causal else window
    )
    out = torch.empty_like(q)
    tiles = None
    if listed:
        config = forward.tile_config(q.dtype, head_dim, forward.architecture(q.device), length <= 64)
        found = list_tiles(offsets.cpu().numpy(), config.block_m, groups=None if length <= 64 else False)
        spans = None if found.spans is None else torch.from_numpy(found.spans).to(q.device)
        tiles = forward.Tiles(torch.from_numpy(found.tiles).to(q.device), spans, config.block_m)

    def call() -> torch.Tensor:
        if sm90:
            from longspan import ops

            result: torch.Tensor = ops.attention_varlen(
                q, k, v, offsets, offsets, slopes=slopes, causal=causal, backend="cuda_sm90"
            )
            return result
        forward.attend(q, k, v, offsets, offsets, options, out, tiles=tiles)
        return out

    rows: tuple[torch.Tensor, ...] = (q, k, v)
    if cos is not None and sin is not None:
        positions = torch.arange(length, device=setting.device).repeat(count)
        rows = (rotated(q, positions, cos, sin), rotated(k, positions, cos, sin), v)
    truth = biased_truth(padded(rows, length), slopes, causal, window, biases)
    return call, truth, EXACT if dtype == torch.float32 else LIMIT


def biased_truth(
    rows: list[torch.Tensor],
    slopes: torch.Tensor | None,
    causal: bool,
    window: int | None,
    biases: torch.Tensor | None,
) -> torch.Tensor:
    """By plain products in f32; packed rows."""
    q, k, v = (x.float() for x in rows)
    places = torch.arange(q.shape[2], device=q.device)
    ahead = places - places[:, None]
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).transpose(2, 3) * q.shape[3] ** -0.5
    if slopes is not None:
        scores -= slopes[:, None, None] * ahead.abs()
    if biases is not None:
        reach = biases.shape[1] // 2
        scores += biases[:, ahead.clamp(-reach, reach) + reach]
    if causal:
        scores.masked_fill_(ahead > 0, -torch.inf)
    if window is not None:
        scores.masked_fill_(ahead.abs() > window, -torch.inf)
    values = v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    return (scores.softmax(-1) @ values).transpose(1, 2).flatten(0, 1)


def backward(setting: Setting) -> Case:
    length, count, heads = setting.size(256, 10), setting.size(16, 2), setting.size(8, 2)
    rows = [setting.normal(length * count, heads, 64) for _ in range(4)]
    q, k, v, grad = rows
    offsets, options = offsets_of(setting, [length] * count), forward.Options(0.125)
    out = torch.empty_like(q)
    lse = torch.empty((heads, len(q)), dtype=torch.float32, device=q.device)
    forward.attend(q, k, v, offsets, offsets, options, out, lse)
    leaves = [x.float().requires_grad_() for x in (q, k, v)]
    biased_truth(padded(tuple(leaves), length), None, False, None, None).backward(grad.float())
    truth = torch.cat([x.grad for x in leaves], dim=1)
    return lambda: torch.cat(attend_backward(grad, q, k, v, out, lse, offsets, offsets, options), 1), truth, 2 * LIMIT


def adapters(setting: Setting, rank: int) -> tuple[torch.Tensor, ...]:
    rows, n_in, n_out = setting.size(16384, 70), setting.size(1024, 128), setting.size(3072, 96)
    x, weight = setting.normal(rows, n_in), setting.normal(n_out, n_in) * n_in**-0.5
    a, b = setting.normal(5, rank, n_in) * n_in**-0.5, setting.normal(5, n_out, rank)
    ids = (torch.arange(rows, device=setting.device) // 30 % 6 - 1).to(torch.int32)
    delta = torch.zeros((rows, n_out), device=setting.device)
    for task in range(5):
        mine = ids == task
        delta[mine] = x[mine].float() @ a[task].float().T @ b[task].float().T
    return x, weight, a, b, ids, delta


def shrink(setting: Setting) -> Case:
    x, _, a, _, ids, _ = adapters(setting, 4)
    whole = torch.zeros((32, x.shape[1]), dtype=x.dtype, device=x.device)
    whole[:20] = a.flatten(0, 1)
    out = torch.empty((len(x), 32), dtype=x.dtype, device=x.device)

    def call() -> torch.Tensor:
        launch_shrink(x, whole, 4, ids, out)
        return out

    mine = torch.arange(32, device=x.device) // 4 == ids[:, None]
    return call, (x.float() @ whole.float().T) * mine, LIMIT


def lora(setting: Setting) -> Case:
    x, _, a, b, ids, delta = adapters(setting, 4)
    ones = torch.ones(5, device=x.device)

    def call() -> torch.Tensor:
        out = torch.zeros((len(x), b.shape[1]), dtype=x.dtype, device=x.device)
        launch_multi_lora(out, x, a, b, ids, ones)
        return out

    return call, delta, LIMIT


def folded(setting: Setting) -> Case:
    x, weight, a, b, ids, delta = adapters(setting, 4)
    truth = x.float() @ weight.float().T + delta
    layer, found = DenseLinear(weight, None, None), DenseLora(a, b, torch.ones(5, device=x.device))
    found.fold(layer)
    memory = x.new_empty((len(x), x.shape[1] + found.added))
    rows = memory[:, : x.shape[1]].copy_(x)
    out = x.new_empty((len(x), b.shape[1]))

    def call() -> torch.Tensor:
        how = {"activation": None, "residual": None, "lora": found, "lora_ids": ids}
        dense_linear(rows, layer, **how, out=out, wide=widened(rows, found.added))
        return out

    return call, truth, LIMIT


def epilogue(setting: Setting) -> Case:
    x, weight = setting.normal(setting.size(4096, 20), setting.size(768, 40)), setting.normal(setting.size(3072, 30), 1)
    weight = weight * setting.normal(1, x.shape[1]) * 0.2
    layer = DenseLinear(weight, setting.normal(len(weight)), None)
    out = x.new_empty((len(x), len(weight)))

    def call() -> torch.Tensor:
        how = {"residual": None, "lora": None, "lora_ids": None}
        dense_linear(x, layer, activation="gelu_tanh", **how, out=out)
        return out

    wide = x.float() @ weight.float().T + layer.bias.float()
    return call, F.gelu(wide, approximate="tanh"), LIMIT


def means(setting: Setting, of_spans: bool, backend: str = "triton") -> Case:
    length, count = setting.size(128, 8), setting.size(128, 3)
    hidden = setting.normal(length * count, setting.size(768, 40))
    offsets = offsets_of(setting, [length] * count)
    truth = hidden.float().unflatten(0, (-1, length)).mean(1)
    if not of_spans:
        return lambda: pool_mean(hidden, offsets), truth, EXACT
    spans = torch.stack([offsets[:-1], offsets[1:]], 1).contiguous()
    if backend == "cuda" and not setting.dry:
        from longspan import ops

        return lambda: ops.span_mean(hidden, spans, backend="cuda"), truth, EXACT
    return lambda: span_mean(hidden, spans, truncate_dim=None, normalize=False, out=None), truth, EXACT


def words(setting: Setting) -> Case:
    dim, lengths = setting.size(768, 40), [setting.size(200, 5), 0, setting.size(130, 3), *[setting.size(9, 1)] * 40]
    x, weight = setting.normal(sum(lengths), dim), setting.normal(setting.size(30522, 70), dim) * dim**-0.5
    bias, offsets = setting.normal(len(weight)), offsets_of(setting, lengths)
    logits = x.float() @ weight.float().T + bias.float()
    rows = [part.amax(0) if len(part) else logits.new_zeros(len(weight)) for part in logits.split(lengths)]
    truth = torch.log1p(torch.stack(rows).clamp(min=0))
    return lambda: pool_logits(x, weight, offsets, bias, saturation="log1p"), truth, LIMIT


def retrofit(setting: Setting, of_groups: bool) -> Case:
    rows, dim, terms = setting.size(20_000, 6), setting.size(384, 40), 8
    vectors = setting.normal(rows, dim, dtype=torch.float32)
    indices = torch.randint(0, rows, (rows * terms,), device=setting.device, dtype=torch.int32)
    if of_groups:
        indptr = torch.tensor([0, 3, 3, len(indices)], device=setting.device)
        parts = [vectors[indices[a:b].long()].double().sum(0) for a, b in ((0, 3), (3, 3), (3, len(indices)))]
        return lambda: group_sums(vectors, indptr, indices, scale=None, out=None), torch.stack(parts), EXACT
    indptr = torch.arange(0, rows * terms + 1, terms, device=setting.device)
    weights = setting.normal(rows * terms, dtype=torch.float32)
    truth = (vectors[indices.long()].double() * weights[:, None]).unflatten(0, (rows, terms)).sum(1)
    names = ("base", "anchor", "sums", "sum_indptr", "sum_indices", "sum_weights", "scale", "divisor", "squares", "out")
    return lambda: retrofit_step(vectors, indptr, indices, weights, **dict.fromkeys(names)), truth, EXACT


def scores(setting: Setting, kind: str) -> Case:
    docs, length, queries = setting.size(1000, 6), setting.size(300, 20), setting.size(32, 2)
    d = F.normalize(setting.normal(docs * length, 128, dtype=torch.float32), dim=1)
    q = F.normalize(setting.normal(queries * 32, 128, dtype=torch.float32), dim=1).to(setting.half)
    offsets = offsets_of(setting, [32] * queries), offsets_of(setting, [length] * docs)
    scale = d.abs().amax(1) / 127
    whole = (d / scale[:, None]).round().to(torch.int8)
    given = whole.float() * scale[:, None] if kind == "int8" else d.to(setting.half).float()
    products = (given @ q.float().T).unflatten(0, (-1, length)).amax(1).unflatten(1, (-1, 32)).sum(2).T
    if kind == "int8":
        from bench.gpu.late_interaction import Quantized

        return lambda: maxsim(q, Quantized(whole, scale), *offsets), products, LIMIT
    half = d.to(setting.half)
    if kind == "half":
        return lambda: maxsim(q, half, *offsets), products, LIMIT
    k = min(10, docs)
    return lambda: maxsim_topk(q, half, *offsets, k)[0], products.topk(k, 1).values, LIMIT


def codes(setting: Setting, kind: str) -> Case:
    """CUDA's own kernels; in the dry run the ops of the CPU stand for them, which try the plumbing."""
    from longspan import ops

    backend = "cpu" if setting.dry else "cuda"
    count = setting.size(200_000, 300)
    x = torch.randn(count if kind != "binarize" else setting.size(16384, 30), 128, device=setting.device)
    signs = (x > 0).to(torch.uint8)
    weights = 2 ** torch.arange(7, -1, -1, device=setting.device, dtype=torch.uint8)
    packed = (signs.unflatten(1, (-1, 8)) * weights).sum(2).to(torch.uint8)
    if kind == "binarize":
        return lambda: ops.binarize(x, backend=backend), packed, 0.0
    q = packed[:: max(1, count // 16)].contiguous()
    rows = signs[:: max(1, count // 16)].float()
    distances = (rows.sum(1)[:, None] + signs.float().sum(1) - 2 * rows @ signs.float().T).round()
    if kind == "hamming":
        return lambda: ops.hamming(q, packed, backend=backend), distances, 0.0
    k = min(100, count)
    return lambda: ops.hamming_topk(q, packed, k, backend=backend)[0], distances.sort(1).values[:, :k], 0.0
