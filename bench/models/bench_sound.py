"""Seconds of sound a second of the audio tower in the shape of jina-embeddings-v5-omni, random weights.

    python -m bench.models.bench_sound [--dtype D] [--full] [--json FILE]

From log-mel frames to the tokens of a language side, in chunks of two seconds. The short form has two layers and ten
seconds of sound; --full has all 32 layers and half a minute, the longest that the model reads at once. Peers run the
same sums with the same weights, chunks as a batch (`peers/towers.py`). Tokens are held against float64 before anything
is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np

from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.pipeline.audio import Audio

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..peers.subject import first
from ..truth import ReferenceEngine, limits_of
from .random_sound_tower import (
    FRAMES_A_SECOND,
    SOUND,
    SOUND_NAME,
    PlainSound,
    SoundShape,
    audio_spec,
    chunks_of,
    random_sound,
)

BUDGET: Final = 40  # seconds of the short form, about
SHORT_LAYERS: Final = 2
SECONDS: Final = (10, 30)
TRUE_SECONDS: Final = 2  # that are held against float64: chunks know nothing of each other
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")


def cases(setting: Setting) -> Iterator[Case]:
    """A number of seconds each."""
    layers = SHORT_LAYERS if setting.is_short else SOUND.spec.num_layers
    for seconds in SECONDS[:1] if setting.is_short else SECONDS:
        shape = SOUND.with_layers(layers)
        work = Work(shape.flops(seconds * FRAMES_A_SECOND), items=float(seconds), item="seconds of sound")
        labels: dict[str, str | int] = {"model": SOUND_NAME, "layers": layers, "seconds": seconds}
        yield Case("sound", labels, work, partial(_contest, layers, seconds), "look")


def _contest(layers: int, seconds: int, setting: Setting) -> Contest:
    shape = SOUND.with_layers(layers)
    sound = random_sound(shape.spec, seconds * FRAMES_A_SECOND)
    truth, limits = _truth(layers)

    def read(found: object) -> np.ndarray:
        return first(found)[: len(truth)]

    def ours(dtype: ComputeType) -> Contestant:
        audio = _audio(shape, _plain(layers), engine_for("bench", "cpu", dtype, None), setting.threads)
        return Contestant(our_name(dtype), lambda: audio.features([sound], [0]), dtype, read)

    entered, absent = enter("look", setting, SOUND_NAME, layers, chunks_of(sound, shape.spec))
    others = [_reading(own, len(truth)) for own in entered]
    return Contest((*map(ours, setting.dtypes), *others), truth, limits, absent)


def _reading(contestant: Contestant, tokens: int) -> Contestant:
    """The same, of which the first tokens are held against the truth."""
    whole = contestant.read
    return Contestant(
        contestant.name, contestant.run, contestant.numerics, lambda found: whole(found)[:tokens], note=contestant.note
    )


@cache
def _plain(layers: int) -> PlainSound:
    return PlainSound(SOUND.with_layers(layers))


def _audio(shape: SoundShape, plain: PlainSound, engine: OpsEngine, threads: int | None) -> Audio:
    return Audio(audio_spec(shape), plain.packed(engine), engine, threads)


@cache
def _truth(layers: int) -> tuple[np.ndarray, dict[Numerics, float]]:
    """The first seconds of every case's sound: they begin alike."""
    shape = SOUND.with_layers(layers)
    sound = random_sound(shape.spec, TRUE_SECONDS * FRAMES_A_SECOND)
    found = {}
    for numerics in ("float32", *COARSER):
        audio = _audio(shape, _plain(layers), ReferenceEngine(numerics), None)
        found[numerics] = first(audio.features([sound], [0]))
    truth = found.pop("float32")
    return truth, limits_of(truth, found)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_sound", __doc__, cases))
