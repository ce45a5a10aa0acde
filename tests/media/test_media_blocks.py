"""What reading media costs: once an object, blocks of memory, no more than a sequence holds."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from longspan import Encoder, MediaOptions
from longspan.packing.media import Mel, Patches
from longspan.pipeline import blocks
from longspan.pipeline.inputs import Part, read_inputs
from longspan.pipeline.sequences import MediaReader
from longspan.pipeline.vision import Vision
from media_models import TASKS, Goldens, Opened

pictures = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_one_object_is_read_and_computed_once(
    goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many inputs and tasks it stands in."""
    omni, encoder = goldens["nano"], opened["nano"]
    image, sound = omni.image(1), omni.sound("odd")
    reads, passes, read, compute = [], [], MediaReader._read, Vision._computed
    monkeypatch.setattr(MediaReader, "_read", lambda self, part: reads.append(part.name) or read(self, part))
    monkeypatch.setattr(
        Vision, "_computed", lambda self, each, *how: passes.append(len(each)) or compute(self, each, *how)
    )
    inputs = [image, sound, (sound, image), {"image": [image, image]}]
    found = encoder.encode(inputs * 4, task=[task for task in TASKS for _ in inputs])
    assert len(reads) == 2 and passes == [1]
    np.testing.assert_array_equal(found[7], encoder.encode([{"image": [image, image]}], task=TASKS[1])[0])


def test_blocks_of_little_memory(goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    omni, encode = goldens["small"], partial(opened["small"].encode, task="clustering")
    inputs = ["a", omni.image(0), omni.sound("odd"), omni.video(2), "b", (omni.image(1), omni.image(4)), omni.image(2)]
    whole = encode(inputs)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(encode(inputs), whole)


def test_no_more_is_read_than_a_sequence_holds(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages a file has: each takes tens of megabytes."""
    reads, read = [], MediaReader._read
    monkeypatch.setattr(MediaReader, "_read", lambda self, part: reads.append(part.name) or read(self, part))
    images = [np.full((64, 64, 3), level % 256, np.uint8) for level in range(2000)]
    with pytest.raises(ValueError, match=r"inputs\[1\] takes more than 4096 tokens for media alone"):
        opened["small"].encode(["a", {"image": images}], task="retrieval")
    assert len(reads) < 1200
    fits, fit = [], MediaReader._fit
    monkeypatch.setattr(MediaReader, "_fit", lambda self, part: fits.append(part.name) or fit(self, part))
    [parts] = read_inputs("test", [{"image": images}], None, opened["small"].modalities).items
    with pytest.raises(ValueError, match=r"inputs\[0\] takes more than 4096 tokens for media alone"):
        opened["small"].fit_input(parts)
    assert len(fits) == len(reads)


def test_a_sequence_may_be_as_long_as_the_models(goldens: Goldens, opened: Opened) -> None:
    reader = opened["small"]._sequences.reader("test", MediaOptions())
    [parts] = read_inputs("test", [("words ", goldens["small"].image(1))], None, opened["small"].modalities).items
    length = len(reader.read(parts, "", {}).text.ids)
    assert len(replace(reader, max_tokens=length).read(parts, "", {}).text.ids) == length
    with pytest.raises(ValueError, match=rf"takes {length} tokens, .* the model reads at most {length - 1}; give"):
        replace(reader, max_tokens=length - 1).read(parts, "", {})


def test_who_interrupts_does_not_wait_for_a_block(
    goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for the input that is being read."""
    reads, read, image = [], MediaReader._read, goldens["small"].image(1)

    def slowly(self: MediaReader, part: Part) -> Patches | Mel:
        time.sleep(0.01)
        reads.append(part.name)
        return read(self, part)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "TEXTS_PER_BLOCK", 50)
    given = ["a"] * 50 + [image.copy() for _ in range(50)]
    with monkeypatch.context() as patch:
        patch.setattr(MediaReader, "_read", slowly)
        patch.setattr(Encoder, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened["small"].encode(given, task="retrieval")
    assert len(reads) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("longspan-ahead")]
    assert opened["small"].encode([image], task="retrieval").shape == (1, opened["small"].dim)
