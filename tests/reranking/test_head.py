"""Rerankers' heads: what each computes, whose rows a judge compares, and heads that are damaged."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import Tensors, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder, Reranker
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.reranking.formats import Cut
from longspan.reranking.request import Request
from longspan.reranking.scorer import PairScorer
from longspan.reranking.scoring import is_reranker
from longspan.text.pairs import PairRow
from rerank_pairs import PAIRS


def test_a_distilbert_head(golden: Path, tmp_path: Path) -> None:
    """W relu(P h0 + p) + b, on the hidden states of the encoder itself; there is no golden of it."""
    source, rng = golden / "distilbert", np.random.default_rng(8)
    width = json.loads((source / "config.json").read_text())["dim"]
    shapes = {"pre_classifier.weight": (width, width), "pre_classifier.bias": (width,)}
    shapes |= {"classifier.weight": (1, width), "classifier.bias": (1,)}
    head = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    named = ["DistilBertForSequenceClassification"]
    reranker = Reranker(spoilt(source, tmp_path / "model", lambda tensors: tensors.update(head), architectures=named))
    assert isinstance(reranker._scorer, PairScorer)
    rows = reranker._scorer._format.rows(PAIRS, Cut(64), None)
    hidden = Encoder(source).encode_ids([row.ids for row in rows], output_value="token_embeddings")
    first = np.stack([tokens[0] for tokens in hidden]).astype(np.float64)
    inner = np.maximum(first @ head["pre_classifier.weight"].T.astype(np.float64) + head["pre_classifier.bias"], 0)
    want = inner @ head["classifier.weight"][0].astype(np.float64) + head["classifier.bias"]
    got = reranker.predict(PAIRS, activation_fn="identity", max_length=64, on_truncate="ignore")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_what_a_modernbert_head_is_where_its_config_is_silent(golden: Path, tmp_path: Path) -> None:
    """The first token and GELU, as transformers' config has them."""
    source = golden / "rerank-modernbert" / "model"
    silent = {"classifier_pooling": None, "classifier_activation": None}
    scores = []
    for place, keys in enumerate((silent, {"classifier_pooling": "cls", "classifier_activation": "gelu"})):
        folder = spoilt(source, tmp_path / str(place), **keys)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        scores.append(Reranker(folder).predict(PAIRS))
    np.testing.assert_array_equal(*scores)


