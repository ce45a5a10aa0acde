"""Tokens a second of encoders in the shapes of jina-embeddings-v2-base and -v3 at 128 to 8192 tokens, random weights.

    python -m bench.models.bench_random_models [--dtype D] [--full] [--json FILE]

Speed does not depend on the weights' values. Vocabularies are cut to 32,768 rows, which are looked up, not multiplied.
The first 128 tokens of the first text, as a text of their own, are held against float64 before anything is timed. No
other runtime takes part: these models are published as Python code, which none of them can read without a hub.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np

from longspan.batch import pack
from longspan.models.encoder import TextEncoder
from longspan.models.engine import OpsEngine
from longspan.models.engines import engine_for
from longspan.models.parts import EncoderWeights, LayerWeights, Norm, Product
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.models.workspace import Workspace

from ..case import Case, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..shapes import MODELS, ModelShape
from ..truth import ReferenceEngine, limits_of, truth_vectors
from .encoding import encoder_flops

NAMES: Final = ("jina-v2", "jina-v3")
LENGTHS: Final = (128, 512, 2048, 8192)
SHORT_LENGTHS: Final = (512, 2048)
TOKENS: Final = 2048  # of a call, or one text
VOCABULARY: Final = 32_768
CHECKED_TOKENS: Final = 128
ROTARY_BASE: Final = 20_000.0  # jina-embeddings-v3, config.json: rotary_emb_base
SEED: Final = 7


def cases(setting: Setting) -> Iterator[Case]:
    """A model and a length of text each."""
    for name in NAMES:
        spec = spec_of(MODELS[name])
        for length in SHORT_LENGTHS if setting.is_short else LENGTHS:
            lengths = [length] * max(1, TOKENS // length)
            work = Work(encoder_flops(spec, lengths), items=float(sum(lengths)), item="tokens")
            labels = {"model": name, "length": length, "texts": len(lengths)}
            yield Case("random_models", labels, work, partial(_contest, name, lengths), plot="length")


def spec_of(shape: ModelShape) -> ModelSpec:
    """The shape as the encoder takes it."""
    rotary = Rotary(ROTARY_BASE, shape.head_dim) if shape.position == "rope" else None
    return ModelSpec(
        family=shape.name,
        hidden_size=shape.hidden,
        num_heads=shape.heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=VOCABULARY,
        max_tokens=8192,
        layers=(LayerSpec(rotary=rotary),) * shape.layers,
        norm="layer_norm",
        norm_eps=1e-5,
        activation="gelu",
        gate="first" if shape.is_gated else None,
        alibi=shape.position == "alibi",
    )


def random_encoder(spec: ModelSpec, engine: OpsEngine) -> TextEncoder:
    """The same weights for every engine: normal, of the size that keeps a layer's output as large as its input."""
    rng = np.random.default_rng(SEED)

    def product(outputs: int, inputs: int, is_gated: bool = False) -> Product:
        weight = rng.standard_normal((outputs * (2 if is_gated else 1), inputs), np.float32)
        weight /= np.float32(np.sqrt(inputs))
        parts = np.split(weight, 2) if is_gated else [weight]
        return Product(engine.pack(parts, None, spec.gate if is_gated else None))

    norm = Norm(np.ones(spec.hidden_size, np.float32), np.zeros(spec.hidden_size, np.float32))

    def layer() -> LayerWeights:
        return LayerWeights(
            qkv=product(spec.q_width + 2 * spec.kv_width, spec.hidden_size),
            attention_out=product(spec.hidden_size, spec.q_width),
            attention_norm=norm,
            up=product(spec.intermediate_size, spec.hidden_size, spec.gate is not None),
            down=product(spec.hidden_size, spec.intermediate_size),
            mlp_norm=norm,
            q_norm=None,
            k_norm=None,
            residual_norm=None,
        )

    words = rng.standard_normal((spec.vocab_size, spec.hidden_size), np.float32)
    weights = EncoderWeights(words, None, None, None, norm, tuple(layer() for _ in spec.layers), None)
    return TextEncoder(spec, weights, engine)


def vectors(encoder: TextEncoder, ids: list[np.ndarray], workspace: Workspace) -> np.ndarray:
    """(n, dim) f32 of unit length: means of the last hidden states; all texts in one batch."""
    from longspan import ops

    batch = next(iter(pack(ids, batch_tokens=max(TOKENS, len(ids[0])))))
    means = np.asarray(ops.pool_mean(encoder.forward(batch, workspace), batch.cu_seqlens))
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _contest(name: str, lengths: list[int], setting: Setting) -> Contest:
    rng = np.random.default_rng([SEED, *lengths])
    ids = [rng.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]
    checked = [row[:CHECKED_TOKENS] for row in ids[:1]]
    truth, limits = _truth(name, checked[0].tobytes(), setting.dtypes)
    contestants = []
    for dtype in setting.dtypes:
        encoder = _ours(name, dtype)
        workspace = Workspace(encoder.engine.empty)

        def run(encoder: TextEncoder = encoder, workspace: Workspace = workspace) -> np.ndarray:
            return vectors(encoder, ids, workspace)

        def read(_: object, encoder: TextEncoder = encoder, workspace: Workspace = workspace) -> np.ndarray:
            return vectors(encoder, checked, workspace)

        contestants.append(Contestant(our_name(dtype), run, dtype, read))  # type: ignore[arg-type]
    return Contest(tuple(contestants), truth, limits)


@cache
def _ours(name: str, dtype: str) -> TextEncoder:
    return random_encoder(spec_of(MODELS[name]), engine_for("bench", "cpu", dtype, None))


@cache
def _truth(name: str, ids: bytes, kinds: tuple[Numerics, ...]) -> tuple[np.ndarray, dict[Numerics, float]]:
    rows = [np.frombuffer(ids, np.int32)]
    found: dict[Numerics, np.ndarray] = {}
    for numerics in dict.fromkeys(("float32", *kinds)):
        encoder = random_encoder(spec_of(MODELS[name]), ReferenceEngine(numerics))
        found[numerics] = truth_vectors(encoder, rows, "mean")
    truth = found.pop("float32")
    return truth, limits_of(truth, found)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_random_models", __doc__, cases))
