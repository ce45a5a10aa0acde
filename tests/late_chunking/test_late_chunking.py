"""Windows and their pooling: goldens of the authors' code, and the rules against plain statements of them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan import Encoder
from longspan.late_chunking.windows import (
    Plan,
    Strategy,
    Window,
    default_overlap,
    late_means,
    plan_windows,
    with_special_tokens,
)
from longspan.pipeline.pipeline import Finish

FAMILIES = ("bert-minilm", "xlmr-absolute", "jina-v2-en", "jina-v2-de", "jina-v2-code", "modernbert", "nomic-bert")
REFERENCES = ("jina-v2-en", "jina-v2-code", "jina-v3")
HIDDEN_LIMIT, POOLED_LIMIT, WINDOW_LIMIT = 1e-4, 5e-6, 1e-5
RAW = Finish(tokens=False, truncate_dim=None, normalize=False)


def means(encoder: Encoder, windows: list[Window], spans: object, task: str | None = None) -> np.ndarray:
    """Raw means of one document's spans of tokens."""
    pipeline = encoder._pipeline.for_adapter(-1 if task is None else encoder.tasks.index(task))
    return late_means(pipeline, [Plan(windows, np.array(spans, np.int32))], RAW)[0]


def whole(ids: list[int]) -> list[Window]:
    return [Window(np.array(ids, np.int32), 0, len(ids), 0)]


# goldens


@pytest.mark.parametrize("family", FAMILIES)
def test_span_means_of_every_family(isa: str, family: str, golden: Path) -> None:
    encoder = Encoder(golden / family)
    cases = json.loads((golden / family / "cases.json").read_text())["cases"]
    expected = np.load(golden / family / "expected.npz")
    cases = [case for case in cases if case.get("spans")]
    assert cases
    for case in cases:
        got = means(encoder, whole(case["input_ids"][0]), case["spans"])
        np.testing.assert_allclose(got, expected[f"{case['name']}/late_chunk"], rtol=0, atol=HIDDEN_LIMIT)
        unit = got / np.linalg.norm(got, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, expected[f"{case['name']}/late_chunk_l2"], rtol=0, atol=POOLED_LIMIT)


class Reference:
    """What the authors' own functions made of one long document."""

    def __init__(self, folder: Path) -> None:
        self.facts = json.loads((folder / "late_chunking.json").read_text())
        self.arrays = np.load(folder / "late_chunking.npz")
        cases = json.loads((folder / "cases.json").read_text())["cases"]
        self.case = next(case for case in cases if case["name"] == self.facts["case"])
        self.ids: list[int] = self.case["input_ids"][0]
        self.encoder = Encoder(folder)
        self.task: str | None = self.facts["task"]

    def means(self, windows: list[Window], spans: object) -> np.ndarray:
        return means(self.encoder, windows, spans, self.task)

    def windows(self, window: int, overlap: int) -> list[Window]:
        return plan_windows(np.array(self.ids, np.int32), 1, 1, window=window, overlap=overlap, strategy="reference")


@pytest.fixture(scope="module", params=REFERENCES)
def reference(request: pytest.FixtureRequest, golden: Path) -> Reference:
    return Reference(golden / request.param)


def test_reference_spans(reference: Reference) -> None:
    own = np.array(reference.facts["chunker_annotations_without_special_tokens"], np.int32) + 1
    got = with_special_tokens(own, len(reference.ids), 1, 1)
    assert got.tolist() == reference.facts["spans"] and got.dtype == np.int32


def test_reference_in_one_window(reference: Reference) -> None:
    got = reference.means(whole(reference.ids), reference.facts["spans"])
    np.testing.assert_allclose(got, reference.arrays[reference.facts["full_array"]], rtol=0, atol=WINDOW_LIMIT)


def test_reference_windows(reference: Reference) -> None:
    assert reference.facts["windows"]
    for facts in reference.facts["windows"]:
        windows = reference.windows(facts["embed_size"], facts["overlap"])
        assert len(windows) > 2
        got = reference.means(windows, reference.facts["spans"])
        np.testing.assert_allclose(got, reference.arrays[facts["array"]], rtol=0, atol=WINDOW_LIMIT)
        single = reference.means(windows, [(row, row + 1) for row in facts["token_rows"]])
        np.testing.assert_allclose(single, reference.arrays[facts["token_rows_array"]], rtol=0, atol=HIDDEN_LIMIT)