def test_whose_rows_a_judge_compares(golden: Path, tmp_path: Path) -> None:
    """Those of lm_head where it is there and not said to be the embedding table."""
    source = golden / "rerank-qwen3" / "model"
    plain = Reranker(source).predict(PAIRS, activation_fn="identity")
    table = read_tensors(source)["model.embed_tokens.weight"]

    def add_head(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = -2 * table

    def scores(name: str, change: Callable[[Tensors], object], tied: bool) -> np.ndarray:
        folder = spoilt(source, tmp_path / name, change, tie_word_embeddings=tied)
        return Reranker(folder).predict(PAIRS, activation_fn="identity")

    np.testing.assert_array_equal(scores("tied", add_head, True), plain)
    np.testing.assert_allclose(scores("own", add_head, False), -2 * plain, rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match="lm_head.weight"):
        scores("gone", lambda tensors: tensors.pop("lm_head.weight", None), False)


def set_tensor(name: str, values: object) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.__setitem__(name, np.asarray(values, np.float32))


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        ("bert", set_tensor("classifier.weight", np.ones((1, 63))), {}, r"classifier.weight must be \(any, 64\)"),
        (
            "bert",
            set_tensor("classifier.weight", np.ones(64)),
            {},
            r"classifier.weight must be \(any, 64\), got \(64,\)",
        ),
        ("bert", set_tensor("classifier.weight", np.ones((0, 64))), {}, r"must be \(any, 64\), got \(0, 64\)"),
        ("bert", set_tensor("classifier.bias", np.ones(2)), {}, r"classifier.bias must be \(1,\), got \(2,\)"),
        ("bert", set_tensor("classifier.weight", np.full((1, 64), np.nan)), {}, "'classifier.weight' holds nan"),
        (
            "bert",
            set_tensor("bert.pooler.dense.weight", np.ones((64, 60))),
            {},
            r"pooler.dense.weight must be \(any, 64",
        ),
        ("bert", lambda t: t.pop("bert.pooler.dense.weight"), {}, "needs one pooler.dense.weight .* got 0"),
        ("bert", lambda t: t.pop("classifier.weight"), {}, "is no reranker: it has neither"),
        (
            "bert",
            set_tensor("classifier.weight", np.ones((2, 64))),
            {},
            "must be|says 1 labels, but the head's .* have 2",
        ),
        ("bert", None, {"num_labels": 4}, "says 4 labels, but the head's weights have 1"),
        (
            "bert",
            None,
            {"sbert_ce_default_activation_function": "os.system"},
            "must be one of torch.nn.Identity.*'os.s",
        ),
        ("bert", None, {"sbert_ce_default_activation_function": "torch.nn.Tanh"}, "must be one of torch.nn.Identity"),
        ("xlmr", lambda t: t.pop("classifier.dense.weight"), {}, "classifier.dense.weight"),
        ("modernbert", None, {"classifier_pooling": "max"}, "'classifier_pooling' must be one of cls, mean, got 'max'"),
        ("modernbert", set_tensor("head.norm.weight", np.ones(3)), {}, r"head.norm.weight must be \(64,\), got \(3,\)"),
        ("jina-v3", set_tensor("projector.0.weight", np.ones((32, 60))), {}, r"projector.0.weight must be \(any, 64\)"),
        ("jina-v3", set_tensor("projector.2.weight", np.ones((32, 60))), {}, r"projector.2.weight must be \(any, 32\)"),
        ("jina-v3", lambda t: t.pop("projector.2.weight"), {}, "projector.2.weight"),
        ("qwen3", None, {"architectures": ["Qwen3Model"]}, "is no reranker"),
        ("qwen3", None, {"vocab_size": 3}, "different models|must be"),
    ],
)
def test_hostile_heads(
    name: str,
    change: Callable[[Tensors], object] | None,
    config: dict[str, object],
    message: str,
    golden: Path,
    tmp_path: Path,
) -> None:
    folder = spoilt(golden / f"rerank-{name}" / "model", tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        Reranker(folder)


def test_a_logit_score_of_other_tokens_needs_a_template(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "rerank-qwen3" / "model", folder)
    kinds = "sentence_transformers.models.Transformer", "sentence_transformers.cross_encoder.modules.LogitScore"
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(zip(("", "1_LogitScore"), kinds))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_LogitScore").mkdir()
    score = folder / "1_LogitScore" / "config.json"
    score.write_text(json.dumps({"true_token_id": 9454, "false_token_id": None}))
    with pytest.raises(CheckpointError, match=r"the score is of the tokens \[9454, None\], but the prompt of 'qwen3'"):
        Reranker(folder)
    plain = Reranker(golden / "rerank-qwen3" / "model")
    ids = {f"{key}_token_id": plain.tokenizer.token_id(token) for key, token in (("true", "yes"), ("false", "no"))}
    score.write_text(json.dumps(ids))
    np.testing.assert_array_equal(Reranker(folder).predict(PAIRS), plain.predict(PAIRS))


def test_an_untied_output_table_is_used(golden: Path, tmp_path: Path) -> None:
    source = golden / "rerank-qwen3" / "model"
    tensors = read_tensors(source)
    tensors["lm_head.weight"] = -tensors["model.embed_tokens.weight"]
    config = json.loads((source / "config.json").read_text())
    folder = write_checkpoint(source, tmp_path / "untied", tensors, {**config, "tie_word_embeddings": False})
    plain = Reranker(source).predict(PAIRS, activation_fn="identity")
    np.testing.assert_allclose(Reranker(folder).predict(PAIRS, activation_fn="identity"), -plain, atol=1e-5)


def rows_of(reranker: Reranker) -> list[np.ndarray]:
    """The token ids of PAIRS."""
    assert isinstance(reranker._scorer, PairScorer)
    return [row.ids for row in reranker._scorer._format.rows(PAIRS, Cut(64), None)]


def dense_head(rng: np.random.Generator, first: str, last: str) -> Tensors:
    """A head of two products, by the names of its layers."""
    width = 64
    shapes = {f"{first}.weight": (width, width), f"{first}.bias": (width,)}
    shapes |= {f"{last}.weight": (1, width), f"{last}.bias": (1,)}
    return {tensor: rng.standard_normal(shape).astype(np.float32) for tensor, shape in shapes.items()}


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def test_an_electra(golden: Path, tmp_path: Path) -> None:
    """BERT's layers under another prefix; a head like RoBERTa's, but for its GELU."""
    source, head = (
        golden / "bert-minilm",
        dense_head(np.random.default_rng(3), "classifier.dense", "classifier.out_proj"),
    )

    def rename(tensors: Tensors) -> None:
        plain = {f"electra.{name}": tensors.pop(name) for name in [*tensors]}
        tensors |= {name: values for name, values in plain.items() if "pooler" not in name}
        tensors |= head

    own = {"model_type": "electra", "embedding_size": 64, "architectures": ["ElectraForSequenceClassification"]}
    folder = spoilt(source, tmp_path / "electra", rename, **own, num_labels=1)
    (folder / "modules.json").unlink()
    reranker = Reranker(folder)
    ids = rows_of(reranker)
    hidden = Encoder(source).encode_ids(ids, output_value="token_embeddings")
    first = np.stack([tokens[0] for tokens in hidden]).astype(np.float64)
    want = gelu(first @ head["classifier.dense.weight"].T + head["classifier.dense.bias"])
    want = want @ head["classifier.out_proj.weight"][0] + head["classifier.out_proj.bias"]
    assert isinstance(reranker._scorer, PairScorer)
    rows = [PairRow(row, None, 0, 0, False) for row in ids]  # without types, as `encode_ids` has none
    plain = Request("test", "", -1, None, None)
    np.testing.assert_allclose(reranker._scorer._row_logits(rows, plain)[:, 0], want, rtol=1e-5, atol=1e-4)
    with pytest.raises(CheckpointError, match="'embedding_size' must be 64, got 32; ELECTRA is supported so only"):
        Reranker(spoilt(folder, tmp_path / "small", embedding_size=32))
    with pytest.raises(CheckpointError, match="'embedding_size' is missing and 128 by default"):
        Reranker(spoilt(folder, tmp_path / "silent", embedding_size=None))


@pytest.mark.parametrize("pooling", ["bos", "mean", "late", None])
def test_a_eurobert_head(pooling: str | None, golden: Path, tmp_path: Path) -> None:
    """C gelu(D pool(h) + d) + c; late, where the config is silent too, the mean of what each token's state makes."""
    source = golden / "jina-v5-text-nano" / "model-merged-retrieval"
    head = dense_head(np.random.default_rng(4), "dense", "classifier")
    named = {"architectures": ["EuroBertForSequenceClassification"], "model_type": "eurobert", "num_labels": 1}
    folder = spoilt(source, tmp_path / "model", lambda t: t.update(head), **named, classifier_pooling=pooling)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink(missing_ok=True)
    reranker = Reranker(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the head that an Encoder leaves out
        encoder = Encoder(spoilt(folder, tmp_path / "trunk", architectures=["EuroBertModel"]))
    states = encoder.encode_ids(rows_of(reranker), output_value="token_embeddings")
    want = []
    for tokens in (state.astype(np.float64) for state in states):
        pooled = {"bos": tokens[0], "mean": tokens.mean(0)}.get(pooling or "late", tokens)
        inner = gelu(pooled @ head["dense.weight"].T + head["dense.bias"])
        want.append(np.mean(inner @ head["classifier.weight"][0] + head["classifier.bias"]))
    got = reranker.predict(PAIRS, activation_fn="identity", max_length=64, on_truncate="ignore")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)
    assert_alone_as_in_a_batch(folder)


def score_modules(folder: Path, pooling: str, labels: int) -> list[np.ndarray]:
    """Make the folder a cross-encoder of modules: a Pooling, a Dense with tanh, one that scores. Their tensors."""
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense")]
    modules = [{"path": path, "type": f"models.{kind}"} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": 64, "pooling_mode": pooling}))
    rng, tensors = np.random.default_rng(11), []
    for place, (rows, name, made) in enumerate([(64, "Tanh", "sentence_embedding"), (labels, "Identity", "scores")], 2):
        weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 64), (rows,)))
        (folder / f"{place}_Dense").mkdir()
        save_file({"linear.weight": weight, "linear.bias": bias}, folder / f"{place}_Dense" / "model.safetensors")
        own = {"in_features": 64, "out_features": rows, "bias": True, "activation_function": f"torch.nn.{name}"}
        own |= {"module_input_name": "sentence_embedding", "module_output_name": made}
        (folder / f"{place}_Dense" / "config.json").write_text(json.dumps(own))
        tensors += [weight.astype(np.float64), bias.astype(np.float64)]
    return tensors


