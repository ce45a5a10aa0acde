"""Several calling threads at once, each with helpers of its own: what one gets is what it would get alone.

Short and of small shapes, so that ThreadSanitizer can watch it: `.ci/sanitize thread`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import attention_varlen_cases
import inputs
from longspan import Encoder, MultiVectorEncoder, _core, ops
from longspan.ops.linear import COMPUTE_TYPES

CALLERS, HELPERS, TURNS = 4, 3, 3
TEXTS = [f"text {number} of {number % 7} words" + " word" * (number % 7) for number in range(24)]


def at_once(call: Callable[[], np.ndarray]) -> None:
    """`call` by CALLERS threads that start together, TURNS times each, and once alone: the same bits."""
    _core.set_num_threads(1)
    try:
        expected = call()
    finally:
        _core.set_num_threads(0)
    start = Barrier(CALLERS)

    def work(_: int) -> list[np.ndarray]:
        _core.set_num_threads(HELPERS)  # of this thread's calls
        start.wait()
        return [call() for _ in range(TURNS)]

    with ThreadPoolExecutor(CALLERS) as pool:
        for results in pool.map(work, range(CALLERS)):
            for result in results:
                np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", COMPUTE_TYPES)
def test_linear_and_packing(isa: str, dtype: str) -> None:
    x, weight = inputs.normal((400, 300), 1), inputs.normal((96, 300), 2)
    lora_a, lora_b = inputs.normal((3, 4, 300), 3), inputs.normal((3, 96, 4), 4)
    ids = inputs.rng(5).integers(-1, 3, 400, dtype=np.int32)
    shared = ops.pack_linear([weight], dtype=dtype)

    def call() -> np.ndarray:
        own = ops.pack_linear([weight], dtype=dtype)
        lora = ops.pack_lora(lora_a, lora_b, 0.5, own)
        adapted = ops.linear(x, own, activation="gelu", lora=lora, lora_ids=ids)
        return np.stack([ops.linear(x, shared), adapted])

    at_once(call)


@pytest.mark.parametrize("kind", ["alibi", "rope"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention(isa: str, dtype: str, kind: str) -> None:
    case = attention_varlen_cases.case(attention_varlen_cases.RAGGED, 32, kind)
    at_once(lambda: ops.attention_varlen(*case.args, dtype=dtype, **case.options))


def test_ops_that_share_the_pool(isa: str) -> None:
    """Of different ops, so that a helper goes from one kernel's job to another's."""
    hidden, cu_seqlens = inputs.normal((3000, 64), 1), inputs.cu_seqlens([100, 1, 899, 2000])
    codes, queries = (inputs.rng(seed).integers(0, 256, (n, 16), dtype=np.uint8) for seed, n in ((2, 20000), (3, 5)))
    spans = np.sort(inputs.rng(4).integers(0, 3001, (200, 2), dtype=np.int32), axis=1)
    weight = np.ones(64, np.float32)

    def call() -> np.ndarray:
        distances, rows = ops.hamming_topk(queries, codes, 10)
        results = [
            ops.layer_norm(hidden, weight, weight, eps=1e-5),
            ops.pool_mean(hidden, cu_seqlens),
            ops.span_mean(hidden, spans),
            ops.maxsim(hidden[:1000], hidden[1000:], inputs.cu_seqlens([1000]), inputs.cu_seqlens([50] * 40)),
            distances,
            rows,
            ops.binarize(hidden),
        ]
        return np.concatenate([np.asarray(result, np.float64).ravel() for result in results])

    at_once(call)


@pytest.mark.parametrize("dtype", COMPUTE_TYPES)
def test_one_encoder(isa: str, dtype: str, golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3", dtype=dtype, num_threads=HELPERS)
    tasks = [encoder.tasks[place % len(encoder.tasks)] for place in range(len(TEXTS))]
    at_once(lambda: encoder.encode(TEXTS, task=tasks))


def test_late_interaction_and_chunks(golden: Path) -> None:
    colbert = MultiVectorEncoder(golden / "jina-colbert-v2", num_threads=HELPERS)

    def scores() -> np.ndarray:
        return np.asarray(colbert.score(colbert.encode_queries(TEXTS[:4]), colbert.encode_documents(TEXTS)))

    at_once(scores)
    encoder = Encoder(golden / "bert-minilm", num_threads=HELPERS)
    at_once(lambda: encoder.encode_chunks(" ".join(TEXTS), chunk_tokens=16).embeddings)
