"""A loaded audio tower: from sounds to the rows in which a language side reads them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Final

import numpy as np

from longspan.models.audio_tower import AudioTower, PooledPairs, select_pairs
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights
from longspan.models.spec import AudioSpec
from longspan.packing.media import Mel
from longspan.pipeline.connectors import by_connector
from longspan.pipeline.pipeline import Pipeline


class Audio:
    """A tower and what is around it. Threads may share one."""

    def __init__(self, spec: AudioSpec, weights: EncoderWeights, engine: OpsEngine, num_threads: int | None) -> None:
        assert weights.pooled is not None
        self.spec: Final = spec
        self._tower = AudioTower(spec.tower, weights, engine)
        self._pooled = weights.pooled
        self._engine = engine
        self._pipeline = Pipeline(self._tower, (), spec.tower.default_pooling, num_threads)

    def num_tokens(self, sound: Mel) -> int:
        """Tokens that a sound leaves the tower as: 25 a second in the published shape."""
        return self._tower.stem.tokens(len(sound.values))

    def features(
        self,
        sounds: Sequence[Mel],
        connectors: Sequence[int],
        *,
        batch_tokens: int | None = None,
        places: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """For each sound (tokens, hidden_size) f32, in order. No sound's result depends on the others, on the CPU bit
        for bit.

        Args:
            sounds: of any lengths, each of one token at least. The tower sees one that comes several times once.
            connectors: for each the number of the task for which its tokens are made.
            batch_tokens: rows in a pass at most (a longer sound runs alone); None for a number that runs well.
            places: of the caller's inputs in which they stand, for messages; None where the sounds are the inputs.
        """
        return by_connector(
            sounds, connectors, lambda each, used, at: self._features(each, used, batch_tokens, at), places
        )

    def _features(
        self, sounds: Sequence[Mel], used: Sequence[int], batch_tokens: int | None, places: Sequence[int] | None
    ) -> list[np.ndarray]:
        """For each sound the features of the connectors `used`, side by side."""
        stem, pooled = self._tower.stem, self._pooled
        for place, sound in enumerate(sounds):
            if self.num_tokens(sound) == 0:
                raise ValueError(f"sounds[{place}] must have frames for one token at least, got {len(sound.values)}")
        rows = [np.arange(stem.rows(len(sound.values)), dtype=np.int32) for sound in sounds]
        tail = PooledPairs(
            pooled.norm, tuple(pooled.connectors[number] for number in used), self.spec.tower, self._engine
        )
        found: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(sounds)
        results = self._pipeline.results(
            rows,
            tail,
            select_pairs,
            batch_tokens=batch_tokens,
            attach=lambda batch: self._tower.attach_sounds(batch, [sounds[index] for index in batch.indices]),
            noun="sounds" if places is None else "inputs",
            places=places,
            per=2,
        )
        with closing(results) as batches:
            for batch, values in batches:
                ends = np.cumsum(np.diff(batch.cu_seqlens) // 2)[:-1]
                for index, part in zip(batch.indices, np.split(values, ends), strict=True):
                    found[index] = part
        return found