@pytest.mark.parametrize("pooling, labels", [("cls", 1), ("mean", 3)])
def test_a_head_of_modules(pooling: str, labels: int, golden: Path, tmp_path: Path) -> None:
    """As sentence-transformers makes a cross-encoder of any encoder."""
    folder = Path(shutil.copytree(golden / "xlmr-absolute", tmp_path / "model"))
    inner, inner_bias, out, out_bias = score_modules(folder, pooling, labels)
    reranker = Reranker(folder)
    assert reranker.num_labels == labels
    assert reranker.default_activation == ("sigmoid" if labels == 1 else "identity")
    states = Encoder(golden / "xlmr-absolute").encode_ids(rows_of(reranker), output_value="token_embeddings")
    pooled = np.stack([state[0] if pooling == "cls" else state.mean(0) for state in states])
    want = np.tanh(pooled.astype(np.float64) @ inner.T + inner_bias) @ out.T + out_bias
    got = reranker.predict(PAIRS, activation_fn="identity", max_length=64, on_truncate="ignore")
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-5, atol=1e-5)
    assert (Reranker(folder).fingerprint == reranker.fingerprint) and is_reranker(Checkpoint.open(folder))
    with pytest.raises(CheckpointError, match=r"is made for reranking .* open it with longspan\.Reranker"):
        Encoder(folder)
    assert_alone_as_in_a_batch(folder)


def assert_alone_as_in_a_batch(folder: Path) -> None:
    """To the bit, in every compute type."""
    for dtype in ("float32", "bfloat16", "int8"):
        reranker = Reranker(folder, dtype=dtype)
        whole = reranker.predict(PAIRS, batch_tokens=60)
        np.testing.assert_array_equal(whole, np.stack([reranker.predict(pair) for pair in PAIRS]), err_msg=dtype)
