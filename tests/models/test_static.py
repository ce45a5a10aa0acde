"""Static models: every case of the goldens, texts of nothing, and files that are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from longspan import CheckpointError, Encoder

NAMES = ["potion", "half", "quantised", "sentence-transformers"]


@pytest.mark.parametrize("name", NAMES)
def test_every_case(isa: str, name: str, golden: Path) -> None:
    folder = golden / "static"
    encoder = Encoder(folder / name)
    texts = json.loads((folder / "cases.json").read_text())["header"]["texts"]
    expected = np.load(folder / "expected.npz")
    vectors = encoder.encode(texts, on_truncate="ignore")
    for place, text in enumerate(texts):
        ids = expected[f"ids/{name}/{place}"]
        [tokens] = encoder.tokenize([text])
        assert tokens.ids[~tokens.special_mask].tolist() == ids.tolist(), (name, place)
        key = f"emb64/{name}/{place}" if name != "sentence-transformers" else f"emb/{name}/{place}"
        np.testing.assert_allclose(vectors[place], expected[key], rtol=0, atol=1e-6, err_msg=str(place))


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_nothing_is_zeros_and_disturbs_nobody(name: str, golden: Path) -> None:
    encoder = Encoder(golden / "static" / name)
    vectors = encoder.encode(["", "reset a password", " "])
    assert not vectors[0].any() and not vectors[2].any()
    np.testing.assert_array_equal(vectors[1], encoder.encode("reset a password"))
    assert encoder.encode([]).shape == (0, 48)


def test_the_limit_is_the_config_s(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "static" / "potion", folder)
    config = json.loads((folder / "config.json").read_text())
    for said, limit in ((7, 7), (None, 1 << 20)):
        (folder / "config.json").write_text(json.dumps({**config, "max_length": said}))
        encoder = Encoder(folder)
        assert encoder.max_length == limit
    with pytest.raises(ValueError, match="max_length"):
        encoder.encode("a", max_length=0)


def test_the_table_stays_in_its_file(golden: Path) -> None:
    words = Encoder(golden / "static" / "half")._encoder.weights.word_embeddings
    assert words.dtype == np.float16 and not words.flags.writeable


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "potion",
            lambda t: t.update(embeddings=t["embeddings"][0]),
            r"embeddings must be \(tokens, dim\), got \(48,\)",
        ),
        ("potion", lambda t: t["embeddings"].__setitem__((3, 4), np.nan), "'embeddings' holds nan"),
        ("potion", lambda t: t.update(embeddings=t["embeddings"][:500]), "different models"),
        ("potion", lambda t: t.pop("embeddings"), "embedding"),
        ("quantised", lambda t: t["mapping"].__setitem__(5, 120), "mapping must hold rows from 0 to 119"),
        ("quantised", lambda t: t["mapping"].__setitem__(5, -1), "mapping must hold rows from 0 to 119"),
        ("quantised", lambda t: t.update(mapping=np.array(3)), r"mapping must be \(tokens,\), got \(\)"),
        (
            "quantised",
            lambda t: t.update(mapping=np.ones((9, 2), np.int32)),
            r"mapping must be \(tokens,\), got \(9, 2",
        ),
        ("quantised", lambda t: t.update(mapping=t["mapping"].astype(np.float32)), "mapping must hold rows"),
        (
            "quantised",
            lambda t: t.update(weights=t["weights"][:5]),
            r"weights must be \(900,\) by the config, got \(5,\)",
        ),
        ("quantised", lambda t: t["weights"].__setitem__(5, np.inf), "'weights' holds inf"),
    ],
)
def test_hostile(
    name: str, change: Callable[[dict[str, np.ndarray]], object], message: str, golden: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "static" / name, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(
        {key: np.asarray(values, order="C") for key, values in tensors.items()} or {"x": np.ones(1)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=message):
        Encoder(folder)


@pytest.mark.parametrize("name", ["potion", "sentence-transformers"])
def test_characters_are_cut_before_tokens(name: str, golden: Path) -> None:
    """model2vec cuts a text at max_length times the median length of its vocabulary's strings, then the tokens."""
    encoder = Encoder(golden / "static" / name)
    backend, limit = encoder.tokenizer.backend, 4
    words = backend.get_vocab(with_added_tokens=True)
    text = 9 * (max((word for word in words if word.isalpha() and word.islower()), key=lambda w: (len(w), w)) + " ")
    characters = limit * int(np.median([*map(len, words)]))
    kept = text[:characters] if name == "potion" else text
    want = backend.encode(kept, add_special_tokens=False).ids[:limit]
    [tokens] = encoder.tokenizer.encode([text], max_length=limit)
    assert tokens.ids.tolist() == want
    assert name != "potion" or want != backend.encode(text, add_special_tokens=False).ids[:limit]


def test_layers_behind_a_table(golden: Path, tmp_path: Path) -> None:
    """It makes a text's vector without a Pooling, so that a Dense behind it is none of tokens."""
    source = golden / "static" / "sentence-transformers"
    folder, texts = Path(shutil.copytree(source, tmp_path / "model")), ["reset a password", "words"]
    plain = Encoder(source).encode(texts).astype(np.float64)
    weight = np.random.default_rng(2).standard_normal((8, plain.shape[1])).astype(np.float32)
    (folder / "2_Dense").mkdir()
    save_file({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors")
    own = {"in_features": plain.shape[1], "out_features": 8, "bias": False, "activation_function": "torch.nn.Identity"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(own))
    modules = json.loads((folder / "modules.json").read_text())
    behind = [{"path": f"{place}_{kind}", "type": f"models.{kind}"} for place, kind in ((1, "Normalize"), (2, "Dense"))]
    (folder / "modules.json").write_text(json.dumps(modules + behind))
    want = plain / np.linalg.norm(plain, axis=1, keepdims=True) @ weight.T
    np.testing.assert_allclose(Encoder(folder).encode(texts), want, rtol=0, atol=1e-5)
