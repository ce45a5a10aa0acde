"""`Fingerprint`: what changes a vector changes it, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Tensors, spoilt
from longspan import CheckpointError, Encoder, MultiVectorEncoder

GOLDEN = Path(__file__).parents[1] / "golden"
BERT = GOLDEN / "bert-minilm"
V5 = GOLDEN / "jina-v5-text-nano"
COLBERT = GOLDEN / "jina-colbert-v2"


def folder_of(family: Path) -> Path:
    """The folder with config.json, of a golden model."""
    return family if (family / "config.json").exists() else next(family.glob("*/config.json")).parent


def edited(source: Path, target: Path, name: str, **changes: object) -> Path:
    """A copy of `source` with keys of one of its JSON files replaced."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("expected.npz"))
    content = json.loads((target / name).read_text()) if (target / name).exists() else {}
    (target / name).write_text(json.dumps({**content, **changes}, indent=3))
    return target


def test_a_copy_under_another_name_has_the_same(tmp_path: Path) -> None:
    source = folder_of(BERT)
    copy = spoilt(source, tmp_path / "renamed", transformers_version="9.9", _name_or_path="somebody/else")
    first, second = Encoder(source).fingerprint, Encoder(copy).fingerprint
    assert first == second and len(first) == 32 and int(first, 16) >= 0
    assert Encoder(source, dtype="int8").fingerprint == first  # a compute type is no model


def test_truncation_and_padding_of_the_tokenizer_file_do_not_count(tmp_path: Path) -> None:
    source = folder_of(BERT)
    truncation = {"direction": "Right", "max_length": 17, "strategy": "LongestFirst", "stride": 0}
    copy = edited(source, tmp_path / "copy", "tokenizer.json", truncation=truncation)
    assert Encoder(source).fingerprint == Encoder(copy).fingerprint


def one_bit(tensors: Tensors) -> None:
    name = next(name for name in tensors if name.endswith("layer.0.output.dense.weight"))
    bits = tensors[name].view(np.uint32)
    bits[0, 0] ^= 1


def test_what_shapes_a_vector_counts(tmp_path: Path) -> None:
    source = folder_of(BERT)
    copies = [
        spoilt(source, tmp_path / "weight", one_bit),
        spoilt(source, tmp_path / "config", layer_norm_eps=1e-6),
        edited(source, tmp_path / "prompts", "config_sentence_transformers.json", prompts={"query": "q: "}),
        edited(source, tmp_path / "length", "sentence_bert_config.json", max_seq_length=77),
        edited(source, tmp_path / "case", "tokenizer_config.json", do_lower_case=False),
    ]
    found = [Encoder(folder).fingerprint for folder in [source, *copies]]
    assert len(set(found)) == len(found)


def test_adapters_count(tmp_path: Path) -> None:
    source = folder_of(V5)
    encoder = Encoder(source)
    before = encoder.fingerprint
    adapter = next(iter((source / "adapters").glob("*/adapter_config.json"))).parent
    encoder.load_adapter("mine", adapter)
    assert encoder.fingerprint != before
    again = Encoder(source)
    again.load_adapter("mine", adapter)
    assert again.fingerprint == encoder.fingerprint


def test_rules_of_late_interaction_count() -> None:
    source = folder_of(COLBERT)
    plain = MultiVectorEncoder(source)
    assert plain.fingerprint == MultiVectorEncoder(source).fingerprint
    assert plain.fingerprint != MultiVectorEncoder(source, query_maxlen=16).fingerprint
    assert plain.origin.dtype == plain.dtype


def test_a_file_that_was_changed_meanwhile_is_an_error(tmp_path: Path) -> None:
    copy = spoilt(folder_of(BERT), tmp_path / "copy")
    encoder = Encoder(copy)
    os.utime(copy / "model.safetensors", (1, 1))
    with pytest.raises(CheckpointError, match="was changed after the model was loaded"):
        encoder.fingerprint  # noqa: B018
