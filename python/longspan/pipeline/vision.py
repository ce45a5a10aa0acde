"""A loaded tower: from images to their vectors, or to the rows in which a language side reads them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from longspan.images.decode import ImageInput, read_image
from longspan.images.in_text import ImageTemplate
from longspan.images.patches import ImageReader
from longspan.images.resize import resized
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights
from longspan.models.spec import VisionSpec
from longspan.models.tower import Merged, Tower, select_cells
from longspan.packing.media import MediaRow, Patches
from longspan.packing.selection import select_tokens
from longspan.pipeline.connectors import by_connector
from longspan.pipeline.inputs import Part
from longspan.pipeline.pipeline import Finish, Finished, Pipeline, Select, Tail
from longspan.pipeline.pooling import select_pooled
from longspan.text.tokenizer import TextTokenizer

# Of the pixels of one block of images, in the form that the tower reads; the next block is read meanwhile.
BLOCK_BYTES: Final = 128 << 20


class Vision:
    """A tower and what is around it. Threads may share one."""

    def __init__(self, spec: VisionSpec, weights: EncoderWeights, engine: OpsEngine, num_threads: int | None) -> None:
        assert spec.tower.patches is not None
        self.spec: Final = spec
        self.patches: Final = spec.tower.patches
        self.reader: Final = ImageReader(spec.pixels, self.patches)
        self._tower = Tower(spec.tower, weights, engine)
        self._engine = engine
        self._pipeline = Pipeline(self._tower, (), spec.tower.default_pooling, num_threads)
        self._mergers = weights.mergers
        self._template: ImageTemplate | None = None
        self.tokens_beside = int(self.patches.has_class_token)  # that the model reads of an image beside its own

    def stand_in_text(self, tokenizer: TextTokenizer, source: Path) -> None:
        """Tokenize the text around an image. CheckpointError, if the tokenizer, from `source`, does not have it."""
        if self.spec.text is not None:
            self._template = ImageTemplate(self.spec.text, tokenizer, source)
            self.tokens_beside = self._template.num_tokens

    @property
    def has_own_vectors(self) -> bool:
        """Whether the tower's vector is the image's; else its tokens are read by the language side."""
        return not self._mergers

    @property
    def images_per_block(self) -> int:
        """How many images are read before they are computed: BLOCK_BYTES of them at their largest, at least one."""
        pixels = self.spec.pixels
        most = pixels.most_pixels if pixels.resize == "area" else pixels.size**2
        return max(1, BLOCK_BYTES // (4 * self.patches.values * max(1, most // self.patches.size**2)))

    def read(self, caller: str, part: Part) -> Patches:
        """An image decoded, resized and cut. Raises: as `ImageReader.read`, naming the part."""
        return self.reader.read(part.value, f"{caller}: {part.name}")

    def fit(self, image: ImageInput, name: str) -> tuple[np.ndarray, int]:
        """An image ahead of a call, as small as it may be kept, and how many tokens it is to the model.

        Returns: (height, width, 3) uint8, the image in the tower's size, or as it is if that is smaller: `read` makes
            the same patches of both. Raises: as `ImageReader.read`.
        """
        pixels = read_image(image, name)
        final = resized(pixels, self.spec.pixels, self.patches, name)
        rows, columns = (side // (self.patches.size * self.patches.merge) for side in final.shape[:2])
        return final if final.size < pixels.size else pixels, rows * columns + self.tokens_beside

    def encode(
        self,
        images: Sequence[Patches],
        *,
        tokens: bool = False,
        batch_tokens: int | None = None,
        places: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """For each image (tokens, dim) f32, in order. No image's result depends on the others, on the CPU bit for bit.

        Args:
            images: of any sizes.
            tokens: of a tower that pools, the states of the class token and of the patches instead of the one vector.
            batch_tokens: patches in a pass at most (a larger image runs alone); None for a number that runs well.
            places: of the caller's inputs in which they stand, for messages; None where the images are the inputs.
        """
        pools = not self._mergers and not tokens
        tail, select = self._tail(tokens)
        return self._computed(images, tail, select, pools, batch_tokens, places)

    def num_tokens(self, image: Patches) -> int:
        """Tokens that an image or a video leaves the tower as, where a language side reads them."""
        return len(image.values) // self.patches.cell

    def features(
        self,
        images: Sequence[Patches],
        connectors: Sequence[int],
        *,
        batch_tokens: int | None = None,
        places: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """For each image or video (tokens, hidden_size) f32, in order, as `encode`.

        Args:
            images: of any sizes. The tower sees one that comes several times once.
            connectors: for each the number of the task for which its tokens are made.
            batch_tokens, places: as `encode`.
        """
        cell = self.patches.cell

        def compute(each: Sequence[Patches], used: Sequence[int], at: Sequence[int] | None) -> list[np.ndarray]:
            tail = Merged(tuple(self._mergers[number] for number in used), self.spec.tower, self._engine)
            return self._computed(each, tail, lambda batch: select_cells(batch, cell), False, batch_tokens, at)

        return by_connector(images, connectors, compute, places)

    def _computed(
        self,
        images: Sequence[Patches],
        tail: Tail,
        select: Select,
        pools: bool,
        batch_tokens: int | None,
        places: Sequence[int] | None,
    ) -> list[np.ndarray]:
        """What the tail makes of each image: one row if it pools, else one for each cell."""
        first = int(self.patches.has_class_token)
        rows = [np.arange(len(image.values) + first, dtype=np.int32) for image in images]
        found: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(images)
        results = self._pipeline.results(
            rows,
            tail,
            select,
            batch_tokens=batch_tokens,
            attach=lambda batch: self._tower.attach_images(batch, [images[index] for index in batch.indices]),
            noun="images" if places is None else "inputs",
            places=places,
            per=self.patches.cell,
        )
        with closing(results) as batches:
            for batch, values in batches:
                lengths = np.diff(batch.cu_seqlens) // self.patches.cell
                ends = np.arange(1, len(lengths)) if pools else np.cumsum(lengths)[:-1]
                for index, part in zip(batch.indices, np.split(values, ends), strict=True):
                    found[index] = part
        return found

    def rows(
        self, images: Sequence[Patches], *, batch_tokens: int | None = None, places: Sequence[int] | None = None
    ) -> list[MediaRow]:
        """For each image the row in which the language side reads it."""
        template, merge = self._template, self.patches.merge
        assert template is not None  # of a model whose `spec.text` is None nobody asks for rows
        features = self.encode(images, batch_tokens=batch_tokens, places=places)
        return [
            template.row(found, (image.grid[1] // merge, image.grid[2] // merge))
            for found, image in zip(features, images, strict=True)
        ]

    def row_ids(self, image: Patches) -> tuple[np.ndarray, int, tuple[int, int]]:
        """Of the row in which the language side reads an image: its ids, the place of the first of the image's tokens,
        and how many rows and columns of them there are."""
        assert self._template is not None
        grid = image.grid[1] // self.patches.merge, image.grid[2] // self.patches.merge
        row = self._template.row(np.empty((grid[0] * grid[1], 0), np.float32), grid)
        return row.ids, int(row.feature_places[0]), grid

    def _tail(self, tokens: bool) -> tuple[Tail, Select]:
        if self._mergers:
            cell = self.patches.cell
            return Merged(self._mergers[:1], self.spec.tower, self._engine), lambda batch: select_cells(batch, cell)
        pooling = self.spec.tower.default_pooling
        tail = Finished(pooling, (), Finish(tokens, None, False), self._engine)
        return tail, select_tokens if tokens else lambda batch: select_pooled(batch, pooling, None)
