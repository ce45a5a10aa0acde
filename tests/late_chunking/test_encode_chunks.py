"""`Encoder.encode_chunks`: chunkers, modes, spans of characters and tokens, laws, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longspan import Encoder, TruncationWarning
from longspan.late_chunking.windows import Chunks
from longspan.pipeline.pipeline import Pipeline
from longspan.text.tokenizer import TokenizedText

SENTENCES = ["Dr. Smith went to Berlin. ", "It has 3.85 million people!\n\n", "Its area is large. ", "Is it old?"]
DOCUMENT = "".join(SENTENCES)
LONG = " ".join(f"Sentence number {i} says something." for i in range(60))

PIECES = st.sampled_from(
    [
        *("word ", "Two words. ", "A", "xyz" * 9, "İ", "\0", "東京。", "e\N{COMBINING ACUTE ACCENT}", "ﬁ", "½"),
        *(" ", "  ", "\t", "\n", "\r\n", "\n\n", "\r\n \r\n", ". ", "\N{ZERO WIDTH SPACE}", "\N{NO-BREAK SPACE}"),
        *("👩\N{ZERO WIDTH JOINER}👧", "🇩🇪", "한국어 ", "ไทย", "עברית ", "\ufeff"),
    ]
)
DOCUMENTS = st.lists(PIECES, max_size=40).map("".join) | st.text(max_size=60)


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(golden / "bert-minilm")


@pytest.fixture(scope="module", params=["bert-minilm", "xlmr-absolute", "jina-v2-code"])
def any_encoder(request: pytest.FixtureRequest, golden: Path) -> Encoder:
    """WordPiece, unigram, byte-level BPE."""
    return Encoder(golden / request.param)


def assert_tokens_averaged(encoder: Encoder, got: Chunks) -> None:
    """Each vector is the mean of the rows of the document's token vectors that `token_spans` says."""
    states = encoder.encode(got.document, output_value="token_embeddings")
    assert got.embeddings.shape == (len(got), encoder.dim) and got.token_spans.shape == (len(got), 2)
    for row, (start, end) in zip(got.embeddings, got.token_spans.tolist()):
        mean = states[start:end].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=0, atol=1e-6)


# chunkers


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({"chunk_tokens": None}, SENTENCES),
        ({"chunk_tokens": 30}, [SENTENCES[0] + SENTENCES[1], SENTENCES[2] + SENTENCES[3]]),
        ({}, [DOCUMENT]),
        ({"chunks": "paragraph", "chunk_tokens": None}, [SENTENCES[0] + SENTENCES[1], SENTENCES[2] + SENTENCES[3]]),
        ({"chunks": lambda text: [(4, 9), (0, 5)]}, ["Smith", "Dr. S"]),
        ({"chunks": [(4, 9), (0, 5)]}, ["Smith", "Dr. S"]),
        ({"chunks": np.array([[4, 9]])}, ["Smith"]),
        ({"chunks": []}, []),
    ],
    ids=str,
)
def test_chunkers(encoder: Encoder, options: dict[str, object], want: list[str]) -> None:
    got = encoder.encode_chunks(DOCUMENT, **options)
    assert got.texts == want and [DOCUMENT[start:end] for start, end in got.spans] == want
    assert len(got) == len(want)
    assert_tokens_averaged(encoder, got)
    listed = [options["chunks"]] if isinstance(options.get("chunks"), (list, np.ndarray)) else None
    many = encoder.encode_chunks([DOCUMENT], **{**options, **({"chunks": listed} if listed else {})})
    assert many[0].spans == got.spans
    np.testing.assert_array_equal(many[0].embeddings, got.embeddings)


def test_chunks_of_tokens_overlap(encoder: Encoder) -> None:
    got = encoder.encode_chunks(LONG, chunks="tokens", chunk_tokens=20, chunk_overlap=5, special_tokens=False)
    starts, ends = got.token_spans.T
    assert (starts == 1 + 15 * np.arange(len(got))).all() and (ends[:-1] - starts[:-1] == 20).all()
    assert ends[-1] == len(encoder.tokenizer.encode([LONG], max_length=10_000)[0].ids) - 1


