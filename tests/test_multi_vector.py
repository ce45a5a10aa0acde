"""MultiVectorEncoder: the goldens of jina-colbert-v2 and of jina-embeddings-v4's second head, PyLate's files, laws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import merge_peft, read_config, read_tensors, write_checkpoint
from longspan import CheckpointError, MultiVectorEncoder, TruncationWarning

VECTOR_LIMIT, SCORE_LIMIT, V4_LIMIT = 5e-6, 2e-5, 1e-5  # the golden README's, for a float32 runtime
KEEP_MASKS = {"colbert": "doc_keep_mask", "pylate": "doc_keep_mask_pylate"}
SCORES = {"colbert": "maxsim", "pylate": "maxsim_pylate_skiplist"}
TEXTS = ["Hi!", "late chunking, explained", "", "a longer text (of a kind), " * 9, "快速的棕色狐狸 и лиса 😀"]


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "jina-colbert-v2"


@pytest.fixture(scope="module")
def encoder(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(folder)


@pytest.fixture(scope="module")
def cases(folder: Path) -> list[dict]:
    return json.loads((folder / "cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "expected.npz"))


def assert_close(found: list[np.ndarray], truth: list[np.ndarray], limit: float) -> None:
    for one, true in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, true, rtol=0, atol=limit)


def test_golden_queries(isa: str, encoder: MultiVectorEncoder, cases: list[dict], expected: dict) -> None:
    for case in cases:
        found = encoder.encode_queries(case["queries"], on_truncate="ignore")
        assert_close(found, list(expected[f"{case['name']}/query_vectors"]), VECTOR_LIMIT)


@pytest.mark.parametrize("rule", [None, "colbert", "pylate"])
def test_golden_documents(
    isa: str, rule: str | None, encoder: MultiVectorEncoder, cases: list[dict], expected: dict
) -> None:
    for case in cases:
        name, real = case["name"], np.array(case["doc_attention_mask"], bool)
        found = encoder.encode_documents(
            case["docs"], skip_list=rule, max_length=case["doc_maxlen"], on_truncate="ignore"
        )
        masks = real if rule is None else expected[f"{name}/{KEEP_MASKS[rule]}"]
        assert [len(vectors) for vectors in found] == masks.sum(1).tolist()
        if f"{name}/doc_vectors_unmasked" in expected:
            truth = [rows[mask] for rows, mask in zip(expected[f"{name}/doc_vectors_unmasked"], masks, strict=True)]
        else:  # selected rows
            rows = expected[f"{name}/doc_rows"]
            kept = masks[0][rows]
            truth = [expected[f"{name}/doc_vectors_unmasked_rows"][0][kept]]
            found = [found[0][(np.cumsum(masks[0]) - 1)[rows[kept]]]]
        assert_close(found, truth, VECTOR_LIMIT)


@pytest.mark.parametrize("rule", ["colbert", "pylate"])
def test_golden_scores(isa: str, rule: str, encoder: MultiVectorEncoder, cases: list[dict], expected: dict) -> None:
    for case in cases:
        queries = encoder.encode_queries(case["queries"], on_truncate="ignore")
        documents = encoder.encode_documents(
            case["docs"], skip_list=rule, max_length=case["doc_maxlen"], on_truncate="ignore"
        )
        found = encoder.score(queries, documents)
        np.testing.assert_allclose(found, expected[f"{case['name']}/{SCORES[rule]}"], rtol=0, atol=SCORE_LIMIT)


@pytest.mark.parametrize("dim", [24, 36])
def test_golden_scores_of_shorter_vectors(
    dim: int, encoder: MultiVectorEncoder, cases: list[dict], expected: dict
) -> None:
    for case in cases:
        queries = encoder.encode_queries(case["queries"], dim=dim, on_truncate="ignore")
        documents = encoder.encode_documents(case["docs"], dim=dim, max_length=case["doc_maxlen"], on_truncate="ignore")
        assert queries[0].shape == (32, dim)
        truth = expected[f"{case['name']}/maxsim_first{dim}"]
        np.testing.assert_allclose(encoder.score(queries, documents), truth, rtol=0, atol=SCORE_LIMIT)


def test_golden_of_masks_that_nobody_attends_to(
    folder: Path, encoder: MultiVectorEncoder, cases: list[dict], expected: dict
) -> None:
    """The golden records how far the query vectors move when attend_to_mask_tokens is flipped; full queries do not."""
    observed = json.loads((folder / "cases.json").read_text())["observed"]
    flipped = MultiVectorEncoder(folder, attend_to_mask_tokens=False)
    basic, full = cases[0], cases[2]
    found = np.array(flipped.encode_queries(basic["queries"], on_truncate="ignore"))
    moved = np.abs(found - expected["basic/query_vectors"]).max()
    assert moved == pytest.approx(observed["attend_to_mask_tokens_flipped_query_vectors"], abs=VECTOR_LIMIT)
    found = flipped.encode_queries(full["queries"], on_truncate="ignore")
    assert_close(found, list(expected["exact_lengths/query_vectors"]), VECTOR_LIMIT)
    for one, other in zip(flipped.encode_documents(TEXTS), encoder.encode_documents(TEXTS), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def v4(golden: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(golden / "jina-v4" / "model")


@pytest.fixture(scope="module")
def v4_cases(golden: Path) -> list[dict]:
    cases = json.loads((golden / "jina-v4" / "cases.json").read_text())["cases"]
    return [case for case in cases if case["kind"] == "text" and case.get("has_multivector")]


def test_golden_v4(isa: str, v4: MultiVectorEncoder, v4_cases: list[dict], golden: Path) -> None:
    """Every task, with its adapter in the backbone and in the projection; one of them has one prompt for both."""
    expected = np.load(golden / "jina-v4" / "expected.npz")
    for case in v4_cases:
        encode = v4.encode_queries if case["prompt_name"] == "query" else v4.encode_documents
        found = encode(case["text"], task=case["task"])
        assert_close([found], [expected[f"multivector/{case['id']}"]], V4_LIMIT)


def test_v4_as_published(v4: MultiVectorEncoder) -> None:
    assert (v4.dim, v4.max_length, v4.query_maxlen, v4.doc_maxlen) == (16, 32768, 32768, 32768)
    assert v4.tasks == ("retrieval", "text-matching", "code")
    np.testing.assert_array_equal(v4.encode_queries("Hi"), v4.encode_queries("Hi", task="retrieval"))
    assert np.abs(v4.encode_queries("Hi") - v4.encode_queries("Hi", task="base")).max() > 0.01


def test_tasks_of_one_batch_are_as_alone(isa: str, v4: MultiVectorEncoder) -> None:
    tasks = ["code", None, "base", "text-matching", "retrieval"]
    for encode in (v4.encode_queries, v4.encode_documents):
        for place, found in enumerate(encode(TEXTS, task=tasks)):
            np.testing.assert_array_equal(found, encode(TEXTS[place], task=tasks[place]))


def test_v4_merged(golden: Path, tmp_path: Path, v4: MultiVectorEncoder) -> None:
    """An adapter is the same as its product added to the weights, the projection's too."""
    source = golden / "jina-v4" / "model"
    tensors = merge_peft(read_tensors(source), source / "adapters", "code")
    config = {**read_config(source), "task_names": None}
    merged = MultiVectorEncoder(write_checkpoint(source, tmp_path / "model", tensors, config))
    assert merged.tasks == ()
    assert_close([merged.encode_queries("Query: Hi")], [v4.encode_queries("Hi", task="code")], V4_LIMIT)