def test_reference_from_text(reference: Reference) -> None:
    """The same through `encode_chunks`: from the document's text and chunks of its characters."""
    encoder, text = reference.encoder, reference.case["texts"][0]
    tokens = encoder.tokenize([text], max_length=len(reference.ids))[0]
    assert tokens.ids.tolist() == reference.ids
    document = text[: tokens.offsets[-2, 1]]
    starts = np.array(reference.facts["chunker_annotations_without_special_tokens"])[:, 0] + 1
    edges = [*tokens.offsets[starts, 0].tolist(), len(document)]
    options = {"chunks": list(pairwise(edges)), "normalize_embeddings": False, "strategy": "reference"}
    options |= {"task": reference.task, "prompt": ""}
    got = encoder.encode_chunks(document, window=8192, **options)
    assert got.token_spans.tolist() == reference.facts["spans"]
    np.testing.assert_allclose(
        got.embeddings, reference.arrays[reference.facts["full_array"]], rtol=0, atol=WINDOW_LIMIT
    )
    for facts in reference.facts["windows"]:
        got = encoder.encode_chunks(document, window=facts["embed_size"], overlap=facts["overlap"], **options)
        np.testing.assert_allclose(got.embeddings, reference.arrays[facts["array"]], rtol=0, atol=WINDOW_LIMIT)
    facts = reference.facts["truncated"]
    got = encoder.encode_chunks(document, max_length=facts["max_length"], **options)
    assert got.token_spans.tolist() == facts["spans"]
    # The golden's input is a bare slice; a tokenizer that truncates, as in the authors' code, keeps the last token.
    closed = [*reference.ids[: facts["max_length"] - 1], reference.ids[-1]]
    np.testing.assert_array_equal(got.embeddings, reference.means(whole(closed), facts["spans"]))


def test_reference_truncated(reference: Reference) -> None:
    facts = reference.facts["truncated"]
    got = reference.means(whole(reference.ids[: facts["max_length"]]), facts["spans"])
    np.testing.assert_allclose(got, reference.arrays[facts["array"]], rtol=0, atol=WINDOW_LIMIT)


# windows


def supplied(windows: list[Window], ids: np.ndarray) -> None:
    """Every token comes once, in order, from a row that holds it."""
    assert windows[0].start == 0 and windows[-1].end == len(ids)
    for window in windows:
        assert window.start < window.end
        np.testing.assert_array_equal(
            window.ids[window.start - window.shift : window.end - window.shift], ids[window.start : window.end]
        )
    assert all(before.end == after.start for before, after in pairwise(windows))


DOCUMENTS = st.tuples(st.integers(1, 90), st.integers(0, 3), st.integers(0, 2))  # text tokens, head, tail


@given(
    document=DOCUMENTS,
    room=st.integers(1, 25),
    overlap=st.integers(0, 24),
    strategy=st.sampled_from(["context", "earlier"]),
)
def test_windows_of_text(document: tuple[int, int, int], room: int, overlap: int, strategy: Strategy) -> None:
    size, head, tail = document
    overlap = min(overlap, room - 1)
    ids = np.arange(head + size + tail, dtype=np.int32)
    windows = plan_windows(ids, head, tail, window=head + room + tail, overlap=overlap, strategy=strategy)
    supplied(windows, ids)
    texts = [window.ids[head : len(window.ids) - tail] - head for window in windows]  # places of text tokens
    for window, text in zip(windows, texts):
        assert window.ids[:head].tolist() == ids[:head].tolist() and len(window.ids) <= head + room + tail
        assert window.ids[len(window.ids) - tail :].tolist() == ids[head + size :].tolist()
        assert (np.diff(text) == 1).all()
    for before, after in pairwise(texts):
        shared = before[-1] + 1 - after[0]
        assert shared == overlap or (strategy == "context" and after is texts[-1] and shared >= overlap)
    if strategy == "context" and len(windows) > 1:
        assert all(len(text) == room for text in texts)
    for place in range(size):
        holding = [number for number, text in enumerate(texts) if text[0] <= place <= text[-1]]
        taken = next(n for n, window in enumerate(windows) if window.start <= place + head < window.end)
        if strategy == "earlier":
            assert taken == holding[0]
        else:
            contexts = [context(texts[number], place, size) for number in holding]
            assert taken == holding[contexts.index(max(contexts))]


