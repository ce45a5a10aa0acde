"""A call's inputs, block by block, each read while the one before is computed: texts tokenized, images cut up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from longspan.packing.media import Patches
from longspan.pipeline.ahead import ahead
from longspan.pipeline.inputs import Part
from longspan.pipeline.sequences import MediaReader, Read, ReadInput
from longspan.pipeline.vision import BLOCK_BYTES, Vision
from longspan.text.waiting import check_waiting

# Texts that are tokenized together: it bounds memory, and gives the packing enough texts of like length.
TEXTS_PER_BLOCK: Final = 4096

Text = TypeVar("Text")  # a text's tokens
Tokenize = Callable[[list[str], list[str]], list[Text]]


@dataclass(frozen=True, slots=True)
class Block(Generic[Text]):
    """Neighbouring inputs of a call.

    Attributes:
        start: the first one's place in the call.
        size: how many they are.
        texts: tokens by place in the block.
        images: patches by place in the block, of models that have a vector of an image alone.
        sequences: inputs with media by place in the block, of models that read them in one sequence with texts.
    """

    start: int
    size: int
    texts: dict[int, Text]
    images: dict[int, Patches]
    sequences: dict[int, ReadInput]

    @property
    def part(self) -> slice:
        """Their places in the call."""
        return slice(self.start, self.start + self.size)


def read_blocks(
    caller: str,
    items: Sequence[tuple[Part, ...]],
    prompts: Sequence[str],
    tokenize: Tokenize[Text],
    vision: Vision | None,
    media: MediaReader | None = None,
) -> Iterator[Block[Text]]:
    """All inputs in order; of none one empty block, so that the options are checked.

    Args:
        caller: begins the messages.
        items: the parts of each; one each, unless `media` reads them.
        prompts: what goes before each; images have none.
        tokenize: makes of texts and their prompts their tokens.
        vision: reads images; a model without one has none to read.
        media: reads inputs with media instead, for models that read them in one sequence with texts.
    Raises: as `tokenize`, `Vision.read` and `MediaReader.read`, when the block's turn comes; ValueError, an input has
        several parts and nothing reads such.
    """
    if media is None:
        _require_one_part(caller, items)
    slices = list(_slices(items, vision, media))

    def read(part: slice) -> Block[Text]:
        own, before = items[part], prompts[part]
        texts = [place for place, parts in enumerate(own) if is_text(parts)]
        tokens = tokenize(
            ["".join(str(part.value) for part in own[place]) for place in texts], [*map(before.__getitem__, texts)]
        )
        images: dict[int, Patches] = {}
        sequences: dict[int, ReadInput] = {}
        seen: dict[tuple[str, int], Read] = {}
        for place, parts in enumerate(own):
            if is_text(parts):
                continue
            check_waiting()  # files may take seconds each
            if media is not None:
                sequences[place] = media.read(parts, before[place], seen)
            else:
                assert vision is not None  # `read_inputs` has seen to it
                images[place] = vision.read(caller, parts[0])
        return Block(part.start, len(own), dict(zip(texts, tokens, strict=True)), images, sequences)

    blocks = map(read, slices)
    return ahead(blocks) if len(slices) > 1 else blocks


def is_text(parts: Sequence[Part]) -> bool:
    """Whether an input is text alone."""
    return all(part.modality == "text" for part in parts)


def _require_one_part(caller: str, items: Sequence[tuple[Part, ...]]) -> None:
    for parts in items:
        if len(parts) > 1:
            raise ValueError(
                f"{caller}: {parts[0].name} has {len(parts)} parts, but this model makes a vector of one text or one "
                f"image; give them apart"
            )


def _slices(items: Sequence[tuple[Part, ...]], vision: Vision | None, media: MediaReader | None) -> Iterator[slice]:
    """Blocks of at most TEXTS_PER_BLOCK inputs and of BLOCK_BYTES of pixels and sound, or of one input."""
    start = total = 0
    for place, parts in enumerate(items):
        size = 0
        if not is_text(parts):
            of_image = 0 if vision is None else BLOCK_BYTES // vision.images_per_block
            size = of_image if media is None else media.num_bytes(parts)
        if place - start == TEXTS_PER_BLOCK or (size and place > start and total + size > BLOCK_BYTES):
            yield slice(start, place)
            start, total = place, 0
        total += size
    yield slice(start, len(items))
