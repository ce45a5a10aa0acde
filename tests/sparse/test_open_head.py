"""Which head a sparse model has, by its files: of masked language models, routers, bge-m3; and what is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import spoilt
from longspan import CheckpointError, Encoder, SparseEncoder

MODELS = ("splade-bert", "splade-doc")


def test_sum_pooling(golden: Path, tmp_path: Path) -> None:
    """Against the logits themselves, which linear makes."""
    folder = spoilt(golden / "splade-bert" / "model", tmp_path / "model")
    config = folder / "1_SpladePooling" / "config.json"
    config.write_text(json.dumps({"pooling_strategy": "sum", "activation_function": "log1p_relu"}))
    encoder, text = SparseEncoder(folder), "the lock is taken before byte code is run"
    plain = Encoder(_as_encoder(golden, tmp_path))
    hidden = np.asarray(plain.encode(text, output_value="token_embeddings"))
    head = encoder._tail.head  # type: ignore[union-attr]
    transformed = np.empty_like(hidden)
    head.engine.multiply(hidden, head.dense, None, activation=head.activation, out=transformed)
    normed = np.empty_like(hidden)
    head.engine.norm(transformed, head.norm, "layer_norm", head.norm_eps, out=normed)
    weight, bias = head.output.weight.unpack()
    logits = np.maximum(normed.astype(np.float64) @ weight.T.astype(np.float64) + bias, 0)
    want = np.log1p(np.log1p(logits)).sum(axis=0)
    np.testing.assert_allclose(encoder.encode(text).to_dense()[0], want, rtol=0, atol=1e-4)


def _as_encoder(golden: Path, tmp_path: Path) -> Path:
    """The same weights, as a dense model."""
    folder = spoilt(golden / "splade-bert" / "model", tmp_path / "dense")
    (folder / "modules.json").unlink()
    return folder


def test_without_modules_it_is_splade_by_default(golden: Path, tmp_path: Path) -> None:
    texts = ["one text", "another one"]
    got = SparseEncoder(_as_encoder(golden, tmp_path)).encode(texts)
    np.testing.assert_array_equal(got.values, SparseEncoder(golden / "splade-bert" / "model").encode(texts).values)


def test_a_silent_pooling_module_is_splade_s(golden: Path, tmp_path: Path) -> None:
    """The largest, log(1 + relu): the activation came to the files later than the module."""
    folder = spoilt(golden / "splade-bert" / "model", tmp_path / "model")
    (folder / "1_SpladePooling" / "config.json").write_text("{}")
    got, want = (SparseEncoder(place).encode("one text") for place in (folder, golden / "splade-bert" / "model"))
    np.testing.assert_array_equal(got.values, want.values)


def test_a_sparse_model_is_no_dense_one(golden: Path) -> None:
    for name in MODELS:
        with pytest.raises(CheckpointError, match=r"is made for sparse .*; open it with longspan\.SparseEncoder"):
            Encoder(golden / name / "model")
    with pytest.raises(CheckpointError, match="is no sparse model: it needs a masked-language-model head"):
        SparseEncoder(golden / "bert-minilm")


HEAD = "cls.predictions"


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: t.pop(f"{HEAD}.bias"),
            rf"tensor {HEAD}.decoder.bias is missing from the masked-language-model head",
        ),
        (lambda t: t.pop(f"{HEAD}.transform.dense.bias"), rf"tensor {HEAD}.transform.dense.bias is missing"),
        (
            lambda t: t.update({f"{HEAD}.bias": t[f"{HEAD}.bias"][:5]}),
            r"bias must be \(903,\) by the config, got \(5,\)",
        ),
        (lambda t: t[f"{HEAD}.transform.LayerNorm.weight"].__setitem__(3, np.nan), "holds nan at flat position 3"),
        (
            lambda t: t.update({f"{HEAD}.decoder.weight": np.ones((903, 63), np.float32)}),
            r"decoder.weight must be \(903, 64\) by the config, got \(903, 63\)",
        ),
    ],
)
def test_hostile_heads(golden: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        SparseEncoder(spoilt(golden / "splade-bert" / "model", tmp_path / "model", change))


def test_an_output_matrix_of_its_own(golden: Path, tmp_path: Path) -> None:
    """Stored beside the table it is used; untied and missing it is missed."""
    name = f"{HEAD}.decoder.weight"
    doubled = spoilt(
        golden / "splade-bert" / "model",
        tmp_path / "own",
        lambda t: t.update({name: 2 * t["bert.embeddings.word_embeddings.weight"]}),
    )
    plain, own = SparseEncoder(golden / "splade-bert" / "model"), SparseEncoder(doubled)
    assert (own.encode("a text").values.max() > plain.encode("a text").values.max()).all()
    assert own.fingerprint != plain.fingerprint
    untied = spoilt(golden / "splade-bert" / "model", tmp_path / "untied", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=f"tensor {name} is missing"):
        SparseEncoder(untied)


def test_the_fingerprint_counts_the_head(golden: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{HEAD}.bias"][7] += 1

    source = golden / "splade-bert" / "model"
    same, other = spoilt(source, tmp_path / "same"), spoilt(source, tmp_path / "other", change)
    prints = [SparseEncoder(folder).fingerprint for folder in (source, same, other)]
    assert prints[0] == prints[1] != prints[2]
    pooled = spoilt(source, tmp_path / "sum")
    (pooled / "1_SpladePooling" / "config.json").write_text('{"pooling_strategy": "sum"}')
    assert SparseEncoder(pooled).fingerprint != prints[0]


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("router_config.json", {"types": {}, "structure": {"a": []}}, "must have the routes query and document"),
        (
            "router_config.json",
            {"types": {"": "x.Transformer"}, "structure": {"query": [""], "document": [""]}},
            "queries must go through one SparseStaticEmbedding, got Transformer",
        ),
        (
            "router_config.json",
            {"types": {"q": "x.IDF", "../x": "x.Transformer"}, "structure": {"query": ["q"], "document": ["../x"]}},
            "must be a path inside the folder, got '../x'",
        ),
        ("document_1_SpladePooling/config.json", {"pooling_strategy": "mean"}, "must be one of max, sum, got 'mean'"),
        (
            "document_1_SpladePooling/config.json",
            {"activation_function": "gelu"},
            "must be one of relu, log1p_relu, got 'gelu'",
        ),
        ("config_sentence_transformers.json", {"similarity_fn_name": "cosine"}, "similarity_fn_name must be 'dot'"),
    ],
)
def test_hostile_routers(golden: Path, tmp_path: Path, file: str, content: object, message: str) -> None:
    folder = spoilt(golden / "splade-doc" / "model", tmp_path / "model")
    for module in ("q",):
        (folder / module).mkdir()
        (folder / module / "config.json").write_text("{}")
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        SparseEncoder(folder)


def test_query_weights_in_other_files(golden: Path, tmp_path: Path) -> None:
    """idf.json at the root, a path in the module's config, and a table of another size."""
    want = SparseEncoder(golden / "splade-doc" / "model").encode_query("reset a password")
    folder = tmp_path / "model"
    shutil.copytree(golden / "splade-doc" / "model", folder)
    module = folder / "query_0_SparseStaticEmbedding"
    table = module / "model.safetensors"
    kept = table.read_bytes()
    table.unlink()
    np.testing.assert_array_equal(SparseEncoder(folder).encode_query("reset a password").values, want.values)
    (module / "own.json").write_text('{"reset": 2.5, "no such token": 1}')
    (module / "config.json").write_text('{"path": "own.json"}')
    assert SparseEncoder(folder).encode_query("reset").values.tolist() in ([2.5], [])
    (module / "config.json").write_text("{}")
    (folder / "idf.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        SparseEncoder(folder)
    table.write_bytes(kept[:100])
    with pytest.raises(CheckpointError):
        SparseEncoder(folder)


def test_query_weights_that_are_none(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "splade-doc" / "model", folder)
    module = folder / "query_0_SparseStaticEmbedding"
    (module / "config.json").write_text('{"path": "own.json"}')
    for number in ("1e39", "-1e39"):
        (module / "own.json").write_text(f'{{"reset": {number}}}')
        with pytest.raises(CheckpointError, match="the weight of 'reset' must be a number of float32, got -?1e.39"):
            SparseEncoder(folder)
    tokenizer = json.loads((module / "tokenizer.json").read_text())
    beyond = {**tokenizer["added_tokens"][-1], "id": 5000, "content": "[beyond]"}
    tokenizer["added_tokens"].append(beyond)
    (module / "tokenizer.json").write_text(json.dumps(tokenizer))
    (module / "own.json").write_text('{"[beyond]": 2.0, "reset": 1.5}')
    assert SparseEncoder(folder).encode_query("reset").values.tolist() in ([1.5], [])
    (module / "tokenizer_config.json").write_text('{"model_max_length": 0}')
    with pytest.raises(CheckpointError, match="'model_max_length' must be 1 or more, got 0"):
        SparseEncoder(folder)


def _with_modules(source: Path, folder: Path, *modules: str) -> Path:
    shutil.copytree(source, folder)
    entries = [{"type": f"st.{kind}", "path": f"{at}_{kind}" if at else ""} for at, kind in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))
    for entry in entries[1:]:
        (folder / entry["path"]).mkdir(exist_ok=True)
        (folder / entry["path"] / "config.json").write_text('{"pooling_mode": "mean"}')
    return folder


