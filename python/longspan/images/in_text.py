"""The text that stands for an image on a model's language side, with the places of the image's tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from longspan.errors import CheckpointError
from longspan.models.vision_spec import ImageText
from longspan.packing.media import MediaRow
from longspan.text.tokenizer import TextTokenizer


class ImageTemplate:
    """A model's text around an image, tokenized once."""

    def __init__(self, spec: ImageText, tokenizer: TextTokenizer, source: Path) -> None:
        """Raises: CheckpointError, naming `source`, if the tokenizer does not know the text's three tokens."""
        ids = np.array(tokenizer.backend.encode(spec.template, add_special_tokens=False).ids, np.int32)
        places = [np.flatnonzero(ids == token) for token in (spec.start_id, spec.pad_id, spec.end_id)]
        if [len(found) for found in places] != [1, 1, 1] or not places[0] < places[1] < places[2]:
            raise CheckpointError(
                f"{source} must make one token each of the start, the image and the end in {spec.template!r}, with the "
                f"ids that config.json names, {spec.start_id}, {spec.pad_id} and {spec.end_id}; got {ids.tolist()}"
            )
        self._start, self._pad, self._end = (int(found[0]) for found in places)
        self._ids: Final = ids

    @property
    def num_tokens(self) -> int:
        """Tokens beside the image's."""
        return len(self._ids) - 1

    def row(self, features: np.ndarray, grid: tuple[int, int]) -> MediaRow:
        """The row of an image that left its tower as `features`, (rows * columns, hidden_size) f32, row by row.

        Places are (time, row, column): a text's tokens count on in all three; an image's have one time, the rows and
        columns of the image behind it; the next token stands behind the last of them. Source: arXiv:2409.12191.
        """
        rows, columns = grid
        count, before = rows * columns, self._pad
        ids = np.concatenate([self._ids[:before], np.repeat(self._ids[before], count), self._ids[before + 1 :]])
        places = np.zeros((len(ids), 3), np.float32)
        places[:before] = np.arange(before)[:, None]
        places[before : before + count, 1:] = np.indices((rows, columns)).reshape(2, -1).T
        places[before : before + count] += before
        after = before + max(rows, columns)
        places[before + count :] = np.arange(after, after + len(self._ids) - 1 - before)[:, None]
        pooled = np.zeros(len(ids), bool)
        pooled[self._start : self._end + count] = True
        return MediaRow(ids.astype(np.int32), pooled, features, np.arange(before, before + count), places)
