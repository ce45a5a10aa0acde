"""What becomes of jina-embeddings-v5-omni's images, videos and sounds before its towers, as its files say it.

Its published wrapper has limits of its own in place of its processor classes' stock ones; a file counts where it says
neither the one nor nothing. Source: arXiv:2605.08384.
"""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.models.audio_spec import MelSpec
from longspan.models.families.family import require
from longspan.models.families.vision import read_area
from longspan.models.vision_spec import ClipSpec, PatchSpec, PixelSpec

HALF: Final = (0.5, 0.5, 0.5)
IMAGES: Final = PixelSpec("area", least_pixels=262_144, most_pixels=1_310_720, mean=HALF, std=HALF)
CLIPS: Final = PixelSpec("area", least_pixels=262_144, most_pixels=12_845_056, mean=HALF, std=HALF)
STOCK_IMAGES: Final = (65_536, 16_777_216)  # Qwen3-VL's
STOCK_CLIPS: Final = (4_096, 25_165_824)


def image_pixels(checkpoint: Checkpoint, patches: PatchSpec) -> PixelSpec:
    """Of preprocessor_config.json. Raises: CheckpointError, it asks for what is not done here."""
    config = JsonObject.read_optional(checkpoint.model_folder / "preprocessor_config.json")
    return read_area(config, patches, IMAGES, STOCK_IMAGES)


def video_clip(checkpoint: Checkpoint, patches: PatchSpec) -> ClipSpec:
    """Of video_preprocessor_config.json. Raises: as `image_pixels`."""
    config = JsonObject.read_optional(checkpoint.model_folder / "video_preprocessor_config.json")
    return ClipSpec(read_area(config, patches, CLIPS, STOCK_CLIPS))


def sound_mel(checkpoint: Checkpoint, num_mels: int) -> MelSpec:
    """Whisper's features of at most 30 seconds, whatever the file says: the published wrapper passes over it.

    Raises: as `image_pixels`.
    """
    config = JsonObject.read_optional(checkpoint.model_folder / "preprocessor_config.json")
    mel = MelSpec(num_mels=num_mels)
    whisper = {"feature_size": num_mels, "sampling_rate": mel.rate, "n_fft": mel.window, "hop_length": mel.hop}
    require(config, "Whisper's features", **whisper, dither=0.0)
    return mel