def test_modules_that_splade_does_not_run(golden: Path, tmp_path: Path) -> None:
    """What would change the vectors is never passed over."""
    source = golden / "splade-bert" / "model"
    for place, more in enumerate((["SpladePooling"], ["Normalize"], ["Dense"], ["SparseStaticEmbedding"])):
        folder = _with_modules(source, tmp_path / str(place), "Transformer", "SpladePooling", *more)
        with pytest.raises(CheckpointError, match=f"may list a Transformer and a SpladePooling, .* {more[0]}"):
            SparseEncoder(folder)
    with pytest.raises(CheckpointError, match=r"has Transformer, Pooling; open it with longspan\.Encoder"):
        SparseEncoder(_with_modules(source, tmp_path / "dense", "Transformer", "Pooling"))
    SparseEncoder(_with_modules(source, tmp_path / "alone", "Transformer"))


def test_dense_vectors_that_are_not_the_first_token_s(golden: Path, tmp_path: Path) -> None:
    mean = SparseEncoder(_with_modules(golden / "bge-m3" / "model", tmp_path / "mean", "Transformer", "Pooling"))
    with pytest.raises(ValueError, match="pass dense=False, and take longspan.Encoder"):
        mean.encode_outputs(["a"])
    got = mean.encode_outputs(["a"], dense=False).sparse
    want = SparseEncoder(golden / "bge-m3" / "model").encode(["a"])
    assert got is not None
    np.testing.assert_array_equal(got.values, want.values)


