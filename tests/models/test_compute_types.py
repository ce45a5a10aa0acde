"""bfloat16 and int8 against the goldens, for every family; their bits in any batch and at any number of threads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder, _core
from longspan.reference.attention_varlen import KEYS_WORTH_BYTES

# The goldens' authors' own bfloat16 has a cosine of 0.9987 or more on these tiny models, whose errors average over few
# values; int8 keeps seven bits where bfloat16 keeps eight, and one scale a row.
LEAST = {"bfloat16": 0.999, "int8": 0.99}
ON_MINILM = {"bfloat16": 0.9999, "int8": 0.995}
ENCODERS = (
    "bert-minilm",
    "xlmr-absolute",
    "jina-v1-t5",
    "jina-v2-en",
    "jina-v2-de",
    "jina-v2-code",
    "jina-v3",
    "modernbert",
    "nomic-bert",
    "mpnet",
)
DECODERS = (
    "jina-v5-text-small/model",
    "jina-v5-text-nano/model",
    "jina-code/model",
    "jina-v4/model",
    "jina-clip-v2/model",
)
LONG_TOKENS = 700
TEXTS = ["one", "a text of some more words, which fill a row or two", "and a third: " + "word " * 90, "four is enough"]

dtypes = pytest.mark.parametrize("dtype", LEAST)


def cosines(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the rows, one by one."""
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(truth, axis=1)
    return np.einsum("ij,ij->i", found, truth) / lengths


@dtypes
@pytest.mark.parametrize("family", ENCODERS)
def test_encoders(isa: str, family: str, dtype: str, golden: Path) -> None:
    encoder = Encoder(golden / family, dtype=dtype)
    expected = np.load(golden / family / "expected.npz")
    for case in json.loads((golden / family / "cases.json").read_text())["cases"]:
        truth = case["name"] + ("/cls" if encoder.pooling == "cls" else "/pooled")
        wanted = expected[f"{truth}_by_task"][0] if family == "jina-v3" else expected[truth]
        rows = zip(case["input_ids"], case["attention_mask"], strict=True)
        ids = [[token for token, is_real in zip(*row, strict=True) if is_real] for row in rows]
        found = np.asarray(encoder.encode_ids(ids))
        assert cosines(found, wanted).min() >= LEAST[dtype], case["name"]


@dtypes
@pytest.mark.parametrize("family", DECODERS)
def test_decoders_and_clip(isa: str, family: str, dtype: str, golden: Path) -> None:
    encoder = Encoder(golden / family, dtype=dtype)
    folder = golden / family.split("/", maxsplit=1)[0]
    expected = np.load(folder / "expected.npz")
    cases = [case for case in json.loads((folder / "cases.json").read_text())["cases"] if case["kind"] != "image"]
    tasks = [case["task"] if case["task"] in encoder.tasks else None for case in cases]
    found = encoder.encode_ids([expected[f"ids/{case['id']}"] for case in cases], task=tasks)
    truth = np.stack([expected[f"emb/{case['id']}"] for case in cases])
    assert cosines(np.asarray(found), truth).min() >= LEAST[dtype]


@cache
def long_text(path: Path) -> tuple[np.ndarray, str | None, np.ndarray]:
    """Ids of a text that is long enough for whole numbers in attention, a task, and its vector in float32."""
    encoder = Encoder(path)
    task = encoder.tasks[0] if encoder.tasks else None
    words = np.random.default_rng(5).integers(5, min(encoder.spec.vocab_size, 250), LONG_TOKENS)
    ids = words[: encoder.max_length]
    assert len(ids) > KEYS_WORTH_BYTES
    return ids, task, np.asarray(encoder.encode_ids([ids], task=task))


@pytest.mark.every_isa
@pytest.mark.parametrize("family", [*ENCODERS[1:], *DECODERS])  # the first one takes 64 tokens
def test_long_texts_in_int8(isa: str, family: str, golden: Path) -> None:
    """The goldens' own texts are shorter than what attention makes whole numbers of."""
    ids, task, truth = long_text(golden / family)
    found = Encoder(golden / family, dtype="int8").encode_ids([ids], task=task)
    assert cosines(np.asarray(found), truth).min() >= LEAST["int8"]


