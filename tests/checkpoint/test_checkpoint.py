"""Checkpoint folders: every layout in use opens, and whatever is missing, damaged or unsupported is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from longspan import CheckpointError
from longspan.checkpoint.checkpoint import MAKE_TOKENIZER, Checkpoint
from longspan.checkpoint.modules import TRANSFORMER_SETTINGS
from longspan.checkpoint.safetensors_folder import SafetensorsFolder

TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}


@pytest.fixture
def model(tmp_path: Path, golden: Path) -> Path:
    """A folder of our own to break: the golden MiniLM's files that a checkpoint consists of."""
    return Path(
        shutil.copytree(
            golden / "bert-minilm", tmp_path / "model", ignore=shutil.ignore_patterns("cases.json", "expected.npz")
        )
    )


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def test_opens_the_golden_minilm(golden: Path) -> None:
    folder = golden / "bert-minilm"
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.folder == checkpoint.model_folder == folder
    assert checkpoint.config.get_str("model_type") == "bert"
    assert [module.kind for module in checkpoint.modules] == ["Transformer", "Pooling", "Normalize"]
    assert checkpoint.pooling is not None
    assert checkpoint.pooling.get_int("word_embedding_dimension") == 64
    assert checkpoint.pooling_modes == ("mean",)
    assert checkpoint.has_normalize
    assert checkpoint.dense == ()
    assert checkpoint.prompts == {}
    assert checkpoint.default_prompt_name is None
    assert checkpoint.similarity_fn_name is None
    assert checkpoint.max_seq_length == 256
    assert not checkpoint.do_lower_case
    assert checkpoint.tokenizer_file == folder / "tokenizer.json"
    assert checkpoint.tokenizer_config.get_str("cls_token") == "[CLS]"


def test_tensors_are_the_librarys(golden: Path) -> None:
    checkpoint = Checkpoint.open(golden / "xlmr-absolute")
    truth = load_file(golden / "xlmr-absolute" / "model.safetensors")
    assert sorted(checkpoint.tensor_names) == sorted(truth)
    for name, tensor in truth.items():
        array = checkpoint.read(name, tensor.dtype.type)
        assert checkpoint.shape(name) == tensor.shape
        np.testing.assert_array_equal(array, tensor)
        checkpoint.require_finite(name, array)
    checkpoint.close()
    with pytest.raises(ValueError, match="is closed"):
        checkpoint.read(checkpoint.tensor_names[0])


def test_opens_real_weights(minilm_path: Path) -> None:
    checkpoint = Checkpoint.open(minilm_path)
    assert checkpoint.max_seq_length == 256
    assert checkpoint.has_normalize
    assert checkpoint.shape("embeddings.word_embeddings.weight") == (30522, 384)


def test_bare_transformers_folder(model: Path) -> None:
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (model / name).unlink()
    shutil.rmtree(model / "1_Pooling")
    checkpoint = Checkpoint.open(model)
    assert checkpoint.modules == ()
    assert checkpoint.pooling is None
    assert checkpoint.pooling_modes == ()
    assert not checkpoint.has_normalize
    assert not checkpoint.do_lower_case


def test_transformer_in_a_folder_of_its_own(model: Path, tmp_path: Path) -> None:
    """The layout of the oldest sentence-transformers models."""
    root = tmp_path / "root"
    model.rename(tmp_path / "0_BERT")
    root.mkdir()
    (tmp_path / "0_BERT").rename(root / "0_BERT")
    for name in ("modules.json", "1_Pooling"):
        (root / "0_BERT" / name).rename(root / name)
    write_json(root / "modules.json", [TRANSFORMER | {"path": "0_BERT"}, POOLING])
    checkpoint = Checkpoint.open(root)
    assert checkpoint.folder == root
    assert checkpoint.model_folder == root / "0_BERT"
    assert checkpoint.max_seq_length == 256
    assert checkpoint.tensor_names
    assert not checkpoint.has_normalize


