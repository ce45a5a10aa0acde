"""The towers of jina-embeddings-v5-omni against the goldens, from stored pixels and log-mel frames on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Tensors, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.models import detect_family
from longspan.models.audio_spec import StemSpec
from longspan.models.audio_tower import pooled_pairs, select_pairs
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.families.omni_towers import audio_tower_spec, vision_tower_spec
from longspan.models.vision_spec import PatchSpec
from longspan.models.weights import load_weights
from longspan.packing.batch import pack
from longspan.packing.media import Mel
from longspan.pipeline.audio import Audio
from longspan.pipeline.vision import Vision
from omni_models import OMNI, TASKS, OmniGolden, open_towers, read_omni
from vision_models import cosine

# The NOTES', for a float32 runtime.
LIMITS = {"vision_states": 2e-4, "vision_features": 1e-4, "audio_states": 2e-5, "audio_features": 2e-5}
LIMITS |= {"video_states": LIMITS["vision_states"], "video_features": LIMITS["vision_features"]}
LEAST = {"bfloat16": 0.999, "int8": 0.99}
EVERY = 25  # rows of the longest sound's states, of which the golden has one


def features(stored: OmniGolden, vision: Vision, audio: Audio) -> Iterator[tuple[str, np.ndarray]]:
    """The name of each of the golden's arrays of features, and ours."""
    for kind, media, compute in (
        ("vision", stored.images, vision.features),
        ("video", stored.videos, vision.features),
        ("audio", stored.sounds, audio.features),
    ):
        names = [name.rsplit("/", 1) for name in stored.part(f"{kind}_features/")]
        found = compute([media[key] for key, _ in names], [TASKS.index(task) for _, task in names])
        yield from ((f"{kind}_features/{key}/{task}", own) for (key, task), own in zip(names, found, strict=True))


def states(stored: OmniGolden, vision: Vision, audio: Audio) -> Iterator[tuple[str, np.ndarray]]:
    """The same of what towers have before any connector."""
    tower = vision._tower
    for kind, media in (("vision", stored.images), ("video", stored.videos)):
        for key, own in media.items():
            [batch] = pack([np.arange(len(own.values))], batch_tokens=4096)
            yield (
                f"{kind}_states/{key}",
                tower.forward(tower.attach_images(batch, [own]), Workspace(tower.engine.empty)),
            )
    listener, sounds = audio._tower, stored.sounds
    for key in stored.part("audio_states/"):
        rows = listener.stem.rows(len(sounds[key].values))
        [batch] = pack([np.arange(rows)], batch_tokens=4096)
        batch = listener.attach_sounds(batch, [sounds[key]])
        hidden = listener.forward(batch, Workspace(listener.engine.empty))
        found = pooled_pairs(hidden, audio._pooled.norm, select_pairs(batch), listener.spec, listener.engine)
        yield f"audio_states/{key}", found[::EVERY] if key == "33s" else found


@pytest.mark.parametrize("name", OMNI)
def test_every_stage(isa: str, name: str, golden: Path) -> None:
    stored = read_omni(golden / name)
    towers = open_towers(stored.model)
    seen = 0
    for key, found in (*features(stored, *towers), *states(stored, *towers)):
        truth, kind = stored.expected[key], key.partition("/")[0]
        np.testing.assert_allclose(found, truth, rtol=0, atol=LIMITS[kind], err_msg=key)
        seen += 1
    assert seen == sum(name.partition("/")[0] in LIMITS for name in stored.expected) >= 45


@pytest.mark.parametrize("name", OMNI)
def test_a_repository_of_one_task(name: str, golden: Path) -> None:
    """Its one connector is the task's."""
    stored = read_omni(golden / name)
    vision, audio = open_towers(stored.folder / "model-merged-retrieval")
    for kind, media, tower in (
        ("vision", stored.images, vision),
        ("video", stored.videos, vision),
        ("audio", stored.sounds, audio),
    ):
        for key, own in media.items():
            if (truth := stored.expected.get(f"{kind}_features/{key}/retrieval")) is not None:
                [found] = tower.features([own], [0])
                np.testing.assert_allclose(found, truth, rtol=0, atol=LIMITS[f"{kind}_features"], err_msg=key)


@pytest.mark.parametrize("name", OMNI)
def test_what_goldens_cannot_tell(name: str, golden: Path) -> None:
    """Numbers that are smaller than their limits, and those of configs that are silent."""
    vision, audio = open_towers(golden / name / "model")
    assert (vision.spec.tower.norm_eps, audio.spec.tower.norm_eps) == (1e-6, 1e-5)
    config = read_config(golden / name / "model")
    for key in ("num_position_embeddings", "patch_size", "temporal_patch_size", "spatial_merge_size"):
        del config["vision_config"][key]
    for key in ("n_window", "max_source_positions", "num_mel_bins"):
        del config["audio_config"][key]
    names = Checkpoint.open(golden / name / "model").tensor_names
    seen = vision_tower_spec(JsonObject(config["vision_config"], "config.json"), names)
    heard = audio_tower_spec(JsonObject(config["audio_config"], "config.json"), names)
    assert seen.patches == PatchSpec(16, frames=2, merge=2, places=48)
    assert heard.stem == StemSpec(128, 200)


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("name", OMNI)
def test_compute_types(isa: str, name: str, dtype: str, golden: Path) -> None:
    stored = read_omni(golden / name)
    for key, found in features(stored, *open_towers(stored.model, CpuEngine(dtype))):
        truth = stored.expected[key]
        assert cosine(found.reshape(1, -1), truth.reshape(1, -1)) >= LEAST[dtype], key