def context(text: np.ndarray, place: int, size: int) -> float:
    """Tokens of text on the poorer side of the token; an end of the document is no lack."""
    before = np.inf if text[0] == 0 else place - text[0]
    after = np.inf if text[-1] == size - 1 else text[-1] - place
    return min(before, after)


@given(size=st.integers(1, 90), window=st.integers(1, 25), overlap=st.integers(0, 24))
def test_reference_windows_are_the_published_rule(size: int, window: int, overlap: int) -> None:
    overlap = min(overlap, window - 1)
    ids = np.arange(size, dtype=np.int32)
    windows = plan_windows(ids, 1, 1, window=window, overlap=overlap, strategy="reference")
    supplied(windows, ids)
    # As published: windows every `window - overlap`, all of the first, of the others what follows their overlap.
    taken = [ids[start : start + window][overlap if start else 0 :] for start in range(0, size, window - overlap)]
    assert [part.tolist() for part in taken if len(part)] == [ids[one.start : one.end].tolist() for one in windows]
    assert all(one.ids.tolist() == ids[one.shift : one.shift + window].tolist() for one in windows)


def test_bad_windows() -> None:
    ids = np.arange(50, dtype=np.int32)
    with pytest.raises(ValueError, match="encode_chunks: overlap must be from 0 to 7 in a window of 10, got 8"):
        plan_windows(ids, 1, 1, window=10, overlap=8, strategy="context")
    with pytest.raises(ValueError, match="encode_chunks: overlap must be from 0 to 9 in a window of 10, got -1"):
        plan_windows(ids, 1, 1, window=10, overlap=-1, strategy="reference")
    with pytest.raises(
        ValueError, match="encode_chunks: window must be more than the 12 special tokens and prompt, got 10"
    ):
        plan_windows(ids, 11, 1, window=10, overlap=0, strategy="earlier")


def test_default_overlap() -> None:
    assert [default_overlap(window) for window in (3, 256, 512, 8192)] == [0, 64, 128, 512]


# pooling across windows


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(golden / "bert-minilm")


def test_spans_across_windows(encoder: Encoder) -> None:
    """Means over tokens that come from several windows, against the tokens' own vectors."""
    ids = np.random.default_rng(1).integers(5, 800, 300).astype(np.int32)
    spans = [(0, 300), (10, 12), (30, 290), (250, 300), (99, 101), (0, 1)]
    for strategy in ("context", "earlier", "reference"):
        windows = plan_windows(ids, 1, 1, window=64, overlap=16, strategy=strategy)
        singles = means(encoder, windows, [(place, place + 1) for place in range(300)])
        expected = np.stack([singles[start:end].mean(axis=0, dtype=np.float64) for start, end in spans])
        np.testing.assert_allclose(means(encoder, windows, spans), expected, rtol=0, atol=1e-6)
        rows = encoder.encode_ids([window.ids for window in windows], output_value="token_embeddings")
        taken = [states[one.start - one.shift : one.end - one.shift] for states, one in zip(rows, windows)]
        np.testing.assert_array_equal(np.concatenate(taken), singles)


def test_batches_do_not_matter(encoder: Encoder) -> None:
    random = np.random.default_rng(2)
    plans = []
    for size in (30, 500, 64, 200):
        windows = plan_windows(
            random.integers(5, 800, size).astype(np.int32), 1, 1, window=64, overlap=16, strategy="context"
        )
        starts = random.integers(0, size - 1, 20)
        plans.append(Plan(windows, np.stack([starts, random.integers(starts + 1, size)], axis=1).astype(np.int32)))
    expected = [late_means(encoder._pipeline, [plan], RAW)[0] for plan in plans]
    for batch_tokens in (None, 1, 100):
        got = late_means(encoder._pipeline, plans, RAW, batch_tokens=batch_tokens)
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_windows_that_no_span_needs_do_not_run(encoder: Encoder) -> None:
    ids = np.random.default_rng(3).integers(5, 800, 500).astype(np.int32)
    windows = plan_windows(ids, 1, 1, window=64, overlap=16, strategy="context")
    counts: list[int] = []
    late_means(
        encoder._pipeline, [Plan(windows, np.array([[0, 10], [490, 500]], np.int32))], RAW, progress=counts.append
    )
    assert sum(counts) == 2 < len(windows)
