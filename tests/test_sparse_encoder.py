"""SparseEncoder: every golden in every instruction set; laws of batches; what is refused."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longspan import Encoder, SparseEncoder, SparseVectors, TruncationWarning
from longspan.sparse import running
from longspan.sparse.running import SparseJob, run_ids

LIMIT = 1e-4  # the goldens' NOTES; entries below it may come or go
MODELS = ("splade-bert", "splade-doc")


def cases(folder: Path) -> list[dict[str, Any]]:
    """Those of a golden folder."""
    return list(json.loads((folder / "cases.json").read_text())["cases"])


def csr(arrays: Any, name: str, dim: int) -> SparseVectors:
    """Rows of the expected file."""
    offsets, indices, values = (arrays[f"{name}/{part}"] for part in ("offsets", "indices", "values"))
    return SparseVectors(offsets, indices.astype(np.int32), values.astype(np.float32), dim)


def encoded(encoder: SparseEncoder, case: dict[str, Any]) -> SparseVectors:
    """A case as its task says."""
    method = encoder.encode_query if case["task"] == "query" else encoder.encode_document
    return method(case["texts"], on_truncate="ignore")


def assert_close(got: SparseVectors, want: SparseVectors) -> None:
    """Values within LIMIT; the same entries above it."""
    difference = np.abs(got.to_dense() - want.to_dense())
    assert difference.max() <= LIMIT
    assert ((got.to_dense() > LIMIT) >= (want.to_dense() > 2 * LIMIT)).all()
    assert ((want.to_dense() > LIMIT) >= (got.to_dense() > 2 * LIMIT)).all()


@pytest.mark.parametrize("name", MODELS)
def test_golden(isa: str, golden: Path, name: str) -> None:
    encoder, arrays = SparseEncoder(golden / name / "model"), np.load(golden / name / "expected.npz")
    found = {case["id"]: encoded(encoder, case) for case in cases(golden / name)}
    for case in cases(golden / name):
        want = csr(arrays, f"vec/{case['id']}", encoder.dim)
        assert_close(found[case["id"]], want)
        assert np.diff(want.offsets).tolist() == case["non_zeros"]
    for k in (8, 32):
        top = encoder.encode_document(cases(golden / name)[0]["texts"], max_active_dims=k)
        assert_close(top, csr(arrays, f"top{k}/docs", encoder.dim))
        assert np.diff(top.offsets).max() <= k
    got = encoder.similarity(found["queries"], found["docs"])
    np.testing.assert_allclose(got, arrays["similarity"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_golden_tokens(golden: Path, name: str) -> None:
    encoder, arrays = SparseEncoder(golden / name / "model"), np.load(golden / name / "expected.npz")
    for case in cases(golden / name):
        if case["task"] == "document" or name == "splade-bert":
            for place, text in enumerate(encoder.tokenize(case["texts"])):
                np.testing.assert_array_equal(text.ids, arrays[f"ids/{case['id']}/{place}"])


def test_golden_bge_m3(isa: str, golden: Path) -> None:
    """Dense, sparse and multi-vector outputs, and their scores, of one pass."""
    folder = golden / "bge-m3"
    encoder, arrays = SparseEncoder(folder / "model"), np.load(folder / "expected.npz")
    outputs = {}
    for case in cases(folder):
        name = case["id"]
        if case.get("texts") is None:
            ids = [arrays[f"ids/{name}/{place}"].astype(np.int32) for place in range(len(case["lengths"]))]
        else:
            ids = [text.ids for text in encoder.tokenize(case["texts"])]
            outputs[name] = encoder.encode_outputs(case["texts"])
        job = SparseJob([""] * len(ids), [-1] * len(ids), None, None, False, 0, "ignore")
        tail = type(encoder._tail)(encoder._tail.heads, with_hidden=True)  # type: ignore[union-attr, call-arg]
        for place, one in enumerate(run_ids(ids, job, encoder._pipeline, tail, vectors=True)):
            at = f"{name}/{place}"
            np.testing.assert_array_equal(ids[place], arrays[f"ids/{at}"])
            assert one.dense is not None and one.vectors is not None
            np.testing.assert_allclose(one.dense, arrays[f"dense/{at}"], rtol=0, atol=2e-6)
            np.testing.assert_array_equal(one.sparse.indices, arrays[f"lexical/{at}/indices"])
            np.testing.assert_allclose(one.sparse.values, arrays[f"lexical/{at}/values"], rtol=0, atol=1e-5)
            want = arrays[f"colbert/{at}"]
            rows = one.vectors[::37] if len(want) < len(one.vectors) else one.vectors
            np.testing.assert_allclose(rows, want, rtol=0, atol=5e-6)
            if name in outputs:  # the same bits by the public method
                np.testing.assert_array_equal(outputs[name].dense[place], one.dense)  # type: ignore[index]
                np.testing.assert_array_equal(outputs[name].multi_vector[place], one.vectors)  # type: ignore[index]
    queries, documents = outputs["queries"], outputs["docs"]
    for name, weights in {
        "dense": (1, 0, 0),
        "sparse": (0, 1, 0),
        "colbert": (0, 0, 1),
        "sparse+dense": (1, 1, 0),
        "colbert+sparse+dense": (1, 0.3, 1),
    }.items():
        got = queries.scores(documents, weights)
        np.testing.assert_allclose(got, arrays[f"score/{name}"], rtol=0, atol=1e-5, err_msg=name)


def test_bge_m3_in_parts(golden: Path) -> None:
    encoder, texts = SparseEncoder(golden / "bge-m3" / "model"), ["one text", "and another"]
    whole = encoder.encode_outputs(texts)
    assert whole.sparse is not None and whole.dense is not None and whole.multi_vector is not None
    alone = encoder.encode(texts)
    np.testing.assert_array_equal(alone.values, whole.sparse.values)
    some = encoder.encode_outputs(texts, dense=False, multi_vector=False)
    assert some.dense is None and some.multi_vector is None and some.sparse is not None
    np.testing.assert_array_equal(some.sparse.values, whole.sparse.values)
    vectors = encoder.encode_outputs("one text", sparse=False).multi_vector
    assert vectors is not None and len(vectors) == 1
    with pytest.raises(ValueError, match="no output in common"):
        some.scores(encoder.encode_outputs(texts, sparse=False))
    for weights in ((1, 1), (np.nan, 1, 1), (np.inf, 1, 1), ("1", 1, 1), 3):
        with pytest.raises(ValueError, match="weights must be three numbers"):
            whole.scores(whole, weights)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="documents must be what encode_outputs gives, got SparseVectors"):
        whole.scores(whole.sparse)  # type: ignore[arg-type]


def test_the_dense_output_is_the_encoder_s(golden: Path) -> None:
    folder, texts = golden / "bge-m3" / "model", ["one text", "and another, which is longer"]
    dense = SparseEncoder(folder).encode_outputs(texts, sparse=False, multi_vector=False).dense
    np.testing.assert_array_equal(dense, Encoder(folder).encode(texts))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", [*MODELS, "bge-m3"])
def test_a_text_has_the_same_bits_in_any_batch(isa: str, golden: Path, name: str, dtype: str) -> None:
    encoder = SparseEncoder(golden / name / "model", dtype=dtype)
    threaded = SparseEncoder(golden / name / "model", dtype=dtype, num_threads=3)
    texts = [text for case in cases(golden / name) for text in case.get("texts") or []][:9]
    whole = encoder.encode(texts, on_truncate="ignore")
    others = (
        encoder.encode(texts, batch_size=1, on_truncate="ignore"),
        encoder.encode(texts, batch_tokens=70, on_truncate="ignore"),
        threaded.encode(texts, on_truncate="ignore"),
        SparseVectors.joined([encoder.encode(text, on_truncate="ignore") for text in texts], encoder.dim),
    )
    for other in others:
        for part in ("offsets", "indices", "values"):
            np.testing.assert_array_equal(getattr(other, part), getattr(whole, part))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_compute_types(isa: str, golden: Path, name: str, dtype: str) -> None:
    """Close to float32 as vectors: what is rounded is the encoder's products and the head's."""
    texts = cases(golden / name)[0]["texts"]
    want = SparseEncoder(golden / name / "model").encode(texts).to_dense()
    got = SparseEncoder(golden / name / "model", dtype=dtype).encode(texts).to_dense()
    cosines = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    assert cosines.min() > 0.99


def test_memory_is_bounded_by_batches(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has so few texts that the weights of all vocabulary entries fit in the limit; with the same result."""
    encoder = SparseEncoder(golden / "splade-bert" / "model")
    texts = [f"text {number}" for number in range(20)]
    want, sizes = encoder.encode(texts), []
    monkeypatch.setattr(running, "MAX_WEIGHT_BYTES", 4 * encoder.dim * 3)
    split = running._split

    def counted(tail: Any, batch: Any, values: np.ndarray, vectors: bool) -> Any:
        sizes.append(len(values))
        return split(tail, batch, values, vectors)

    monkeypatch.setattr(running, "_split", counted)
    got = encoder.encode(texts)
    assert max(sizes) <= 3 and sum(sizes) == 20
    np.testing.assert_array_equal(got.values, want.values)