def test_a_users_adapter(golden: Path, tmp_path: Path, folder: Path) -> None:
    """Of the backbone and of the projection; masks that nobody attends to included."""
    rng = np.random.default_rng(5)
    factors = {}
    for module, (rows, columns) in {"roberta.encoder.layers.0.mlp.fc1": (128, 64), "linear": (48, 64)}.items():
        factors[f"base_model.model.{module}.lora_A.weight"] = rng.normal(size=(4, columns)).astype(np.float32)
        factors[f"base_model.model.{module}.lora_B.weight"] = rng.normal(size=(rows, 4)).astype(np.float32)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    save_file(factors, adapter / "adapter_model.safetensors")
    tensors = merge_peft(read_tensors(folder), adapter)
    merged = write_checkpoint(folder, tmp_path / "merged", tensors, read_config(folder))
    for attends in (True, False):
        encoder = MultiVectorEncoder(folder, attend_to_mask_tokens=attends)
        before = encoder.encode_queries(TEXTS, on_truncate="ignore")
        encoder.load_adapter("own", adapter)
        assert encoder.tasks == ("own",)
        found = encoder.encode_queries(TEXTS, task="own", on_truncate="ignore")
        truth = MultiVectorEncoder(merged, attend_to_mask_tokens=attends)
        assert_close(found, truth.encode_queries(TEXTS, on_truncate="ignore"), V4_LIMIT)
        for one, other in zip(encoder.encode_queries(TEXTS, on_truncate="ignore"), before, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="there is a task 'own' already"):
        encoder.load_adapter("own", adapter)
    with pytest.raises(ValueError, match="name must be a str that is not empty"):
        encoder.load_adapter("", adapter)
    factors["base_model.model.linear.lora_B.weight"] = factors["base_model.model.linear.lora_B.weight"][:47]
    save_file(
        {name: np.ascontiguousarray(values) for name, values in factors.items()}, adapter / "adapter_model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"adapter of linear must be for \(48, 64\) .* got \(47, 64\)"):
        encoder.load_adapter("other", adapter)
    assert encoder.tasks == ("own",)


def test_one_text_alone_and_in_any_batch(isa: str, encoder: MultiVectorEncoder) -> None:
    for encode in (encoder.encode_queries, encoder.encode_documents):
        together = encode(TEXTS, on_truncate="ignore")
        for place, text in enumerate(TEXTS):
            np.testing.assert_array_equal(encode(text, on_truncate="ignore"), together[place])
        for options in ({"batch_size": 2}, {"batch_tokens": 1}):
            for one, other in zip(encode(TEXTS[::-1], on_truncate="ignore", **options), together[::-1], strict=True):
                np.testing.assert_array_equal(one, other)


def test_one_query_alone_where_masks_are_not_attended_to(isa: str, folder: Path) -> None:
    encoder = MultiVectorEncoder(folder, attend_to_mask_tokens=False)
    together = encoder.encode_queries(TEXTS, on_truncate="ignore")
    for place, text in enumerate(TEXTS):
        np.testing.assert_array_equal(encoder.encode_queries(text, on_truncate="ignore"), together[place])


def test_thread_count_does_not_matter(folder: Path, encoder: MultiVectorEncoder) -> None:
    for num_threads in (1, 2, 3):
        found = MultiVectorEncoder(folder, num_threads=num_threads).encode_documents(TEXTS)
        for one, other in zip(found, encoder.encode_documents(TEXTS), strict=True):
            np.testing.assert_array_equal(one, other)


def test_kinds_and_unit_lengths(encoder: MultiVectorEncoder) -> None:
    assert (encoder.dim, encoder.max_length, encoder.query_maxlen, encoder.doc_maxlen) == (48, 8192, 32, 300)
    assert encoder.encode_queries([]) == [] and encoder.encode_documents([]) == []
    assert encoder.encode_queries("one").shape == (32, 48)
    for vectors in (*encoder.encode_queries(TEXTS, dim=7, on_truncate="ignore"), *encoder.encode_documents(TEXTS)):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-6)
    assert encoder.explain().startswith("cpu kernels (")
    assert repr(encoder).endswith("jina-colbert-v2', XLM-RoBERTa with RoPE, dim=48, max_length=8192)")


