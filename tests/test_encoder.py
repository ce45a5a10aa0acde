"""Encoder: what design.md promises of `encode` and its kin, on a tiny golden checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from longspan import CheckpointError, Encoder, SparseEncoder, TruncationWarning
from longspan.vectors.quantize import quantize_embeddings

TEXTS = ["Hi", "What is late chunking?", "", "a longer text, " * 30, "naïve café 😀", "a word"]


@pytest.fixture(scope="module")
def model(golden: Path) -> Path:
    return golden / "bert-minilm"


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return Encoder(model)


@pytest.fixture
def variant(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the model with some JSON files changed: variant({"modules.json": [...]})."""

    def make(changes: dict[str, object]) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(model, folder)
        for name, value in changes.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(value))
        return folder

    return make


def test_shapes_and_kinds(encoder: Encoder) -> None:
    assert encoder.encode(TEXTS).shape == (6, 64) and encoder.encode(TEXTS).dtype == np.float32
    assert encoder.encode("one").shape == (64,)
    assert encoder.encode([]).shape == (0, 64)
    assert encoder.encode([], truncate_dim=10).shape == (0, 10)
    assert encoder.encode([], output_value="token_embeddings") == []
    tokens = encoder.encode(TEXTS, output_value="token_embeddings")
    assert [len(states) for states in tokens] == [len(text.ids) for text in encoder.tokenize(TEXTS)]
    assert encoder.encode_ids([]).shape == (0, 64)
    assert (encoder.dim, encoder.max_length, encoder.tasks) == (64, 256, ())


def test_one_text_alone_and_in_any_batch(isa: str, encoder: Encoder) -> None:
    together = encoder.encode(TEXTS)
    for place, text in enumerate(TEXTS):
        np.testing.assert_array_equal(encoder.encode(text), together[place])
    np.testing.assert_array_equal(encoder.encode(TEXTS[::-1])[::-1], together)
    np.testing.assert_array_equal(encoder.encode(TEXTS * 7, batch_size=5)[6:12], together)
    np.testing.assert_array_equal(encoder.encode(TEXTS * 3, batch_tokens=1)[:6], together)


def test_thread_count_does_not_matter(model: Path, encoder: Encoder) -> None:
    expected = encoder.encode(TEXTS)
    for num_threads in (1, 2, 3):
        np.testing.assert_array_equal(Encoder(model, num_threads=num_threads).encode(TEXTS), expected)