def test_hub_cache_of_links(model: Path, tmp_path: Path) -> None:
    """In a hub's cache every file of the snapshot is a link to a blob outside it."""
    snapshot = tmp_path / "snapshots" / "0123"
    for file in sorted(path for path in model.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    assert Checkpoint.open(snapshot).pooling_modes == ("mean",)


def test_class_names_count_by_their_last_part(model: Path) -> None:
    write_json(
        model / "modules.json",
        [
            TRANSFORMER | {"type": "custom_st.Transformer", "kwargs": ["task"]},
            POOLING | {"type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        ],
    )
    assert [module.kind for module in Checkpoint.open(model).modules] == ["Transformer", "Pooling"]


@pytest.mark.parametrize(
    "type_name", ["sentence_transformers.models.WordEmbeddings", "Transformer.Other", "", "x.Pooling2"]
)
def test_unsupported_module_is_named(model: Path, type_name: str) -> None:
    write_json(model / "modules.json", [TRANSFORMER, {"path": "1_X", "type": type_name}])
    complaint = rf"modules\.json: module 1: the type '{re.escape(type_name)}' is not supported; those that are: Transf"
    with pytest.raises(CheckpointError, match=complaint):
        Checkpoint.open(model)


@pytest.mark.parametrize("path", ["../model/1_Pooling", "/1_Pooling", "a/../../x", "..\\x"])
def test_module_path_stays_inside(model: Path, path: str) -> None:
    write_json(model / "modules.json", [TRANSFORMER, POOLING | {"path": path}])
    with pytest.raises(CheckpointError, match=r"modules\.json: module 1: 'path' must be a path inside the folder"):
        Checkpoint.open(model)


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ([], r"modules\.json must be a JSON list of modules that is not empty"),
        ({}, r"modules\.json must be a JSON list"),
        ([7], r"modules\.json: module 0 must be a JSON object, got 7"),
        ([{"path": ""}], "module 0: 'type' is missing"),
        ([{"type": "x.Transformer"}], "module 0: 'path' is missing"),
        ([POOLING], "must begin with its one Transformer or StaticEmbedding and have at most one Pooling, got Pooling"),
        ([TRANSFORMER, TRANSFORMER], "must begin with its one Transformer"),
        ([TRANSFORMER, POOLING, POOLING], "at most one Pooling, got Transformer, Pooling, Pooling"),
        ([TRANSFORMER, POOLING | {"path": "3_Pooling"}], r"config\.json is missing, or is not a file"),
    ],
)
def test_modules_that_make_no_model(model: Path, modules: object, complaint: str) -> None:
    write_json(model / "modules.json", modules)
    with pytest.raises(CheckpointError, match=complaint):
        Checkpoint.open(model)


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),  # joined in this order
        ({"pooling_mode_lasttoken": True, "include_prompt": False}, ("lasttoken",)),
        ({"pooling_mode_max_tokens": False}, ("mean",)),
        ({}, ("mean",)),
        ({"embedding_dimension": 64, "pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["mean", "cls"], "pooling_mode_max_tokens": True}, ("mean", "cls")),
    ],
)
def test_pooling_modes_of_old_and_new_files(model: Path, pooling: object, modes: tuple[str, ...]) -> None:
    write_json(model / "1_Pooling" / "config.json", pooling)
    assert Checkpoint.open(model).pooling_modes == modes


@pytest.mark.parametrize("mode", ["median", [], ["mean", "median"], 3, [["mean"]], {}])
def test_unknown_pooling_mode(model: Path, mode: object) -> None:
    write_json(model / "1_Pooling" / "config.json", {"pooling_mode": mode})
    with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json: 'pooling_mode' must be of cls, max, mean"):
        assert Checkpoint.open(model).pooling_modes


def test_pooling_agrees_with_sentence_transformers(model: Path) -> None:
    modules = pytest.importorskip("sentence_transformers.models")
    for modes in ("cls", "mean", "lasttoken", ("mean", "cls")):
        modules.Pooling(64, pooling_mode=modes).save(str(model / "1_Pooling"))
        assert Checkpoint.open(model).pooling_modes == ((modes,) if isinstance(modes, str) else modes)


def test_normalize_of_token_vectors_is_none_of_the_text(model: Path) -> None:
    write_json(model / "2_Normalize" / "config.json", {"module_input_name": "token_embeddings"})
    assert not Checkpoint.open(model).has_normalize
    write_json(model / "2_Normalize" / "config.json", {"module_input_name": "sentence_embedding"})
    assert Checkpoint.open(model).has_normalize


def test_dense_module_with_its_weights(model: Path) -> None:
    write_json(model / "modules.json", [TRANSFORMER, POOLING, {"path": "2_Dense", "type": "models.Dense.Dense"}])
    write_json(model / "2_Dense" / "config.json", {"in_features": 64, "out_features": 2})
    save_file({"linear.weight": np.ones((2, 64), np.float32)}, model / "2_Dense" / "model.safetensors")
    (dense,) = Checkpoint.open(model).dense
    assert dense.config.get_int("out_features") == 2
    assert SafetensorsFolder.open(dense.folder).read("linear.weight").shape == (2, 64)