def test_texts_in_blocks(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SparseEncoder(golden / "splade-bert" / "model")
    texts = [f"text {number} " * (1 + number % 5) for number in range(23)]
    want = encoder.encode(texts)
    monkeypatch.setattr(running, "TEXTS_PER_BLOCK", 4)
    np.testing.assert_array_equal(encoder.encode(texts).values, want.values)


def test_one_str_empty_lists_and_decode(golden: Path) -> None:
    encoder = SparseEncoder(golden / "splade-bert" / "model", max_active_dims=5)
    assert len(encoder.encode([])) == 0 and encoder.encode([]).dim == encoder.dim
    one = encoder.encode("how do I reset a password")
    assert len(one) == 1 and len(one.values) == 5
    [decoded] = encoder.decode(one)
    assert list(decoded.values()) == sorted(one.values.tolist(), reverse=True)
    assert encoder.decode(one, top_k=2) == [dict(list(decoded.items())[:2])]
    padded = SparseVectors(np.array([0, 1]), np.array([902], np.int32), np.ones(1, np.float32), 903)
    assert encoder.decode(padded) == [{"[902]": 1.0}]  # a row of the table that no token has
    assert repr(encoder).startswith("SparseEncoder(") and "float32" in encoder.explain()


def test_token_ids_as_they_are(golden: Path) -> None:
    encoder = SparseEncoder(golden / "splade-bert" / "model", max_active_dims=9)
    texts = ["one text", "", "another text " * 30]
    ids = [text.ids for text in encoder.tokenize(texts)]
    got, want = encoder.encode_ids(ids), encoder.encode(texts, on_truncate="ignore")
    np.testing.assert_array_equal(got.indices, want.indices)
    np.testing.assert_array_equal(got.values, want.values)
    assert len(encoder.encode_ids(ids, max_active_dims=2).values) <= 6 and len(encoder.encode_ids([])) == 0
    with pytest.raises(ValueError, match=r"encode_ids: ids\[1\] has 99999; ids go from 0 to"):
        encoder.encode_ids([ids[0], [99999]])
    with pytest.raises(ValueError, match=r"encode_ids: ids\[0\] must be from 1 to"):
        encoder.encode_ids([[]])


def test_static_queries(golden: Path) -> None:
    encoder = SparseEncoder(golden / "splade-doc" / "model")
    assert encoder.has_static_queries
    once, twice = encoder.encode_query("reset password"), encoder.encode_query("reset password reset")
    np.testing.assert_array_equal(once.indices, twice.indices)
    assert len(encoder.encode_query("").values) == 0
    assert len(encoder.encode("reset").values) > len(encoder.encode_query("reset").values)  # the document's way
    separator = encoder.tokenizer.token_id("[SEP]")
    encoder._queries.weight[separator] = 2  # type: ignore[union-attr]
    assert separator in encoder.encode_query("[SEP]").indices  # spelled out, not added: as sentence-transformers
    assert separator not in encoder.encode_query("reset").indices
    with pytest.warns(TruncationWarning, match=r"2 of 3 texts had more than 2 tokens"):
        cut = encoder.encode_query(["a", "reset a forgotten word", "reset it again and again"], max_length=2)
    assert np.diff(cut.offsets).max() <= 2
    with pytest.raises(ValueError, match=r"texts\[0\] has .* tokens more than 1"):
        encoder.encode_query("reset a password", max_length=1, on_truncate="error")
    assert np.diff(encoder.encode_query("reset a password", max_active_dims=1).offsets) == [1]
    for name in ("batch_size", "batch_tokens"):
        with pytest.raises(ValueError, match=f"encode: {name} must be 1 or more, got 0"):
            encoder.encode_query("a", **{name: 0})


def test_truncation_is_told(golden: Path) -> None:
    encoder, long = SparseEncoder(golden / "splade-bert" / "model"), "one word after another " * 25
    with pytest.warns(TruncationWarning, match=r"1 of 2 texts had more than 96 tokens"):
        encoder.encode(["short", long])
    with pytest.raises(ValueError, match=r"texts\[1\] has \d+ tokens more than 96"):
        encoder.encode(["short", long], on_truncate="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode([long], max_length=512)


@pytest.mark.parametrize(
    "call, message",
    [
        ({"texts": ["a"], "max_active_dims": 0}, "max_active_dims must be 1 or more, got 0"),
        ({"texts": ["a"], "max_length": 2}, "max_length must be from 3 to 512, got 2"),
        ({"texts": ["a"], "on_truncate": "cut"}, "on_truncate must be one of 'warn', 'error', 'ignore', got 'cut'"),
        ({"texts": ["a"], "task": "x"}, "task must be None or one of 'query', 'document', 'base', got 'x'"),
        ({"texts": ["a"], "prompt_name": "x"}, "prompt_name must be one of the model's prompts"),
        ({"texts": ["\ud800"]}, r"texts\[0\] has a lone surrogate"),
    ],
)
def test_bad_calls(golden: Path, call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseEncoder(golden / "splade-bert" / "model").encode(**call)


def test_bad_types(golden: Path) -> None:
    encoder = SparseEncoder(golden / "splade-bert" / "model")
    with pytest.raises(TypeError, match="there is no argument 'batch_sise'; did you mean 'batch_size'"):
        encoder.encode(["a"], batch_sise=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="SparseEncoder: there is no argument 'num_thread'; did you mean 'num_threads'"):
        SparseEncoder(golden / "splade-bert" / "model", num_thread=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="encode_outputs: this model has sparse vectors alone"):
        encoder.encode_outputs(["a"])
    assert encoder.decode([{5: 0.5}]) == encoder.decode(SparseVectors.of([{5: 0.5}], 903))
    with pytest.raises(ValueError, match="decode: vectors must have 903 dimensions, got 7"):
        encoder.decode(SparseVectors(np.array([0]), np.zeros(0, np.int32), np.zeros(0, np.float32), 7))
    with pytest.raises(TypeError, match="takes SparseVectors, a scipy CSR array or a list of dicts, got int"):
        encoder.similarity(3, encoder.encode("a"))  # type: ignore[arg-type]


def test_golden_gte(isa: str, golden: Path) -> None:
    """A token classifier of one label is a head: of each token its largest weight, special ones left out."""
    folder = golden / "gte-new"
    encoder, arrays = SparseEncoder(folder / "model"), np.load(folder / "expected.npz")
    names = [name.removeprefix("token_weights/") for name in arrays if name.startswith("token_weights/")]
    assert names
    texts = {case["id"]: case["text"] for case in cases(folder) if case["id"] in names}
    special = {encoder.tokenizer.token_id(token) for token in ("<s>", "</s>", "<pad>", "<unk>")}
    outputs = encoder.encode_outputs([texts[name] for name in names], multi_vector=False)
    assert outputs.sparse is not None and outputs.dense is not None
    for name, row, dense in zip(names, outputs.sparse, outputs.dense, strict=True):
        wanted: dict[int, float] = {}
        for number, weight in zip(arrays[f"ids/{name}"].tolist(), arrays[f"token_weights/{name}"].ravel(), strict=True):
            if number not in special and weight > 0:
                wanted[number] = max(weight, wanted.get(number, 0))
        assert row.indices.tolist() == sorted(wanted)
        np.testing.assert_allclose(row.values, [wanted[index] for index in row.indices.tolist()], rtol=0, atol=1e-5)
        np.testing.assert_allclose(dense, arrays[f"emb/{name}"], rtol=0, atol=2e-6)
    with pytest.raises(ValueError, match="the model has no colbert_linear"):
        encoder.encode_outputs(["a"])


@pytest.fixture
def splade_tiny() -> Path:
    """The real weights, 18 MB, so never fetched by a test."""
    named = os.environ.get("LONGSPAN_TEST_SPLADE_TINY")
    if not named:
        pytest.skip("real SPLADE weights not named: set LONGSPAN_TEST_SPLADE_TINY to a folder with splade-tiny")
    return Path(named)


def test_real_splade_tiny(isa: str, splade_tiny: Path, golden: Path) -> None:
    folder = golden / "splade-tiny"
    texts, arrays = [text for case in cases(folder) for text in case["texts"]], np.load(folder / "expected.npz")
    encoder = SparseEncoder(splade_tiny)
    vectors = encoder.encode(texts, max_length=256, on_truncate="ignore")
    assert_close(vectors, csr(arrays, "vec", encoder.dim))
    for place, text in enumerate(encoder.tokenize(texts, max_length=256)):
        np.testing.assert_array_equal(text.ids, arrays[f"ids/{place}"])
    got = encoder.similarity(vectors[:4], vectors[4:])
    np.testing.assert_allclose(got, arrays["similarity"], rtol=1e-5, atol=1e-3)