def test_many_threads_may_share_an_encoder(encoder: Encoder) -> None:
    expected, results = encoder.encode(TEXTS), {}

    def work(number: int) -> None:
        results[number] = [encoder.encode(TEXTS) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for vectors in results.values():
        np.testing.assert_array_equal(vectors, [expected] * 5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_encode(encoder: Encoder) -> None:
    expected = encoder.encode(TEXTS)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(encoder.encode(TEXTS), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_truncation_comes_before_normalisation(encoder: Encoder) -> None:
    raw = encoder.encode(TEXTS, normalize_embeddings=False)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, rtol=1e-6)
    cut = encoder.encode(TEXTS, truncate_dim=16)
    np.testing.assert_allclose(cut, raw[:, :16] / np.linalg.norm(raw[:, :16], axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(encoder.encode(TEXTS, truncate_dim=16, normalize_embeddings=False), raw[:, :16])
    states = encoder.encode("Hi", output_value="token_embeddings", normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(states, axis=1), 1, rtol=1e-6)


def test_int8_is_calibrated_over_the_call(encoder: Encoder) -> None:
    texts = [f"text number {number}" for number in range(120)]
    expected = quantize_embeddings(encoder.encode(texts), "int8")
    np.testing.assert_array_equal(encoder.encode(texts, precision="int8"), expected)
    with pytest.warns(UserWarning, match="uint8 ranges come from 6 embeddings only"):
        encoder.encode(TEXTS, precision="uint8")


@pytest.mark.parametrize("precision", ["float16", "binary", "ubinary"])
def test_precision(encoder: Encoder, precision: str) -> None:
    expected = quantize_embeddings(encoder.encode(TEXTS), precision)
    np.testing.assert_array_equal(encoder.encode(TEXTS, precision=precision), expected)
    with pytest.raises(ValueError, match="precision must be 'float32' for token_embeddings"):
        encoder.encode(TEXTS, precision=precision, output_value="token_embeddings")


def test_cut_texts_are_counted(encoder: Encoder) -> None:
    with pytest.warns(TruncationWarning, match=r"1 of 6 texts had more than 64 tokens; \d+ tokens were left out"):
        encoder.encode(TEXTS, max_length=64)
    with pytest.warns(TruncationWarning, match=r"encode: the text had more than 8 tokens"):
        encoder.encode(TEXTS[3], max_length=8)
    with pytest.raises(ValueError, match=r"texts\[3\] has \d+ tokens more than 64"):
        encoder.encode(TEXTS, max_length=64, on_truncate="error")
    encoder.encode(TEXTS, max_length=64, on_truncate="ignore")  # warnings are errors here


def test_prompts(variant: Callable[..., Path]) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    encoder = Encoder(variant({"config_sentence_transformers.json": {"prompts": prompts}}))
    plain = encoder.encode(["query: Hi", "passage: Hi", "Hi"])
    np.testing.assert_array_equal(encoder.encode_query("Hi"), plain[0])
    np.testing.assert_array_equal(encoder.encode_document("Hi"), plain[1])
    np.testing.assert_array_equal(encoder.encode("Hi"), plain[2])
    np.testing.assert_array_equal(encoder.encode("Hi", prompt="query: "), plain[0])
    np.testing.assert_array_equal(encoder.encode("Hi", prompt_name="passage"), plain[1])
    with pytest.raises(ValueError, match="prompt_name must be one of the model's prompts"):
        encoder.encode("Hi", prompt_name="document")


def test_a_prompt_may_be_left_out_of_the_mean(variant: Callable[..., Path]) -> None:
    pooling = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 64, "include_prompt": False}
    encoder = Encoder(variant({"1_Pooling/config.json": pooling}))
    states = encoder.encode("say Hi there", output_value="token_embeddings")
    kept = states[1 + len(encoder.tokenize(["say"])[0].ids) - 2 :].mean(0)
    np.testing.assert_allclose(encoder.encode("Hi there", prompt="say "), kept / np.linalg.norm(kept), atol=1e-6)


def test_cls_and_lasttoken_pooling(variant: Callable[..., Path], encoder: Encoder) -> None:
    states = encoder.encode(TEXTS, output_value="token_embeddings")
    for mode, place in (("pooling_mode_cls_token", 0), ("pooling_mode_lasttoken", -1)):
        folder = variant({"1_Pooling/config.json": {mode: True, "word_embedding_dimension": 64}})
        got = Encoder(folder).encode(TEXTS, normalize_embeddings=False)
        np.testing.assert_array_equal(got, [rows[place] for rows in states])
        shutil.rmtree(folder)


def test_similarity(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS, normalize_embeddings=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.similarity(vectors, vectors[:2]), unit @ unit[:2].T, atol=1e-6)
    assert encoder.similarity(vectors[0], vectors).shape == (1, 6)
    with pytest.raises(ValueError, match=r"similarity: a and b must be \(n, dim\) with one dim"):
        encoder.similarity(vectors, vectors[:, :3])


@pytest.mark.parametrize(
    "texts, error, message",
    [
        (None, TypeError, "texts must be a list of str, got one NoneType"),
        (b"bytes", TypeError, "texts must be a list of str, got one bytes"),
        (["fine", None], TypeError, r"texts\[1\] must be a str, got NoneType"),
        (["fine", b"x"], TypeError, r"texts\[1\] must be a str, got bytes"),
        (["a\ud800b"], ValueError, r"texts\[0\] has a lone surrogate \(U\+D800\) at position 1"),
    ],
)
def test_texts_that_are_none(encoder: Encoder, texts: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encoder.encode(texts)  # type: ignore[arg-type]


def test_odd_texts_are_fine(encoder: Encoder) -> None:
    vectors = encoder.encode(["", "\0", " \n\t", "a\0b", "word " * 200_000], on_truncate="ignore")
    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": "retreival"}, "task must be None or one of 'base', got 'retreival'"),
        ({"truncate_dim": 65}, "truncate_dim must be from 1 to 64, got 65"),
        ({"truncate_dim": 0}, "truncate_dim must be from 1 to 64, got 0"),
        ({"max_length": 513}, "max_length must be from 3 to 512, got 513"),
        ({"max_length": 2}, "max_length must be from 3 to 512, got 2"),
        ({"prompt_name": "x"}, "prompt_name must be one of the model's prompts .*, got 'x'"),
        ({"output_value": "x"}, "output_value must be one of 'sentence_embedding', 'token_embeddings', got 'x'"),
        ({"on_truncate": "x"}, "on_truncate must be one of 'warn', 'error', 'ignore', got 'x'"),
        ({"batch_size": 0}, "batch_size must be from 1"),
        ({"batch_tokens": 0}, "batch_tokens must be from 1"),
        ({"precision": "int8", "output_value": "token_embeddings"}, "precision must be 'float32' for token_embeddings"),
        ({"precision": "int4"}, "precision must be one of"),
    ],
)
def test_bad_options(encoder: Encoder, options: dict, message: str) -> None:
    """Refused as well where there is no text, in which a wrong option would do no harm yet."""
    for texts in (["Hi"], []):
        for encode in (encoder.encode, encoder.encode_query, encoder.encode_document):
            with pytest.raises(ValueError, match=message):
                encode(texts, **options)


def test_a_wrong_precision_costs_no_pass(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_run", lambda *block, **how: pytest.fail("the texts were run"))
    with pytest.raises(ValueError, match=r"encode: precision must be one of 'float32', .*, got 'int4'"):
        encoder.encode(["Hi"], precision="int4")  # type: ignore[call-overload]


def test_bad_options_without_ids(encoder: Encoder) -> None:
    for options in ({"task": "retreival"}, {"truncate_dim": 65}, {"output_value": "x"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            encoder.encode_ids([], **options)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([[]], r"ids\[0\] must be from 1 to 512 integers, got shape \(0,\)"),
        ([[1, 2], [900]], r"ids\[1\] has 900; ids go from 0 to 899"),
        ([[-1]], r"ids\[0\] has -1"),
        ([[1] * 513], r"ids\[0\] must be from 1 to 512 integers, got shape \(513,\)"),
        ([[1.5]], r"ids\[0\] must be from 1 to 512 integers"),
    ],
)
def test_bad_ids(encoder: Encoder, ids: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder.encode_ids(ids)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"device": "tpu"}, "device must be None, 'cpu', 'cuda' or 'cuda:N', got 'tpu'"),
        ({"dtype": "int4"}, "dtype must be one of 'auto', 'float32', 'bfloat16', 'int8' on the CPU, got 'int4'"),
        ({"num_threads": 0}, r"num_threads must be None \(all\) or from 1 to 1024, got 0"),
        ({"num_threads": 1025}, r"num_threads must be None \(all\) or from 1 to 1024, got 1025"),
    ],
)
def test_bad_construction(model: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(model, **options)


@pytest.mark.parametrize("name", [None, 3, ["a"], b"a"])
def test_a_name_that_is_none(name: object) -> None:
    with pytest.raises(TypeError, match=f"^name_or_path must be a str or a path of str, got {type(name).__name__}$"):
        Encoder(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [None, "ab", 3, {1: [1]}, {2}])
def test_ids_that_are_no_list(encoder: Encoder, ids: object) -> None:
    with pytest.raises(
        TypeError, match=f"^encode_ids: ids must be a list of lists of ids, got one {type(ids).__name__}"
    ):
        encoder.encode_ids(ids)  # type: ignore[call-overload]
    lists = [[1, 2], [3]]
    np.testing.assert_array_equal(encoder.encode_ids(iter(lists)), encoder.encode_ids(lists))  # type: ignore[call-overload]


def test_what_is_no_task_or_text(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="^encode: task must be None, a name or a list of them, got int$"):
        encoder.encode(["a"], task=3)  # type: ignore[call-overload]
    for tasks in ({"base"}, {"base": 1}):  # whose order nobody chose
        with pytest.raises(TypeError, match="^encode: task must be None, a name or a list of them, got (set|dict)$"):
            encoder.encode(["a"], task=tasks)  # type: ignore[call-overload]
    for parts in (None, "ab", b"ab", {"image": "a.png"}, []):
        with pytest.raises(TypeError, match="^fit_input: parts must be a list of longspan.pipeline.inputs.Part, got "):
            encoder.fit_input(parts)  # type: ignore[arg-type]
    for sizes in (3, "ab"):
        with pytest.raises(TypeError, match="^warm_up: sizes must be a list of sizes, got (int|str)$"):
            encoder.warm_up(sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^warm_up: sizes must be numbers or pairs .*, got \(1, 2, 3\)$"):
        encoder.warm_up([(1, 2, 3)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="^encode: task must be None, a name or a list of them, got bytes$"):
        encoder.encode(["a"], task=b"a")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="^encode: texts must be a list of str, got one type$"):
        encoder.encode(str)  # type: ignore[call-overload]


def test_default_pooling_without_modules(variant: Callable[..., Path], encoder: Encoder) -> None:
    folder = variant({})
    (folder / "modules.json").unlink()
    bare = Encoder(folder)
    assert (bare.pooling, bare.normalizes) == ("mean", False)
    got = bare.encode(TEXTS[:2], max_length=256)
    np.testing.assert_array_equal(got, encoder.encode(TEXTS[:2], normalize_embeddings=False))


def test_unsupported_similarity(variant: Callable[..., Path]) -> None:
    folder = variant({"config_sentence_transformers.json": {"similarity_fn_name": "jaccard"}})
    with pytest.raises(CheckpointError, match="similarity_fn_name must be one of cosine, dot, .*, got 'jaccard'"):
        Encoder(folder)


def test_what_can_be_read_once_is_read_once(golden: Path, encoder: Encoder) -> None:
    texts = ["a text", "another"]
    for encode in (encoder.encode, encoder.encode_query, encoder.encode_document):
        assert np.array_equal(encode(text for text in texts), encode(texts))
    sparse = SparseEncoder(golden / "splade-bert" / "model")
    for encode in (sparse.encode, sparse.encode_query, sparse.encode_document):
        assert np.array_equal(encode(text for text in texts).values, encode(texts).values)
