"""jina-reranker-v3: lists in one sequence, its markers, blocks and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import Reranker
from longspan.reranking.listwise import (
    DOCUMENT_MARKER,
    QUERY_MARKER,
    ListCut,
    ListScorer,
    _without_markers,
)
from rerank_pairs import DOCUMENTS, PAIRS, QUERY


def test_a_listwise_model_sees_its_list(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-jina-v3" / "model")
    assert reranker.is_listwise
    alone = reranker.predict(PAIRS)
    assert [reranker.rank(QUERY, [text])[0]["score"] for text in DOCUMENTS] == [float(score) for score in alone]
    together = reranker.rank([QUERY, "x"], [DOCUMENTS, DOCUMENTS[:2]])
    assert together == [reranker.rank(QUERY, DOCUMENTS), reranker.rank("x", DOCUMENTS[:2])]
    split = "<|embed_<|embed_token|>token|>"  # deleting the marker inside joins another
    assert len(reranker.rank(QUERY, [split, "y"])) == 2
    with pytest.raises(ValueError, match="a listwise model cuts long documents"):
        reranker.rank(QUERY, DOCUMENTS, long_documents="windows")


def test_markers_in_markers_are_taken_out_in_one_pass() -> None:
    """Each pass over the text takes one layer; 40,000 layers took minutes."""
    head, tail = DOCUMENT_MARKER[:7], DOCUMENT_MARKER[7:]
    depth = 40_000
    text = f"before {head * depth}{tail * depth} after"
    assert _without_markers(text) == "before  after"
    mixed = f"{QUERY_MARKER[:3]}{head}{DOCUMENT_MARKER}{tail}{QUERY_MARKER[3:]}>a\r\n<|embed_token|"
    assert _without_markers(mixed) == ">a\r\n<|embed_token|"
    rng = np.random.default_rng(3)
    pieces = [DOCUMENT_MARKER[:4], DOCUMENT_MARKER[4:], QUERY_MARKER[:9], QUERY_MARKER[9:], "x", "\r", ">"]
    for _ in range(300):
        clean = _without_markers("".join(rng.choice(pieces, 12)))
        assert DOCUMENT_MARKER not in clean and QUERY_MARKER not in clean


@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("number", [1, 3, 4, 124, 125, 126, 250, 251])
def test_how_many_documents_share_a_sequence(number: int, spare: int, golden: Path) -> None:
    """A block is full with 125 documents, or where no longest document would fit beside what it has; not before."""
    scorer = Reranker(golden / "rerank-jina-v3" / "model")._scorer
    assert isinstance(scorer, ListScorer)
    query, document, longest = "reset it", "a b c", 10
    of_query, of_document = (len(ids) for ids in scorer._tokenizer.bare_ids([query, document]))
    for documents_a_block in (3, 1000):
        scorer._max_length = 2 * of_query + documents_a_block * of_document + longest + spare
        blocks, lost = scorer._blocks(0, query, [document] * number, ListCut(512, longest), None)
        marker = scorer._markers[0]
        sizes = [int((block.ids == marker).sum()) for block in blocks]
        fit = min(125, documents_a_block + spare)
        assert sizes == [fit] * (number // fit) + ([number % fit] if number % fit else []) and lost == 0


def test_a_text_of_exactly_the_limit_is_spelt_anew(golden: Path) -> None:
    """As published: of that many tokens or more, by what the first of them spell; only then is something cut."""
    scorer = Reranker(golden / "rerank-jina-v3" / "model")._scorer
    assert isinstance(scorer, ListScorer)
    text = "reset\u2028a <|im_end|> pass\u0301word"
    [ids] = scorer._tokenizer.bare_ids([text])
    spelt = scorer._tokenizer.backend.decode(ids.tolist(), skip_special_tokens=False)
    n = len(ids)
    assert scorer._shortened([text], n + 1) == [(text, n, False)]
    assert scorer._shortened([text], n) == [(spelt, n, False)]
    [(cut, tokens, was_cut)] = scorer._shortened([text], n - 2)
    assert was_cut and tokens == n - 2 and spelt.startswith(cut.rstrip("\ufffd"))
