"""What each token vector stands for: a run of a text's characters, or a cell of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longspan.late_interaction.colbert import ColbertTokenizer
from longspan.late_interaction.colbert_rules import SkipRule
from longspan.pipeline.blocks import read_blocks
from longspan.pipeline.inputs import Part
from longspan.pipeline.vision import Vision
from longspan.text.tasks import Role


@dataclass(frozen=True, slots=True, eq=False)
class TokenPlaces:
    """Where the token vectors of one input come from; row i is of vector i.

    Attributes:
        ids: (n,) int32, token ids.
        spans: (n, 2) int32, half-open characters of the text; (0, 0) of markers, prompts, special tokens, images.
        cells: (n, 2) int32, row and column of an image's cell; (-1, -1) of tokens that are none.
        grid: rows and columns of the image; (0, 0) of a text.
    """

    ids: np.ndarray
    spans: np.ndarray
    cells: np.ndarray
    grid: tuple[int, int]

    def __repr__(self) -> str:
        what = "a text" if self.grid == (0, 0) else "an image of {} x {} cells".format(*self.grid)
        return f"TokenPlaces({len(self.ids)} vectors of {what})"


def token_places(
    caller: str,
    items: Sequence[tuple[Part, ...]],
    prompts: Sequence[str],
    role: Role,
    rule: SkipRule | None,
    max_length: int,
    tokenizer: ColbertTokenizer,
    vision: Vision | None,
) -> list[TokenPlaces]:
    """Of each input, without running the model; arguments as `encode_tokens` has them. Images are read again."""
    found: list[TokenPlaces] = []
    make = tokenizer.queries if role == "query" else tokenizer.documents
    for block in read_blocks(caller, items, prompts, lambda texts, before: make(texts, max_length, before), vision):
        for place in range(block.size):
            if place in block.texts:
                row = block.texts[place]
                kept = np.ones(len(row.ids), bool) if role == "query" else tokenizer.kept(row.ids, rule)
                none = np.full((int(kept.sum()), 2), -1, np.int32)
                found.append(TokenPlaces(row.ids[kept], row.offsets[kept], none, (0, 0)))
                continue
            assert vision is not None
            ids, first, grid = vision.row_ids(block.images[place])
            cells = np.full((len(ids), 2), -1, np.int32)
            cells[first : first + grid[0] * grid[1]] = np.indices(grid).reshape(2, -1).T
            found.append(TokenPlaces(ids, np.zeros_like(cells), cells, grid))
    return found