@settings(deadline=None)
@given(
    document=DOCUMENTS,
    unit=st.sampled_from(["sentence", "paragraph", "tokens"]),
    chunk_tokens=st.integers(1, 12) | st.none(),
    window=st.integers(8, 40) | st.none(),
)
def test_every_character_and_token_has_its_chunk(
    any_encoder: Encoder, document: str, unit: str, chunk_tokens: int | None, window: int | None
) -> None:
    if unit == "tokens" and chunk_tokens is None:
        chunk_tokens = 5
    got = any_encoder.encode_chunks(document, chunks=unit, chunk_tokens=chunk_tokens, window=window)
    assert np.isfinite(got.embeddings).all() and got.embeddings.shape == (len(got), any_encoder.dim)
    tokens = any_encoder.tokenize([document], max_length=512)[0]
    solid = [bool(document[start:end].strip()) for start, end in tokens.offsets.tolist()]
    if not len(got):
        assert not any(solid)
        return
    assert "".join(got.texts) == document
    held = np.zeros(len(tokens.ids), bool)
    for start, end in got.token_spans.tolist():
        assert start < end
        held[start:end] = True
    assert held[solid].all()
    assert held[0] and held[-1]  # the special ones


@settings(deadline=None)
@given(document=DOCUMENTS, pairs=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=6))
def test_any_spans_in_any_order(any_encoder: Encoder, document: str, pairs: list[tuple[int, int]]) -> None:
    """Overlapping, nested, the same one twice: each is the mean of the tokens that touch it, and only of them."""
    spans = [(start, min(start + length, len(document))) for start, length in pairs if start < len(document)]
    options = {"special_tokens": False, "normalize_embeddings": False, "drop_empty": True, "window": 512}
    got = any_encoder.encode_chunks(document, chunks=spans, **options)
    assert got.texts == [document[start:end] for start, end in got.spans]
    tokens = any_encoder.tokenize([document], max_length=512)[0]
    states = any_encoder.encode(document, output_value="token_embeddings", max_length=512)
    # A mean of n float32 values, however it is summed, is within n units in the last place of the largest.
    limit = np.finfo(np.float32).eps * np.abs(states).max() * len(states)
    rest = list(spans)
    for span, row, (first, last) in zip(got.spans, got.embeddings, got.token_spans.tolist(), strict=True):
        while rest[0] != span:
            dropped = rest.pop(0)
            assert not any(map(len, touching(document, tokens, dropped)))
        rest.pop(0)
        for part in touching(document, tokens, span):
            assert set(part) <= set(range(first, last))
        np.testing.assert_allclose(row, states[first:last].mean(axis=0, dtype=np.float64), rtol=0, atol=limit)
    assert not any(map(len, (part for span in rest for part in touching(document, tokens, span))))


def touching(document: str, tokens: TokenizedText, span: tuple[int, int]) -> list[list[int]]:
    """For each character of the span that is no white space, the tokens that hold it."""
    offsets = tokens.offsets.tolist()
    return [
        [place for place, (start, end) in enumerate(offsets) if start <= at < end]
        for at in range(*span)
        if not document[at].isspace()
    ]


def test_documents_without_tokens_have_no_chunks(any_encoder: Encoder) -> None:
    for document in ("", " \n "):
        if len(any_encoder.tokenize([document])[0].ids) > 2:  # some have tokens for white space
            continue
        got = any_encoder.encode_chunks(document)
        assert (len(got), got.embeddings.shape, got.token_spans.shape) == (0, (0, any_encoder.dim), (0, 2))
    assert any_encoder.encode_chunks([]) == []
    assert [len(one) for one in any_encoder.encode_chunks(["", "a", ""])] == [0, 1, 0]


# laws


def test_a_document_of_one_chunk_is_what_encode_gives(isa: str, any_encoder: Encoder) -> None:
    for options in ({}, {"truncate_dim": 8}, {"normalize_embeddings": False}, {"prompt": "query: "}):
        got = any_encoder.encode_chunks(DOCUMENT, **options)
        np.testing.assert_array_equal(got.embeddings[0], any_encoder.encode(DOCUMENT, **options), str(options))