@pytest.mark.parametrize("kind", [SparseEncoder, Encoder])
def test_files_that_leave_no_room_for_text(kind: type, golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "bge-m3" / "model", tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 2}')
    with pytest.raises(CheckpointError, match="the longest input is too short: max_length must be at least 3 "):
        kind(tmp_path / "model")


def test_bge_m3_heads_of_other_models(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "bge-m3" / "model", folder)
    shutil.copyfile(folder / "colbert_linear.pt", folder / "sparse_linear.pt")
    with pytest.raises(CheckpointError, match=r"weight must be \(1, 64\), got \(64, 64\)"):
        SparseEncoder(folder)
    shutil.copyfile(golden / "bge-m3" / "pt" / "calls.pt", folder / "sparse_linear.pt")
    with pytest.raises(CheckpointError, match=r"which may run code.*convert it, in its folder, with: python -c"):
        SparseEncoder(folder)
    shutil.copyfile(golden / "bge-m3" / "model" / "sparse_linear.pt", folder / "sparse_linear.pt")
    (folder / "colbert_linear.pt").unlink()
    encoder = SparseEncoder(folder)
    with pytest.raises(ValueError, match="the model has no colbert_linear; pass multi_vector=False"):
        encoder.encode_outputs(["a"])
    assert encoder.encode_outputs(["a"], multi_vector=False).sparse is not None


