"""Sound and video files, each looked at when its turn comes, so that a damaged one is a bad row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longspan.cli.files.inputs import Input


def read_recording(source: Input) -> Iterator[tuple[dict[str, object], Path | None, str, int]]:
    """For a sound or a video file: the row of its fields, what is to be embedded, its place, its bytes.

    Of what is damaged there is nothing to embed, and the place is a sentence that says why.
    """
    assert source.path is not None  # `find_inputs` sees to it
    size = source.size or 0
    try:
        if source.format == "audio":
            _check_sound(source.path, source.name)
        else:
            _check_video(source.path, source.name)
    except ValueError as error:
        yield {}, None, str(error), size
        return
    yield {"text": None, "file": source.name}, source.path, source.name, size


def _check_sound(path: Path, name: str) -> None:
    from longspan.audio.sound import SoundReader
    from longspan.models.audio_spec import MelSpec

    SoundReader(MelSpec()).read(path, name)


def _check_video(path: Path, name: str) -> None:
    """Decoded, but not brought to a model's size."""
    from longspan.audio.sound import SoundReader
    from longspan.audio.tracks import sound_track
    from longspan.models.audio_spec import MelSpec
    from longspan.video.files import NEEDS, read_frames

    read_frames(path, 2, lambda *_: lambda frame: frame[:0], name)
    with sound_track(path, name, NEEDS) as track:
        if track is not None:
            SoundReader(MelSpec()).of_track(track)