def test_documents_do_not_depend_on_each_other(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [DOCUMENT, LONG, "", "short", LONG[:500]]
    options = {"chunk_tokens": 10, "window": 64}
    together = encoder.encode_chunks(documents, **options)
    for document, got in zip(documents, together):
        alone = encoder.encode_chunks(document, **options)
        assert alone.spans == got.spans
        np.testing.assert_array_equal(alone.embeddings, got.embeddings)
    monkeypatch.setattr("longspan.late_chunking.document_chunks.CHARS_PER_BLOCK", 1)
    for got, other in zip(encoder.encode_chunks(documents, **options, batch_tokens=1), together):
        np.testing.assert_array_equal(got.embeddings, other.embeddings)


def test_late_differs_from_naive(encoder: Encoder) -> None:
    late = encoder.encode_chunks(DOCUMENT, chunk_tokens=None)
    naive = encoder.encode_chunks(DOCUMENT, chunk_tokens=None, mode="naive")
    assert late.spans == naive.spans and (late.token_spans == naive.token_spans).all()
    np.testing.assert_array_equal(naive.embeddings, encoder.encode(SENTENCES))
    assert np.abs(late.embeddings - naive.embeddings).max() > 0.01


def test_naive_and_whole_are_encode(encoder: Encoder) -> None:
    documents, options = [DOCUMENT, LONG[:300], "", "short"], {"truncate_dim": 16, "prompt": "passage: "}
    naive = encoder.encode_chunks(documents, mode="naive", chunk_tokens=20, **options)
    for one in naive:
        np.testing.assert_array_equal(one.embeddings, encoder.encode(one.texts, **options))
    whole = encoder.encode_chunks(documents, mode="whole", **options)
    np.testing.assert_array_equal(
        np.concatenate([one.embeddings for one in whole]), encoder.encode(documents, **options)
    )
    assert [one.texts for one in whole] == [[document] for document in documents]
    assert whole[3].token_spans.tolist() == [[0, len(encoder.tokenize(["short"], prompt="passage: ")[0].ids)]]
    with pytest.warns(TruncationWarning, match="the text had more than 64 tokens"):
        encoder.encode_chunks(LONG, mode="whole", window=64)


# special tokens, prompts, limits


def test_special_tokens_and_prompt(encoder: Encoder, tmp_path: Path) -> None:
    tokens = encoder.tokenize([DOCUMENT], prompt="passage: ")[0]
    first = 1 + tokens.num_prompt_tokens
    options = {"chunk_tokens": None, "prompt": "passage: "}
    published = encoder.encode_chunks(DOCUMENT, **options)
    bare = encoder.encode_chunks(DOCUMENT, special_tokens=False, **options)
    assert published.token_spans[0, 0] == 0 and bare.token_spans[0, 0] == first > 2
    assert published.token_spans[-1, 1] == len(tokens.ids) == bare.token_spans[-1, 1] + 1
    assert (published.token_spans[1:, 0] == bare.token_spans[1:, 0]).all()
    np.testing.assert_array_equal(published.embeddings[1:-1], bare.embeddings[1:-1])
    assert bare.spans == published.spans
    shutil.copytree(encoder.folder, tmp_path / "named")
    path = tmp_path / "named" / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": {"passage": "passage: "}}))
    named = Encoder(tmp_path / "named")
    np.testing.assert_array_equal(named.encode_chunks(DOCUMENT, chunk_tokens=None).embeddings, published.embeddings)


def test_every_window_has_the_prompt(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    original = Pipeline.results

    def spy(self: Pipeline, ids: list[np.ndarray], *how: object, **options: object) -> object:
        seen.extend(one.tolist() for one in ids)
        return original(self, ids, *how, **options)

    monkeypatch.setattr(Pipeline, "results", spy)
    encoder.encode_chunks(LONG, prompt="passage: ", window=64)
    around = encoder.tokenize([""], prompt="passage: ")[0].ids.tolist()
    assert len(seen) > 5 and all(ids[: len(around) - 1] == around[:-1] and ids[-1] == around[-1] for ids in seen)
    assert all(len(ids) == 64 for ids in seen)


def test_a_prompt_that_the_model_does_not_pool(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "bert-minilm", folder)
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**config, "include_prompt": False}))
    encoder = Encoder(folder)
    got = encoder.encode_chunks(DOCUMENT, prompt="passage: ")
    np.testing.assert_array_equal(got.embeddings[0], encoder.encode(DOCUMENT, prompt="passage: "))
    assert got.token_spans[0, 0] == 1 + encoder.tokenize([""], prompt="passage: ")[0].num_prompt_tokens


