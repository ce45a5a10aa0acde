"""How a model listens, as data: what becomes of samples before its tower, and how the tower takes in what they became.
The tower itself is a `ModelSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MelSpec:
    """From samples to log-mel frames, as Whisper's feature extractor makes them."""

    rate: int = 16000  # samples a second
    num_mels: int = 128
    window: int = 400  # samples that a frame looks at
    hop: int = 160  # samples from a frame to the next
    most_samples: int = 480000  # what lies behind them is left out
    least_frames: int = 3  # a tower makes no token of fewer
    padded: bool = False  # every sound is as long as that, zeros behind it, and all of its frames count

    @property
    def most_frames(self) -> int:
        """Of the longest sound."""
        return self.most_samples // self.hop

    def num_frames(self, num_samples: int) -> int:
        """Frames that count of a sound of so many samples: one for each hop that it begins."""
        return self.most_frames if self.padded else min(self.most_frames, -(-num_samples // self.hop))


@dataclass(frozen=True, slots=True)
class StemSpec:
    """How a tower takes frames in: in chunks that know nothing of each other, each through two convolutions over three
    neighbours, the second one two frames a step. What leaves the tower as one token is the mean of two of its rows."""

    num_mels: int
    chunk: int  # frames

    def rows(self, frames: int) -> int:
        """Rows of the tower that a sound of so many frames has."""
        whole, rest = divmod(frames, self.chunk)
        return whole * ((self.chunk + 1) // 2) + (rest + 1) // 2

    def tokens(self, frames: int) -> int:
        """Tokens that it leaves as; pairs may cross chunks, and an odd last row is none."""
        return self.rows(frames) // 2
