"""What a model reads, and what of it a caller wants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace

from longspan.models.spec import ModelSpec, WeightMap
from longspan.pipeline.inputs import MODALITIES, Modality


def modalities_of(spec: ModelSpec) -> tuple[Modality, ...]:
    """What a model of that spec reads."""
    has = {
        "text": True,
        "image": spec.vision is not None,
        "audio": spec.audio is not None,
        "video": spec.vision is not None and spec.vision.clip is not None,
    }
    return tuple(modality for modality in MODALITIES if has[modality])


def chosen_modalities(caller: str, wanted: Sequence[str] | None, known: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """Those of `known` that are wanted. ValueError, if something else is, or texts are not;
    TypeError."""
    if wanted is None:
        return known
    if not isinstance(wanted, Iterable):
        raise TypeError(f"{caller}: modalities must be None or several str, got {type(wanted).__name__}")
    chosen = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    if "text" not in chosen or not set(chosen) <= set(known):
        reads = ", ".join(map(repr, known))
        raise ValueError(f"{caller}: modalities must be None, or 'text' and others of {reads}, got {wanted!r}")
    return tuple(modality for modality in known if modality in chosen)


def with_modalities(spec: ModelSpec, names: WeightMap, chosen: Sequence[Modality]) -> tuple[ModelSpec, WeightMap]:
    """The same without the towers that nothing chosen needs."""
    if names.tower is not None and not {"image", "video"} & {*chosen}:
        unused = (*names.unused, *names.tower.names)
        spec, names = replace(spec, vision=None), replace(names, tower=None, unused=unused)
    if names.audio is not None and "audio" not in chosen:
        unused = (*names.unused, *names.audio.names)
        spec, names = replace(spec, audio=None), replace(names, audio=None, unused=unused)
    return spec, names


def media_settings(spec: ModelSpec) -> dict[str, object]:
    """What shapes the vectors of media beside the weights: of models that read them in one sequence with texts all of
    it; of others the pixels' settings where they are not the usual ones, so that indexes which were made before these
    counted stay good."""
    if spec.sequence is None:
        vision = spec.vision
        return {} if vision is None or vision.pixels in vision.usual else {"pixels": asdict(vision.pixels)}
    parts: dict[str, object] = {"sequence": asdict(spec.sequence)}
    if spec.vision is not None:
        parts |= {"pixels": asdict(spec.vision.pixels)}
        parts |= {} if spec.vision.clip is None else {"clip": asdict(spec.vision.clip)}
    return parts if spec.audio is None else {**parts, "mel": asdict(spec.audio.mel)}