def test_long_texts_are_cut_and_counted(encoder: MultiVectorEncoder) -> None:
    long = "word " * 400
    with pytest.warns(
        TruncationWarning, match=r"encode_queries: 1 of 2 texts had more than 32 tokens; \d+ tokens"
    ) as seen:
        queries = encoder.encode_queries([long, "Hi"])
    assert [warning.filename for warning in seen] == [__file__]
    assert [len(vectors) for vectors in queries] == [32, 32]
    with pytest.warns(TruncationWarning, match="encode_documents: the text had more than 300 tokens"):
        assert len(encoder.encode_documents(long, skip_list=None)) == 300
    with pytest.raises(ValueError, match=r"encode_documents: texts\[1\] has \d+ tokens more than 300"):
        encoder.encode_documents(["Hi", long], on_truncate="error")
    whole = encoder.encode_documents(long, max_length=8192, skip_list=None)  # no warning: an error in this test run
    assert 400 < len(whole) < 8192
    assert len(encoder.encode_queries("Hi", max_length=64)) == 64


def test_options_take_the_place_of_the_files(folder: Path, encoder: MultiVectorEncoder) -> None:
    other = MultiVectorEncoder(folder, query_maxlen=16, doc_maxlen=20, mask_punctuation=False, doc_marker="<s>")
    assert other.encode_queries("Hi").shape == (16, 48)
    text = "Hello, world! (a, b); c: d... "
    assert len(other.encode_documents(text, on_truncate="ignore")) == 20
    np.testing.assert_array_equal(
        other.encode_documents("Hi!"),
        MultiVectorEncoder(folder, doc_marker="<s>").encode_documents("Hi!", skip_list=None),
    )
    unmarked = MultiVectorEncoder(folder, doc_marker="")
    assert len(unmarked.encode_documents(text)) == len(encoder.encode_documents(text)) - 1


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda e: e.encode_queries(["a"], dim="4"), TypeError, "encode_queries: dim must be an int, got str"),
        (lambda e: e.encode_documents(["a"], max_length=9.5), TypeError, "max_length must be an int, got float"),
        (lambda e: e.encode_queries(["a"], dim=49), ValueError, "encode_queries: dim must be from 1 to 48, got 49"),
        (lambda e: e.encode_documents(["a"], dim=0), ValueError, "encode_documents: dim must be from 1 to 48, got 0"),
        (
            lambda e: e.encode_documents(["a"], max_length=8193),
            ValueError,
            "encode_documents: max_length must be from 4 to 8192 tokens, got 8193",
        ),
        (
            lambda e: e.encode_queries(["a"], max_length=3),
            ValueError,
            "max_length must be from 4 to 8192 tokens, got 3",
        ),
        (
            lambda e: e.encode_documents(["a"], skip_list="bert"),
            ValueError,
            "skip_list must be one of None, 'model', 'colbert', 'pylate', got 'bert'",
        ),
        (
            lambda e: e.encode_queries(["a"], on_truncate="cut"),
            ValueError,
            "on_truncate must be one of 'warn', 'error', 'ignore', got 'cut'",
        ),
        (lambda e: e.encode_queries(["a"], task="cod"), ValueError, "task must be None or one of .*'base', got 'cod'"),
        (lambda e: e.encode_queries(["a"], task=["base", None]), ValueError, "task must be one name or 1, one a text"),
        (lambda e: e.encode_queries([1]), TypeError, r"texts\[0\] must be a str, got int"),
        (lambda e: e.encode_documents(None), TypeError, "texts must be a list of str, got one NoneType"),
    ],
)
def test_wrong_arguments(
    call: Callable[[MultiVectorEncoder], object], kind: type[Exception], message: str, encoder: MultiVectorEncoder
) -> None:
    with pytest.raises(kind, match=message):
        call(encoder)


