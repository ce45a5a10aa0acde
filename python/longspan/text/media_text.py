"""The text in which media stand: one string of an input's texts and of the tokens that stand for its media."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from longspan.errors import CheckpointError
from longspan.models.sequence_spec import MediaTokens, SequenceSpec
from longspan.text.tokenizer import UNCUT, TextTokenizer

FRAMES_A_SECOND: Final = 24.0  # that frames without a rate are taken to have; also those of which some were chosen
CHAT_START, CHAT_END = "<|im_start|>user\n", "<|im_end|>\n"


@dataclass(frozen=True, slots=True)
class Run:
    """One image, one sound, or one piece of a video: a pad token for each of `count` vectors."""

    tokens: MediaTokens
    count: int


Piece = str | Run


@dataclass(frozen=True, slots=True, eq=False)
class MediaText:
    """An input's tokens.

    Attributes:
        ids: (n,) int32, special tokens included; nothing is cut.
        places: (m,) int64, the tokens that media's vectors replace, in order.
    """

    ids: np.ndarray
    places: np.ndarray


class MediaTokenizer:
    """A model's tokens for media, and its tokenizer, which must have them."""

    def __init__(self, spec: SequenceSpec, tokenizer: TextTokenizer, kinds: Iterable[str], source: Path) -> None:
        """Args:
            kinds: of "image", "audio" and "video", those that are wanted.
            source: the tokenizer's file, for messages.
        Raises: CheckpointError, an id that the config names is not that of one token, which text spells alone.
        """
        self.spec: Final = spec
        self._tokenizer = tokenizer
        self._strings: dict[int, str] = {}
        for kind in kinds:
            tokens: MediaTokens = getattr(spec, kind)
            for number in (tokens.pad, tokens.start, tokens.end):
                if number is not None and number not in self._strings:
                    self._strings[number] = self._spelled(number, kind, source)
        self._pads: Final = np.array(sorted({getattr(spec, kind).pad for kind in kinds}), np.int64)

    def _spelled(self, number: int, kind: str, source: Path) -> str:
        """How the token is spelled."""
        spelled = self._tokenizer.backend.id_to_token(number)
        if spelled is None or self._tokenizer.backend.encode(spelled, add_special_tokens=False).ids != [number]:
            raise CheckpointError(
                f"{source} must have one token with the id {number}, which config.json names for {kind}, got "
                f"{spelled!r}; another tokenizer is this model's"
            )
        return str(spelled)

    def video(self, num_frames: int, num_pairs: int, count: int, *, outer_markers: bool) -> list[Piece]:
        """A video of so many frames, whose pairs give so many vectors together.

        Before each pair stands the mean of its two times, where a frame's is its place / 24: frames come without a
        rate, and places count those that were taken. The last frame stands for one that is missing.
        """
        tokens = self.spec.video
        if not self.spec.has_time_stamps:
            return [Run(tokens, count)]
        pieces: list[Piece] = []
        for pair in range(num_pairs):
            times = [min(place, num_frames - 1) / FRAMES_A_SECOND for place in (2 * pair, 2 * pair + 1)]
            pieces += [f"<{sum(times) / 2:.1f} seconds>", Run(tokens, count // num_pairs)]
        if outer_markers:
            return [self._marker(tokens.start), *pieces, self._marker(tokens.end)]
        return pieces

    def _marker(self, number: int | None) -> str:
        return "" if number is None else self._strings[number]

    def tokenize(self, pieces: Sequence[Piece], name: str) -> MediaText:
        """The tokens of all pieces as one string, media as so many pad tokens.

        Args:
            pieces: texts and media in order; the prompt is the first text.
            name: of the input, for messages.
        Raises: ValueError, a text spells out a pad token.
        """
        runs = [piece for piece in pieces if isinstance(piece, Run)]
        spelled = [piece if isinstance(piece, str) else self._run(piece) for piece in pieces]
        [text] = self._tokenizer.encode(["".join(spelled)], max_length=UNCUT)
        pads = np.flatnonzero(np.isin(text.ids, self._pads))
        if text.ids[pads].tolist() != [run.tokens.pad for run in runs]:
            known = " and ".join(repr(self._strings[number]) for number in self._pads.tolist())
            raise ValueError(
                f"{name} has a text that spells out a token which stands for media, {known}; leave it out where there "
                f"are media beside the text"
            )
        counts = np.ones(len(text.ids), np.int64)
        counts[pads] = [run.count for run in runs]
        is_pad = np.zeros(len(text.ids), bool)
        is_pad[pads] = True
        return MediaText(np.repeat(text.ids, counts), np.flatnonzero(np.repeat(is_pad, counts)))

    def _run(self, run: Run) -> str:
        """With one pad for all of its: they touch, so that they are tokens of their own in any number."""
        tokens = run.tokens
        return f"{self._marker(tokens.start)}{self._strings[tokens.pad]}{self._marker(tokens.end)}"
