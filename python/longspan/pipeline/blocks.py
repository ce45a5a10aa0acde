"""A call's inputs, block by block, each read while the one before is computed: texts tokenized, images cut up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from longspan.packing.media import Patches
from longspan.pipeline.ahead import ahead
from longspan.pipeline.inputs import Part
from longspan.pipeline.vision import Vision

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
        images: patches by place in the block.
    """

    start: int
    size: int
    texts: dict[int, Text]
    images: dict[int, Patches]

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
) -> Iterator[Block[Text]]:
    """All inputs in order; of none one empty block, so that the options are checked.

    Args:
        caller: begins the messages.
        items: each of one part.
        prompts: what goes before each; images have none.
        tokenize: makes of texts and their prompts their tokens.
        vision: reads images; a model without one has none to read.
    Raises: as `tokenize` and `Vision.read`, when the block's turn comes; ValueError, an input has several parts.
    """
    for parts in items:
        if len(parts) > 1:
            raise ValueError(
                f"{caller}: {parts[0].name} has {len(parts)} parts, but this model makes a vector of one text or one "
                f"image; give them apart"
            )
    slices = list(_slices(items, 1 if vision is None else vision.images_per_block))

    def read(part: slice) -> Block[Text]:
        own = [parts[0] for parts in items[part]]
        places = [place for place, one in enumerate(own) if one.modality == "text"]
        before = prompts[part]
        tokens = tokenize([str(own[place].value) for place in places], [before[place] for place in places])
        images = {}
        if len(places) < len(own):
            assert vision is not None  # `read_inputs` has seen to it
            images = {place: vision.read(caller, one) for place, one in enumerate(own) if one.modality == "image"}
        return Block(part.start, len(own), dict(zip(places, tokens, strict=True)), images)

    blocks = map(read, slices)
    return ahead(blocks) if len(slices) > 1 else blocks


def _slices(items: Sequence[tuple[Part, ...]], images_per_block: int) -> Iterator[slice]:
    start = images = 0
    for place, parts in enumerate(items):
        is_image = parts[0].modality != "text"
        if place - start == TEXTS_PER_BLOCK or (is_image and images == images_per_block):
            yield slice(start, place)
            start, images = place, 0
        images += is_image
    yield slice(start, len(items))
