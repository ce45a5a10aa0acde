"""The hosted API's names of tasks, on every family: an adapter, a prompt, a role, or nothing to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder
from longspan.text.task_names import read_tasks, spellings

CODE = "jina-code/model"
QUERY, DOCUMENT = "Find the most relevant code snippet given the following query:\n", "Candidate code snippet:\n"


@pytest.fixture(scope="module")
def code(golden: Path) -> Encoder:
    return Encoder(golden / CODE)


@pytest.mark.parametrize(
    "task, role, prompt",
    [
        ("nl2code", None, QUERY),
        ("nl2code", "query", QUERY),
        ("nl2code", "document", DOCUMENT),
        ("nl2code.query", None, QUERY),
        ("nl2code.passage", None, DOCUMENT),
        ("nl2code.passage", "query", DOCUMENT),  # the task wins
        ("nl2code_document", None, DOCUMENT),
        ("retrieval.query", None, QUERY),
        ("passage", None, DOCUMENT),
        ("code2nl.passage", None, "Candidate comment:\n"),
        ("classification", None, None),
        (None, None, None),
    ],
)
def test_tasks_of_models_for_code_are_prompts(code: Encoder, task: str | None, role: str | None, prompt: str) -> None:
    assert read_tasks(task, 2, code, role) == (None, [prompt, prompt])


def test_a_task_is_its_prompt(code: Encoder) -> None:
    """In every method, alone and in a list."""
    query, document = (code.encode("def f(): pass", prompt=prompt) for prompt in (QUERY, DOCUMENT))
    assert np.abs(query - document).max() > 1e-3
    for found in (
        code.encode("def f(): pass", task="nl2code"),
        code.encode("def f(): pass", task="nl2code.query"),
        code.encode_query("def f(): pass", task="nl2code"),
        code.encode_document("def f(): pass", task="nl2code.query"),
        code.encode(["def f(): pass"] * 2, task=["nl2code.query", "nl2code.passage"])[0],
    ):
        np.testing.assert_array_equal(found, query)
    for found in (
        code.encode("def f(): pass", task="nl2code.passage"),
        code.encode_document("def f(): pass", task="nl2code"),
        code.encode(["def f(): pass"] * 2, task=["nl2code.query", "nl2code.passage"])[1],
    ):
        np.testing.assert_array_equal(found, document)
    np.testing.assert_array_equal(code.encode("a", task="nl2code", prompt="b: "), code.encode("a", prompt="b: "))
    [chunks] = code.encode_chunks(["def f(): pass"], task="nl2code", chunks="tokens")
    [plain] = code.encode_chunks(["def f(): pass"], prompt=DOCUMENT, chunks="tokens")
    np.testing.assert_array_equal(chunks.embeddings, plain.embeddings)


@pytest.mark.parametrize(
    "model, task, role, adapter, prompt",
    [
        ("jina-v5-text-small", "retrieval.query", None, "retrieval", "Query: "),
        ("jina-v5-text-small", "retrieval.passage", None, "retrieval", "Document: "),
        ("jina-v5-text-small", "separation", None, "clustering", None),
        ("jina-v3", "retrieval.query", None, "retrieval.query", None),  # the caller's choice, as upstream
        ("jina-v3", "clustering", None, "separation", None),
        ("jina-v3", "retrieval", "document", "retrieval.passage", None),
        ("jina-v3", "query", None, "retrieval.query", "Represent the query for retrieving evidence documents: "),
        ("embeddinggemma/model", "retrieval.passage", None, None, "title: none | text: "),
        ("embeddinggemma/model", "classification", None, None, "task: classification | query: "),
        ("embeddinggemma/model", "STS", None, None, "task: sentence similarity | query: "),
        ("bert-minilm", "retrieval.query", None, None, ""),
        ("bert-minilm", "nl2code.query", None, None, ""),
        ("bert-minilm", "separation", None, None, None),
        ("jina-v2-en", "text-matching", None, None, None),
    ],
)
def test_other_families(
    golden: Path, model: str, task: str, role: str | None, adapter: str | None, prompt: str | None
) -> None:
    encoder = Encoder(golden / model if (golden / model / "config.json").exists() else golden / model / "model")
    assert read_tasks(task, 1, encoder, role) == (adapter, [prompt])
    encode = encoder.encode if role is None else encoder.encode_document
    assert np.isfinite(encode("a text", task=task)).all()


def test_token_vectors_and_ids_take_them_too(golden: Path) -> None:
    v4 = MultiVectorEncoder(golden / "jina-v4" / "model")
    np.testing.assert_array_equal(v4.encode_queries("a", task="retrieval.query"), v4.encode_queries("a"))
    small = Encoder(golden / "jina-v5-text-small" / "model")
    ids = [[5, 6, 7]]
    np.testing.assert_array_equal(
        small.encode_ids(ids, task="retrieval.query"), small.encode_ids(ids, task="retrieval")
    )


def test_what_no_model_knows_is_refused(code: Encoder, golden: Path) -> None:
    with pytest.raises(
        ValueError, match=r"task must be None or one of .*, got 'nl2cod.query'; did you mean 'nl2code.query'"
    ):
        code.encode("a", task="nl2cod.query")
    with pytest.raises(ValueError, match=r"task must be None or one of 'base', got 'no-such-task'"):
        Encoder(golden / "bert-minilm").encode("a", task="no-such-task")
    with pytest.raises(ValueError, match=r"got 'retrieval'; did you mean 'retrieval\."):
        Encoder(golden / "jina-v3").encode("a", task="retrieval")  # of queries or of passages?
    with pytest.raises(ValueError, match=r"got 3"):
        code.encode("a", task=[3])
    assert "nl2code.passage" in spellings(code)
