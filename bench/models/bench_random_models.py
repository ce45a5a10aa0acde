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

from longspan.models.encoder import TextEncoder
from longspan.models.engines.choice import engine_for
from longspan.models.engines.workspace import Workspace
from longspan.packing.batch import pack

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..shapes import MODELS
from ..truth import ReferenceEngine, limits_of, truth_vectors
from .encoding import encoder_flops
from .random_encoders import SEED, VOCABULARY, random_encoder, spec_of

BUDGET: Final = 52  # seconds of the short form, about
NAMES: Final = ("jina-v2", "jina-v3")
SHORT_NAMES: Final = ("jina-v2",)
LENGTHS: Final = (128, 512, 2048, 8192)
SHORT_LENGTHS: Final = (512, 2048)
TOKENS: Final = 2048  # of a call, or one text
CHECKED_TOKENS: Final = 128


def cases(setting: Setting) -> Iterator[Case]:
    """A model and a length of text each."""
    for name in SHORT_NAMES if setting.is_short else NAMES:
        spec = spec_of(MODELS[name])
        for length in SHORT_LENGTHS if setting.is_short else LENGTHS:
            lengths = [length] * max(1, TOKENS // length)
            work = Work(encoder_flops(spec, lengths), items=float(sum(lengths)), item="tokens")
            labels = {"model": name, "length": length, "texts": len(lengths)}
            yield Case("random_models", labels, work, partial(_contest, name, lengths), plot="length")


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

        contestants.append(Contestant(our_name(dtype), run, dtype, read))
    return Contest(tuple(contestants), truth, limits)


@cache
def _ours(name: str, dtype: ComputeType) -> TextEncoder:
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
