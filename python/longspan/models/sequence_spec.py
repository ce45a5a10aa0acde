"""Where images, video and sound stand among the tokens of a model that reads them in one sequence with text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaTokens:
    """The tokens that stand for one image, one pair of frames of a video or one sound."""

    pad: int  # one for each vector that the connector gives
    start: int | None = None  # before and behind them; None: nothing
    end: int | None = None


@dataclass(frozen=True, slots=True)
class SequenceSpec:
    """Parts one behind the other in one sequence, texts as they are."""

    image: MediaTokens
    video: MediaTokens
    audio: MediaTokens
    has_time_stamps: bool  # before each pair of frames of a video, "<S seconds>" and its own markers