@pytest.mark.parametrize("dtype", ["float32", *LEAST])
@pytest.mark.parametrize("name", OMNI)
def test_alone_and_in_any_batch(name: str, dtype: str, golden: Path) -> None:
    """Also with other tasks beside, and with fewer threads."""
    stored = read_omni(golden / name)
    vision, audio = open_towers(stored.model, CpuEngine(dtype))
    seen, heard = [*stored.images.values(), *stored.videos.values()], [*stored.sounds.values()]
    for media, tower, place in ((seen, vision, 0), (heard, audio, 1)):
        alone = [tower.features([own], [number])[0] for own in media for number in (0, 2)]
        twice, numbers = [own for own in media for _ in range(2)], [0, 2] * len(media)
        for batch_tokens in (None, 70):
            found = tower.features(twice, numbers, batch_tokens=batch_tokens)
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one, other)
        turned = tower.features(media[::-1], [2] * len(media))
        single = open_towers(stored.model, CpuEngine(dtype), num_threads=1)[place].features(media[:3], [2, 0, 2])
        for one, other in zip([*turned[::-1], *single], [*alone[1::2], alone[1], alone[2], alone[5]], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", OMNI)
def test_direct_calls_give_the_bits_of_the_public_ops(name: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = read_omni(golden / name)
    direct = dict(features(stored, *open_towers(stored.model)))
    monkeypatch.setenv("LONGSPAN_BACKEND", "cpu")
    for key, found in features(stored, *open_towers(stored.model, OpsEngine())):
        np.testing.assert_array_equal(found, direct[key], err_msg=key)


def test_a_sound_without_a_token(golden: Path) -> None:
    _, audio = open_towers(golden / OMNI[0] / "model")
    short, enough = (Mel(np.zeros((frames, 128), np.float32)) for frames in (2, 3))
    assert [audio.num_tokens(own) for own in (short, enough)] == [0, 1]
    with pytest.raises(ValueError, match=r"sounds\[1\] must have frames for one token at least, got 2"):
        audio.features([enough, short], [0, 0])


def test_what_is_not_finite_is_named(golden: Path) -> None:
    stored = read_omni(golden / OMNI[0])
    vision, audio = open_towers(stored.model)
    images, sounds = list(stored.images.values()), list(stored.sounds.values())
    for media, tower, noun in ((images, vision, "images"), (sounds, audio, "sounds")):
        for place in (0, 3, len(media) - 1):
            given = list(media)
            given[place] = replace(media[place], values=np.full_like(media[place].values, 3e38))
            with np.errstate(all="ignore"), pytest.raises(ValueError, match=rf"^{noun}\[{place}\] gives a vector"):
                tower.features(given, [0] * len(given))


def test_an_older_repository_keeps_the_encoders_own_product(golden: Path, tmp_path: Path) -> None:
    """`audio_tower.proj` comes first where the connector reads `output_dim` values."""
    source = golden / OMNI[1] / "model-merged-retrieval"
    tensors, config = read_tensors(source), read_config(source)
    inner, rng = config["audio_config"]["output_dim"], np.random.default_rng(5)
    width, hidden = tensors["audio_projector.weight"].shape
    first, last = rng.standard_normal((inner, hidden)), rng.standard_normal((width, inner))
    shift, bias = rng.standard_normal(inner), rng.standard_normal(width)
    new = {"audio_tower.proj.weight": first, "audio_tower.proj.bias": shift, "audio_projector.weight": last}
    new = {name: values.astype(np.float32) for name, values in {**new, "audio_projector.bias": bias}.items()}
    folded = {"audio_projector.weight": last @ first, "audio_projector.bias": last @ shift + bias}
    folded = {name: values.astype(np.float32) for name, values in folded.items()}
    sound = read_omni(golden / OMNI[1]).sounds["odd"]
    made = []
    for name, own in (("older", new), ("newer", folded), ("both", {**new, **folded})):
        for silent in (False, True):
            config["audio_config"].pop("output_dim", None)
            config["audio_config"] |= {} if silent else {"output_dim": inner}
            copy = write_checkpoint(source, tmp_path / f"{name} {silent}", {**tensors, **own}, config)
            made.append(open_towers(copy)[1].features([sound], [0])[0])
    assert np.abs(made[0]).max() > 1
    np.testing.assert_allclose(made[0], made[2], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(made[4], made[2])  # it is there, and the connector does not read it
    np.testing.assert_array_equal(made[1::2], made[::2])  # the tensors say as much


@pytest.mark.parametrize(
    "modality, sees, listens",
    [("omni", True, True), ("text", False, False), ("vision", True, False), ("audio", False, True)],
)
def test_modality_of_the_config(modality: str, sees: bool, listens: bool, golden: Path, tmp_path: Path) -> None:
    source = golden / OMNI[0] / "model"
    config = {**read_config(source), "modality": modality}
    checkpoint = Checkpoint.open(write_checkpoint(source, tmp_path / "model", read_tensors(source), config))
    spec, names = detect_family(checkpoint).describe(checkpoint)
    assert (spec.vision is not None, spec.audio is not None) == (sees, listens)
    assert (names.tower is not None, names.audio is not None) == (sees, listens)
    wanted = set(names.names)
    assert any(name.startswith("visual.") for name in wanted) == sees
    assert any(name.startswith("audio_") for name in wanted) == listens


@pytest.mark.parametrize(
    "part, change, message",
    [
        ("vision_config", {"deepstack_visual_indexes": [1]}, r"'deepstack_visual_indexes' must be empty, got \[1\]"),
        ("vision_config", {"num_position_embeddings": 35}, "'num_position_embeddings' must be a square, got 35"),
        ("vision_config", {"num_position_embeddings": 25}, r"pos_embed.weight must be \(25, 32\) by the config"),
        ("vision_config", {"num_heads": 16}, "a head must have a multiple of 4 values, got 2"),
        ("vision_config", {"num_heads": 3}, "'hidden_size' 32 is no multiple of 'num_heads' 3"),
        ("vision_config", {"hidden_act": "gelu"}, "'hidden_act' must be 'gelu_pytorch_tanh', got 'gelu'"),
        ("vision_config", {"in_channels": 4}, "'in_channels' must be 3, got 4"),
        ("vision_config", {"temporal_patch_size": 3}, "'temporal_patch_size' must be 3, got 2"),
        ("vision_config", {"depth": 2}, "blocks.2.attn.proj.bias, .* are not part of this model"),
        ("vision_config", {"depth": 10**9}, "'depth' is 1000000000, but the weights have"),
        ("audio_config", {"activation_function": "relu"}, "'activation_function' must be 'gelu', got 'relu'"),
        ("audio_config", {"scale_embedding": True}, "'scale_embedding' must be False"),
        ("audio_config", {"n_window": 1501}, "'n_window' must be 'max_source_positions', 1500, or less"),
        ("audio_config", {"n_window": 0}, "'n_window' must be from 1 to 65536, got 0"),
        ("audio_config", {"d_model": 10**30}, "'d_model' must be from 1 to 16777216"),
        ("audio_config", {"encoder_attention_heads": 5}, "'d_model' 32 is no multiple of 'encoder_attention_heads' 5"),
        ("audio_config", {"num_mel_bins": 80}, r"audio_tower.conv1.weight must be \(32, 80, 3\) by the config"),
        ("audio_config", {"encoder_layers": 1}, "audio_tower.layers.1.* are not part of this model"),
        ("", {"modality": "smell"}, "'modality' must be one of omni, text, vision, audio, got 'smell'"),
    ],
)
def test_configs_that_lie(part: str, change: dict, message: str, golden: Path, tmp_path: Path) -> None:
    source = golden / OMNI[0] / "model"
    config = read_config(source)
    changed = {**config, part: {**config[part], **change}} if part else {**config, **change}
    with pytest.raises(CheckpointError, match=message):
        load_all(write_checkpoint(source, tmp_path / "model", read_tensors(source), changed))


MERGER, PROJECTOR = "mergers.retrieval.linear_fc2.weight", "audio_projectors.retrieval.weight"
K_BIAS, Q_BIAS = (f"audio_tower.layers.1.self_attn.{part}_proj.bias" for part in "kq")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop(MERGER), f"tensor {MERGER} is missing"),
        (lambda t: t.pop(PROJECTOR), f"tensor {PROJECTOR} is missing"),
        (lambda t: t.pop(Q_BIAS), f"tensor {Q_BIAS} is missing"),
        (lambda t: t.update({K_BIAS: np.ones(32, np.float32)}), f"{K_BIAS} is not part of"),
        (lambda t: t.update({"visual.extra.weight": np.ones(3, np.float32)}), "visual.extra.weight is not part of"),
        (lambda t: t.update({MERGER: t[MERGER][1:].copy()}), rf"{MERGER} must be \(64, 128\) .* got \(63, 128\)"),
        (
            lambda t: t.update({PROJECTOR: t[PROJECTOR][1:].copy()}),
            rf"{PROJECTOR} must be \(64, 32\) .* got \(63, 32\)",
        ),
        (lambda t: t["audio_tower.ln_post.bias"].__setitem__(3, np.nan), "'audio_tower.ln_post.bias' holds nan"),
    ],
)
def test_spoilt_tensors(change: Callable[[Tensors], object], message: str, golden: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_all(spoilt(golden / OMNI[0] / "model", tmp_path / "model", change))


def load_all(model: Path) -> None:
    """What opening a model does of its weights."""
    checkpoint = Checkpoint.open(model)
    spec, names = detect_family(checkpoint).describe(checkpoint)
    load_weights(checkpoint, spec, names, CpuEngine())
    open_towers(model)