@dtypes
def test_token_vectors(isa: str, dtype: str, golden: Path) -> None:
    folder = golden / "jina-colbert-v2"
    texts = ["what is late interaction?", "one vector a token, and the best match of each counts"]
    exact, rounded = (MultiVectorEncoder(folder, dtype=kind) for kind in ("float32", dtype))
    for one, other in zip(exact.encode_queries(texts), rounded.encode_queries(texts), strict=True):
        # A token's vector is not averaged over a text: ten times a pooled one's distance.
        assert cosines(other, one).min() >= 1 - 10 * (1 - LEAST[dtype])


@dtypes
def test_real_minilm(isa: str, dtype: str, minilm_path: Path, golden: Path) -> None:
    expected = np.load(golden / "minilm" / "expected.npz")
    texts = [case["text"] for case in json.loads((golden / "minilm" / "cases.json").read_text())["cases"]]
    encoder = Encoder(minilm_path, dtype=dtype)
    found = np.asarray(encoder.encode(texts, on_truncate="ignore"))
    assert cosines(found, expected["emb_f64"]).min() >= ON_MINILM[dtype]


@pytest.mark.every_isa
def test_long_texts_of_real_weights_in_int8(isa: str, minilm_path: Path, golden: Path) -> None:
    """Attention's whole numbers, on a model that was trained."""
    if isa == "portable":
        pytest.skip("plain C++ takes a minute, for numbers that all levels have")
    texts = [case["text"] for case in json.loads((golden / "minilm" / "cases.json").read_text())["cases"]]
    ids = [text.ids for text in Encoder(minilm_path).tokenize(texts, max_length=512)]
    rows = [np.concatenate(ids[first:] + ids[:first])[:512] for first in range(0, len(ids), 12)]
    assert min(map(len, rows)) > KEYS_WORTH_BYTES
    exact, coarse = (np.asarray(Encoder(minilm_path, dtype=dtype).encode_ids(rows)) for dtype in ("float32", "int8"))
    assert cosines(coarse, exact).min() >= ON_MINILM["int8"]


@dtypes
@pytest.mark.parametrize("family", ["bert-minilm", "jina-v2-de", "jina-v3", "jina-v5-text-small/model"])
def test_a_text_s_bits_are_its_own(isa: str, family: str, dtype: str, golden: Path) -> None:
    tasks = encoders_tasks(golden / family)
    together = Encoder(golden / family, dtype=dtype).encode(TEXTS, task=tasks)
    for num_threads in (1, 3):
        encoder = Encoder(golden / family, dtype=dtype, num_threads=num_threads)
        for text, task, vector in zip(TEXTS, tasks, together, strict=True):
            np.testing.assert_array_equal(encoder.encode([text], task=[task])[0], vector)


def encoders_tasks(folder: Path) -> Sequence[str | None]:
    """A task for each of TEXTS, all different where the model has as many."""
    names = Encoder(folder).tasks
    return [names[place % len(names)] if names else None for place in range(len(TEXTS))]


def test_explain_names_the_compute_type(golden: Path) -> None:
    for dtype in ("float32", "bfloat16", "int8"):
        assert dtype in Encoder(golden / "bert-minilm", dtype=dtype).explain()


def test_explain_says_where_bfloat16_gains_nothing(golden: Path) -> None:
    before, said = _core.isa(), {}
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            said[isa] = Encoder(golden / "bert-minilm", dtype="bfloat16").explain()
            assert ("no faster than float32 here" in said[isa]) == (not _core.multiplies_bf16())
            assert "no faster" not in Encoder(golden / "bert-minilm").explain()
    finally:
        _core.set_isa(before)
    assert "no faster than float32 here" in said["portable"]