def test_prompts(model: Path) -> None:
    said = {"prompts": {"query": "q: ", "document": None}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    write_json(model / "config_sentence_transformers.json", said)
    checkpoint = Checkpoint.open(model)
    assert checkpoint.prompts == {"query": "q: ", "document": ""}
    assert checkpoint.default_prompt_name == "query"
    assert checkpoint.similarity_fn_name == "dot"
    write_json(model / "config_sentence_transformers.json", {"prompts": {"query": 3}})
    with pytest.raises(CheckpointError, match=r"config_sentence_transformers\.json: prompts: 'query' must be a string"):
        Checkpoint.open(model)


@pytest.mark.parametrize("name", TRANSFORMER_SETTINGS)
def test_settings_under_every_historical_name(model: Path, name: str) -> None:
    (model / "sentence_bert_config.json").unlink()
    write_json(model / name, {"max_seq_length": 77, "do_lower_case": True})
    checkpoint = Checkpoint.open(model)
    assert checkpoint.max_seq_length == 77
    assert checkpoint.do_lower_case


@pytest.mark.parametrize(("longest", "limit"), [(512, 512), (int(1e30), None), (1e30, None), (None, None)])
def test_longest_input_of_newer_files_is_the_tokenizers(model: Path, longest: float | None, limit: int | None) -> None:
    write_json(model / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    write_json(model / "tokenizer_config.json", {"model_max_length": longest})
    assert Checkpoint.open(model).max_seq_length == limit


@pytest.mark.parametrize("limit", [0, -1])
def test_longest_input_must_be_positive(model: Path, limit: int) -> None:
    write_json(model / "sentence_bert_config.json", {"max_seq_length": limit})
    with pytest.raises(CheckpointError, match=f"the longest input must be 1 token or more, got {limit}"):
        Checkpoint.open(model)


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(FileNotFoundError, match=f"{name} is not a folder; give the folder that holds"):
            Checkpoint.open(tmp_path / name)


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"is no model: .*config\.json is missing"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", r"config\.json is not valid JSON"),
        (b"[]", r"config\.json must be a JSON object, got \[\]"),
        (b"[" * 100_000, r"config\.json is not usable JSON: it nests too deeply"),
        (b'{"model_type": "b\xe9rt"}', r"config\.json is not UTF-8 text: byte 17 is 0xe9"),
    ],
)
def test_broken_config(model: Path, content: bytes, complaint: str) -> None:
    (model / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        Checkpoint.open(model)


@pytest.mark.parametrize(
    "name", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json", "tokenizer_config.json"]
)
def test_every_json_file_is_checked(model: Path, name: str) -> None:
    (model / name).write_bytes(b"{")
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} is not valid JSON"):
        Checkpoint.open(model)


def test_truncated_weights(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated or overlong"):
        Checkpoint.open(model)


def test_pickled_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model\.bin; pickled weights .* convert them.*python -c"):
        Checkpoint.open(model)


def test_no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json is missing; make it.*{re.escape(MAKE_TOKENIZER)}"):
        Checkpoint.open(model)


def test_a_list_of_modules_without_end(model: Path) -> None:
    write_json(model / "modules.json", [TRANSFORMER, *[POOLING] * 300_000])
    with pytest.raises(CheckpointError, match="is larger than 16000000 bytes|lists 300001 modules; a model has 64"):
        Checkpoint.open(model)


def test_the_newer_settings_of_a_transformer(model: Path) -> None:
    settings = {"max_seq_length": 99, "processing_kwargs": {"text": {"max_length": 44}}}
    write_json(model / "sentence_bert_config.json", settings)
    assert Checkpoint.open(model).max_seq_length == 44
    write_json(model / "sentence_bert_config.json", {**settings, "processing_kwargs": {"common": {}}})
    assert Checkpoint.open(model).max_seq_length == 99
    texts = {"method": "forward", "method_output_name": "pooler_output"}
    write_json(model / "sentence_bert_config.json", {"modality_config": {"text": texts}})
    with pytest.raises(CheckpointError, match="'method_output_name' of texts must not be 'pooler_output'"):
        Checkpoint.open(model)