def test_max_length(encoder: Encoder) -> None:
    got = encoder.encode_chunks(LONG, chunk_tokens=20, max_length=40)
    tokens = encoder.tokenize([LONG], max_length=40)[0]
    assert "".join(got.texts) == LONG[: tokens.offsets[-2, 1]]
    assert got.token_spans[-1, 1] == 39  # what closes a document that goes on belongs to no chunk
    given = encoder.encode_chunks(LONG, chunks=[(0, 10), (20, len(LONG)), (len(LONG) - 5, len(LONG))], max_length=40)
    assert given.spans == [(0, 10), (20, int(tokens.offsets[-2, 1]))]
    fits = len(encoder.tokenize([DOCUMENT])[0].ids)
    for strategy, end in (("context", fits), ("reference", fits - 1)):
        assert encoder.encode_chunks(DOCUMENT, max_length=fits, strategy=strategy).token_spans[-1, 1] == end


def test_windows_hold_no_more_than_they_should(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds memory: a document of 100,000 tokens runs window by window."""
    rows: list[int] = []
    original = Pipeline.results

    def spy(self: Pipeline, ids: list[np.ndarray], *how: object, **options: object) -> object:
        for batch, means in original(self, ids, *how, **options):
            rows.append(len(batch.ids))
            yield batch, means

    monkeypatch.setattr(Pipeline, "results", spy)
    document = (LONG + "\n\n") * 150
    got = encoder.encode_chunks(document, window=256, batch_tokens=1024)
    assert got.token_spans[-1, 1] > 100_000 and "".join(got.texts) == document
    assert max(rows) <= 1024 and sum(rows) > 100_000


# errors


def spans_message(text: str) -> str:
    return rf"encode_chunks: documents\[0\]: {text}"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"chunks": "word"},
            ValueError,
            "chunks must be one of 'sentence', 'paragraph', 'tokens', 'markdown', 'code', got 'word'",
        ),
        ({"chunks": lambda text: None}, TypeError, r"chunks must give a list of \(start, end\), gave NoneType for doc"),
        ({"chunks": 5}, TypeError, "encode_chunks: chunks must be a unit, a function .* or lists of spans, got int"),
        ({"chunks": [(0, 4), (3, 3)]}, ValueError, spans_message(r"chunk 1 must be characters .*, got \(3, 3\)")),
        ({"chunks": [(-1, 4)]}, ValueError, spans_message(r"chunk 0 must be characters .*, got \(-1, 4\)")),
        (
            {"chunks": [(0, 99)]},
            ValueError,
            spans_message(r"chunk 0 must be characters from 0 to 84, start below end, got \(0, 99\)"),
        ),
        ({"chunks": [(0, 4, 5)]}, TypeError, spans_message(r"chunk 0 must be \(start, end\), got \(0, 4, 5\)")),
        ({"chunks": lambda text: ["ab"]}, TypeError, spans_message(r"chunk 0 must be \(start, end\), got 'ab'")),
        ({"chunks": [(0, 3), (3, 4)]}, ValueError, spans_message(r"no token lies in chunk \(3, 4\); drop_empty=True")),
        ({"chunk_tokens": 0}, ValueError, "chunk_tokens must be at least 1, got 0"),
        ({"chunk_overlap": 3}, ValueError, "chunk_overlap is for chunks of tokens, got 3 for 'sentence'"),
        ({"mode": "early"}, ValueError, "encode_chunks: mode must be one of 'late', 'naive', 'whole', got 'early'"),
        ({"strategy": "best"}, ValueError, "strategy must be one of 'context', 'earlier', 'reference', got 'best'"),
        ({"window": 0}, ValueError, "window must be from 3 to 512, got 0"),
        ({"window": 513}, ValueError, "window must be from 3 to 512, got 513"),
        ({"window": 2}, ValueError, "window must be from 3 to 512, got 2"),
        ({"window": 9.5}, TypeError, "window must be an int, got float"),
        ({"window": 3, "prompt": "a b"}, ValueError, "window must be more than the 4 special tokens and prompt, got 3"),
        ({"overlap": -1}, ValueError, "overlap must be from 0 to 255 in a window of 256, got -1"),
        ({"overlap": 256}, ValueError, "overlap must be from 0 to 255 in a window of 256, got 256"),
        ({"overlap": 0.5}, TypeError, "encode_chunks: overlap must be an int, got float"),
        ({"window": 20, "overlap": 18}, ValueError, "overlap must be from 0 to 17 in a window of 20, got 18"),
        ({"max_length": 2}, ValueError, "max_length must be at least 3"),
        ({"task": "translate"}, ValueError, "task must be None or one of 'base', got 'translate'"),
        ({"truncate_dim": 65}, ValueError, "truncate_dim must be from 1 to 64, got 65"),
    ],
)
def test_bad_arguments(encoder: Encoder, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encoder.encode_chunks(DOCUMENT, **options)


@pytest.mark.parametrize("mode", ["late", "naive", "whole"])
def test_bad_options_without_documents(encoder: Encoder, mode: str) -> None:
    for options in (
        *({"chunks": "word"}, {"chunk_tokens": 0}, {"strategy": "best"}, {"window": 2}, {"overlap": 256}),
        *({"max_length": 2}, {"task": "translate"}, {"truncate_dim": 65}, {"batch_tokens": 0}, {"prompt_name": "x"}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            encoder.encode_chunks([], mode=mode, **options)


def test_bad_documents(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match=r"documents\[1\] must be a str, got None"):
        encoder.encode_chunks(["a", None])
    with pytest.raises(ValueError, match="chunks must hold a list of spans, or a unit, for each of 2 documents, got 1"):
        encoder.encode_chunks(["a", "b"], chunks=[[(0, 1)]])
    with pytest.raises(ValueError, match=r"documents\[1\]: chunk 0 must be characters from 0 to 1"):
        encoder.encode_chunks(["ab", "b"], chunks=lambda text: [(0, 2)])


def test_drop_empty(encoder: Encoder) -> None:
    got = encoder.encode_chunks("Dr. ab", chunks=[(0, 3), (3, 4), (4, 6)], drop_empty=True)
    assert got.spans == [(0, 3), (4, 6)] and got.texts == ["Dr.", "ab"]
    assert_tokens_averaged(encoder, got)


def test_progress_reaches_the_end(encoder: Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("late", "naive"):
        encoder.encode_chunks([DOCUMENT, "", LONG], window=64, mode=mode, chunk_tokens=20, show_progress_bar=True)
        assert "(100 %)" in capsys.readouterr().err


def test_a_unit_for_each_document(encoder: Encoder) -> None:
    documents = ["# A\n\nwords here\n\n# B\n\nmore", "def f():\n    a\n\ndef g():\n    b\n", "One. Two."]
    found = encoder.encode_chunks(documents, chunks=["markdown", "code", "sentence"], chunk_tokens=None)
    assert isinstance(found, list)
    assert [chunks.texts for chunks in found] == [
        ["# A\n\nwords here\n\n", "# B\n\nmore"], ["def f():\n    a\n\n", "def g():\n    b\n"], ["One. ", "Two."]
    ]  # fmt: skip
    one = encoder.encode_chunks(documents[0], chunks="markdown", chunk_tokens=None)
    assert isinstance(one, Chunks)
    np.testing.assert_array_equal(one.embeddings, found[0].embeddings)
    with pytest.raises(ValueError, match="or a unit, for each of 3 documents, got 2"):
        encoder.encode_chunks(documents, chunks=["markdown", "code"])
    with pytest.raises(ValueError, match="chunks must be one of .*, got 'word'"):
        encoder.encode_chunks(documents, chunks=["markdown", "word", "code"])  # type: ignore[list-item]