def test_heads_as_safetensors_come_first(golden: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    from longspan.checkpoint.torch_file import read_torch_file

    folder = tmp_path / "model"
    shutil.copytree(golden / "bge-m3" / "model", folder)
    for stem in ("sparse_linear", "colbert_linear"):
        save_file(read_torch_file(folder / f"{stem}.pt", ("weight", "bias")), folder / f"{stem}.safetensors")
        (folder / f"{stem}.pt").write_bytes(b"never read")
    got, want = (SparseEncoder(place).encode("one text") for place in (folder, golden / "bge-m3" / "model"))
    np.testing.assert_array_equal(got.values, want.values)
    save_file({"weight": np.ones((1, 64), np.float32)}, folder / "sparse_linear.safetensors")
    with pytest.raises(CheckpointError, match="must hold weight and bias"):
        SparseEncoder(folder)


def test_token_classifiers_that_are_no_heads(golden: Path, tmp_path: Path) -> None:
    model = golden / "gte-new" / "model"
    two = {"classifier.weight": np.ones((2, 64), np.float32), "classifier.bias": np.ones(2, np.float32)}
    for folder in (
        spoilt(model, tmp_path / "labels", lambda tensors: tensors.update(two)),
        spoilt(model, tmp_path / "class", architectures=["NewForSequenceClassification"]),
        spoilt(model, tmp_path / "none", lambda tensors: tensors.pop("classifier.weight")),
    ):
        with pytest.raises(CheckpointError, match="is no sparse model: .*token classifier of one label"):
            SparseEncoder(folder)
    narrow = {"classifier.weight": np.ones((1, 63), np.float32)}
    with pytest.raises(CheckpointError, match=r"weight must be \(1, 64\), got \(1, 63\)"):
        SparseEncoder(spoilt(model, tmp_path / "narrow", lambda tensors: tensors.update(narrow)))
    nan = {"classifier.bias": np.full(1, np.nan, np.float32)}
    with pytest.raises(CheckpointError, match="classifier.bias"):
        SparseEncoder(spoilt(model, tmp_path / "nan", lambda tensors: tensors.update(nan)))
    changed = {"classifier.bias": np.full(1, 0.25, np.float32)}
    other = SparseEncoder(spoilt(model, tmp_path / "changed", lambda tensors: tensors.update(changed)))
    assert other.fingerprint != SparseEncoder(spoilt(model, tmp_path / "same")).fingerprint
    assert Encoder(tmp_path / "changed").fingerprint == Encoder(tmp_path / "same").fingerprint


def test_the_head_s_own_epsilon(golden: Path, tmp_path: Path) -> None:
    """The config's; of DistilBERT, whose config has none, 1e-12 whatever it says."""
    bert = spoilt(golden / "splade-bert" / "model", tmp_path / "bert", layer_norm_eps=1e-3)
    distilbert = spoilt(golden / "splade-doc" / "model", tmp_path / "distilbert", layer_norm_eps=1e-3)
    epsilons = [SparseEncoder(folder)._tail.head.norm_eps for folder in (bert, distilbert)]  # type: ignore[union-attr]
    assert epsilons == [1e-3, 1e-12]


def test_a_query_is_cut_at_512_tokens_where_its_files_set_no_limit(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "splade-doc" / "model", tmp_path / "model")
    (tmp_path / "model" / "query_0_SparseStaticEmbedding" / "tokenizer_config.json").unlink()
    encoder = SparseEncoder(tmp_path / "model")
    assert encoder._queries is not None and encoder._queries.max_length == 512
    with pytest.raises(ValueError, match="has 8 tokens more than 512"):
        encoder.encode_query("a " * 520, on_truncate="error")


@pytest.mark.parametrize("name", [*MODELS, "bge-m3"])
def test_entries_are_above_zero(name: str, golden: Path) -> None:
    vectors = SparseEncoder(golden / name / "model").encode(["one text", "reset a password"])
    assert (vectors.values > 0).all() and 0 < len(vectors.values) < 2 * vectors.dim
    assert all((np.diff(row.indices) > 0).all() for row in vectors)


def test_gte_s_names_of_its_head(golden: Path, tmp_path: Path) -> None:
    """The published name of its norm, and transformers'; RoBERTa's head otherwise."""
    rng, found = np.random.default_rng(4), []
    head = {"dense.weight": (64, 64), "dense.bias": (64,), "norm.weight": (64,), "norm.bias": (64,)}
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in head.items()}
    values["decoder.bias"] = rng.standard_normal(1004).astype(np.float32)
    for norm in ("norm", "layer_norm"):
        own = {f"lm_head.{name.replace('norm', norm)}": tensor for name, tensor in values.items()}

        def change(tensors: dict[str, np.ndarray], own: dict[str, np.ndarray] = own) -> None:
            tensors.pop("classifier.weight", None)
            tensors.update(own)

        folder = spoilt(golden / "gte-new" / "model", tmp_path / norm, change, architectures=["NewForMaskedLM"])
        for name in ("modules.json", "config_sentence_transformers.json"):
            (folder / name).unlink(missing_ok=True)
        found.append(SparseEncoder(folder).encode("a text of some words").to_dense())
    np.testing.assert_array_equal(*found)
    assert (found[0] > 0).any()


