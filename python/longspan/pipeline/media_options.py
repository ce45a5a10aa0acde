"""What a caller may choose of how images, sounds and videos are put to a model that reads them in one sequence."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal

from longspan.arguments import names_arguments
from longspan.models.spec import ModelSpec

PROMPTED: Final = ("text", "all")
WRAPPERS: Final = ("bare", "chat")
AUDIO_PADDINGS: Final = ("none", "30s")
SHORT_SOUNDS: Final = ("refuse", "pad")


@names_arguments
@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """How media are read, of jina-embeddings-v5-omni. Servers and libraries differ in all of this: vectors made in two
    ways are no more than alike.

    Args:
        prompts: which inputs have the prompt before them: "text", those with a text in them; or "all".
        wrapper: "bare"; or "chat", media between `<|im_start|>user` and `<|im_end|>`, as the published wrapper sends
            all but a video alone where the repository has a chat template.
        outer_video_markers: whether a video that has time stamps has one more pair of markers around all of it, as
            newer transformers write it.
        audio_padding: "none", a sound counts as long as it is; "30s", as half a minute, with silence behind it.
        short_sounds: of a sound too short for a token: "refuse", or "pad" it with silence.
        video_sound: whether the sound of a video file is read, right before its pictures.
    Raises: ValueError, a value is none of these.
    """

    prompts: Literal["text", "all"] = "text"
    wrapper: Literal["bare", "chat"] = "bare"
    outer_video_markers: bool = False
    audio_padding: Literal["none", "30s"] = "none"
    short_sounds: Literal["refuse", "pad"] = "refuse"
    video_sound: bool = True

    def __post_init__(self) -> None:
        choices = {
            "prompts": PROMPTED,
            "wrapper": WRAPPERS,
            "audio_padding": AUDIO_PADDINGS,
            "short_sounds": SHORT_SOUNDS,
            "outer_video_markers": (False, True),
            "video_sound": (False, True),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                listed = ", ".join(map(repr, known))
                raise ValueError(f"MediaOptions: {name} must be one of {listed}, got {getattr(self, name)!r}")

    @property
    def changed(self) -> dict[str, object]:
        """What is not as it is by default."""
        pairs = ((field.name, field.default) for field in fields(self))
        return {name: getattr(self, name) for name, default in pairs if getattr(self, name) != default}


def checked_media(caller: str, media: object, spec: ModelSpec) -> MediaOptions:
    """`media`, or the defaults for None. TypeError if it is something else; ValueError if a model of that spec has
    nothing to which it could say something else than the defaults."""
    if media is None:
        return MediaOptions()
    if not isinstance(media, MediaOptions):
        raise TypeError(f"{caller}: media must be a longspan.MediaOptions or None, got {type(media).__name__}")
    if spec.sequence is None and media.changed:
        names = ", ".join(media.changed)
        raise ValueError(
            f"{caller}: media is for models that read media in one sequence with texts, and {spec.family} does not; "
            f"leave out {names}"
        )
    return media
