"""Benches of whole models: the texts, the float64 truth, what fresh processes report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.models.bench_memory import LENGTHS, Case, Peak, evenness, growth, measure
from bench.models.bench_startup import first_embedding, run_python
from bench.models.random_omni import adapter_shapes, audio_shapes, bytes_of, text_shapes, vision_shapes
from bench.models.texts import TEXT_SETS, make_texts
from bench.record import write_json
from bench.table import is_broken
from bench.truth import limits_of, rounded, truth_encoder, truth_vectors


@pytest.mark.parametrize("name", TEXT_SETS)
def test_texts_have_the_lengths_that_the_set_promises(name: str) -> None:
    texts, lengths = make_texts(name), TEXT_SETS[name]
    counts = [len(text.split()) for text in texts]
    assert len(texts) == lengths.num_texts
    assert lengths.least <= min(counts) < max(counts) <= lengths.most
    assert texts == make_texts(name)


def test_random_omni_has_the_published_shape() -> None:
    shapes = {**text_shapes(), **vision_shapes(), **audio_shapes()}
    assert bytes_of(shapes) == 2 * 1_626_268_672
    assert len(adapter_shapes()) == 28 * 7 * 2


def test_a_process_that_fails_says_why() -> None:
    assert run_python("print(6 * 7)") == "42"
    with pytest.raises(RuntimeError, match="AssertionError: torch was imported"):
        run_python("assert False, 'torch was imported'")
    with pytest.raises(RuntimeError, match="exit code 3 and said nothing"):
        run_python("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="FileNotFoundError: there is no folder 'no/such/folder'"):
        first_embedding("no/such/folder")


def test_a_new_process_embeds_in_little_memory(golden: Path) -> None:
    seconds, megabytes = first_embedding(str(golden / "bert-minilm"))
    assert 0 < seconds < 60
    assert 10 < megabytes < 350


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, "test", {"answer": 42})
    written = json.loads(path.read_text())
    assert written["bench"] == "test"
    assert written["answer"] == 42
    assert written["machine"]["isa"]
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, "test", {"answer": object()})
    assert json.loads(path.read_text()) == written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc: Linux only")
def test_memory_grows_with_the_length_not_its_square(golden: Path) -> None:
    """The short form of bench_memory: 32768 tokens of a causal model, in fresh processes."""
    cases = [Case("jina-code", "encode_ids", length) for length in LENGTHS]
    costs = growth([measure(golden / "jina-code" / "model", case) for case in cases])
    assert not is_broken(evenness(costs).entries[0]), costs


def test_what_counts_as_linear() -> None:
    peaks = [Peak(Case("a", "encode_ids", tokens), 5000 + tokens * tokens) for tokens in (10, 20, 40, 80)]
    assert growth(peaks) == [30, 60, 120]
    assert is_broken(evenness([30, 60, 120]).entries[0])
    assert "took less memory" in str(evenness([30, -1]).entries[0].refused)
    assert not is_broken(evenness([30, 45]).entries[0])


def test_the_truth_is_what_the_goldens_say(golden: Path) -> None:
    from longspan import Encoder

    folder = golden / "bert-minilm"
    texts = ["a text", "and a longer one, for the mean"]
    encoder = Encoder(folder)
    ids = [np.asarray(text.ids) for text in encoder.tokenize(texts)]
    truth = truth_vectors(truth_encoder(folder), ids, encoder.pooling)
    assert truth.dtype == np.float64
    # The encoder agrees with the goldens to 1e-5; a float64 pass in another order of texts agrees with itself exactly.
    np.testing.assert_allclose(encoder.encode(texts, normalize_embeddings=True), truth, atol=1e-5)
    np.testing.assert_array_equal(truth_vectors(truth_encoder(folder), ids[::-1], encoder.pooling)[::-1], truth)


def test_coarser_numerics_are_farther_from_the_truth(golden: Path) -> None:
    ids = [np.array([2, 10, 20, 30, 3])]
    folder = golden / "bert-minilm"
    exact = truth_vectors(truth_encoder(folder), ids, "mean")
    coarser = {kind: truth_vectors(truth_encoder(folder, kind), ids, "mean") for kind in ("bfloat16", "int8")}
    limits = limits_of(exact, coarser)
    assert limits["float32"] < limits["bfloat16"] < limits["int8"] < 0.5


def test_rounding() -> None:
    x = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -3.0])
    assert rounded(x, "bfloat16", None).tolist() == [1.0, 1.0, 1 + 4 * 2.0**-8, -3.0]  # ties to even
    assert rounded(np.array([[127.0, 1.4, -0.6], [0, 0, 0]]), "int8", 1).tolist() == [[127, 1, -1], [0, 0, 0]]
    assert rounded(x, "float32", None).tolist() == x.tolist()