def test_the_files_say_how_many_entries_a_vector_has(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / "splade-bert" / "model", tmp_path / "model")
    published = folder / "config_sentence_transformers.json"
    before = json.loads(published.read_text()) if published.exists() else {}
    published.write_text(json.dumps({**before, "max_active_dims": 7}))
    plain, encoder = SparseEncoder(golden / "splade-bert" / "model"), SparseEncoder(folder)
    text = "the lock is taken before byte code is run"
    assert encoder.max_active_dims == 7 and plain.max_active_dims is None
    assert encoder.fingerprint != plain.fingerprint
    for found in (encoder.encode(text), encoder.encode_query(text), encoder.encode_document(text)):
        np.testing.assert_array_equal(found.values, plain.encode(text, max_active_dims=7).values)
    assert SparseEncoder(folder, max_active_dims=3).encode(text).indices.shape == (3,)
    published.write_text(json.dumps({**before, "max_active_dims": 0}))
    with pytest.raises(CheckpointError, match="'max_active_dims' must be 1 or more, got 0"):
        SparseEncoder(folder)


def test_the_bias_of_an_untied_decoder_counts(golden: Path, tmp_path: Path) -> None:
    """transformers' class adds the decoder's; the head's own is the same where they are tied."""
    source, bias = golden / "splade-bert" / "model", np.linspace(-1, 1, 903, dtype=np.float32)
    both = spoilt(source, tmp_path / "both", lambda t: t.update({f"{HEAD}.decoder.bias": bias}))
    alone = spoilt(source, tmp_path / "alone", lambda t: t.update({f"{HEAD}.bias": bias}))
    text = "the lock is taken before byte code is run"
    found, want = SparseEncoder(both).encode(text), SparseEncoder(alone).encode(text)
    np.testing.assert_array_equal(found.to_dense(), want.to_dense())


def test_nomic_s_names_of_its_head(golden: Path, tmp_path: Path) -> None:
    def rename(tensors: dict[str, np.ndarray]) -> None:
        for part in ("weight", "bias"):
            before = f"{HEAD}.transform.LayerNorm.{part}"
            tensors[before.replace("LayerNorm", "layer_norm")] = tensors.pop(before)

    source = golden / "splade-bert" / "model"
    folder, text = spoilt(source, tmp_path / "model", rename), "the lock is taken"
    np.testing.assert_array_equal(SparseEncoder(folder).encode(text).values, SparseEncoder(source).encode(text).values)
    head = {f"{HEAD}.transform.{name}": np.ones((64, 64)) for name in ("dense.weight", "layer_norm.weight")}
    nomic = spoilt(golden / "nomic-bert", tmp_path / "nomic", lambda t: t.update(head))
    (nomic / "modules.json").unlink()
    with pytest.raises(CheckpointError, match="'hidden_act' is missing, the activation of the masked-language-model"):
        SparseEncoder(nomic)