def test_wrong_arguments_without_texts(encoder: MultiVectorEncoder) -> None:
    for encode in (encoder.encode_queries, encoder.encode_documents):
        for options in (
            *({"task": "cod"}, {"dim": 49}, {"max_length": 3}, {"on_truncate": "cut"}),
            *({"batch_size": 0}, {"batch_tokens": 0}),
        ):
            with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
                encode([], **options)
        assert encode([]) == []


@pytest.mark.parametrize(
    "options, message",
    [
        ({"device": "tpu"}, "device must be None, 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
        ({"dtype": "float64"}, "dtype must be one of 'auto', 'float32', 'bfloat16', 'int8' on the CPU, got 'float64'"),
        ({"num_threads": 0}, r"num_threads must be None \(all\) or from 1 to 1024, got 0"),
        ({"query_maxlen": 3}, "query_maxlen must be from 4 to 8192 tokens, got 3"),
        ({"doc_maxlen": 8193}, "doc_maxlen must be from 4 to 8192 tokens, got 8193"),
        ({"query_marker": "[nowhere]"}, r"has no token '\[nowhere\]', which is to be the query marker"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        MultiVectorEncoder(folder, **options)


def test_names_of_the_encoder(encoder: MultiVectorEncoder) -> None:
    """Who changes the class keeps the names of the methods."""
    np.testing.assert_array_equal(encoder.encode_query(TEXTS[0]), encoder.encode_queries(TEXTS[0]))
    documents = encoder.encode_document(TEXTS, skip_list=None)
    assert_close(documents, encoder.encode_documents(TEXTS, skip_list=None), 0)
    with pytest.raises(TypeError, match="skip_list"):
        encoder.encode_document(TEXTS, skip_lists=None)


def test_rank_takes_what_is_a_list_and_leaves_nothing_out(encoder: MultiVectorEncoder) -> None:
    texts = ["x", "y z", "w"]
    vectors = encoder.encode_documents(texts)
    want = encoder.rank("a", texts)
    assert len(want) == 3
    assert encoder.rank("a", vectors) == encoder.rank("a", iter(vectors))  # type: ignore[arg-type]
    assert encoder.rank("a", [vectors[0].tolist(), *vectors[1:]]) == want  # a list of lists is an array too
    for documents in ("xyz", {"a": "x", "b": "y"}, {"x", "y"}, None, 3):
        kind = type(documents).__name__
        with pytest.raises(
            TypeError, match=f"^rank: documents must be a list of str, images or arrays of .*, got one {kind}"
        ):
            encoder.rank("a", documents)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^rank: documents\[1\] must be \(tokens, dim\) of floats, got \(\)"):
        encoder.rank("a", [vectors[0], None])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^rank: documents\[0\] must be \(tokens, dim\) .*, got rows of several"):
        encoder.rank("a", [[[1.0, 2.0], [3.0]]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^encode_queries: texts\[1\] must be a str, got NoneType$"):
        encoder.encode_queries(["a", None])  # type: ignore[list-item]
