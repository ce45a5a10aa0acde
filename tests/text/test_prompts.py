"""Prompts: which one wins, and what an unknown name says."""

from __future__ import annotations

import pytest

from longspan.text.prompts import document_prompt_name, query_prompt_name, resolve_prompt

PROMPTS = {"query": "query: ", "passage": "passage: ", "nothing": ""}


@pytest.mark.parametrize(
    ("prompt", "prompt_name", "default_prompt_name", "want"),
    [
        (None, None, None, ""),
        (None, None, "query", "query: "),
        (None, "passage", "query", "passage: "),
        (None, "nothing", "query", ""),
        ("mine: ", "passage", "query", "mine: "),
        ("", "passage", "query", ""),
        ("mine: ", "not a name", "nor this", "mine: "),
    ],
)
def test_who_wins(prompt: str | None, prompt_name: str | None, default_prompt_name: str | None, want: str) -> None:
    got = resolve_prompt(PROMPTS, prompt_name=prompt_name, prompt=prompt, default_prompt_name=default_prompt_name)
    assert got == want


def test_an_unknown_name_lists_the_known() -> None:
    known = r"prompts \('query', 'passage', 'nothing'\), got 'quary'"
    with pytest.raises(ValueError, match=f"^prompt_name must be one of the model's {known}"):
        resolve_prompt(PROMPTS, prompt_name="quary", prompt=None, default_prompt_name="query")
    with pytest.raises(ValueError, match=f"^default_prompt_name must be one of the model's {known}"):
        resolve_prompt(PROMPTS, prompt_name=None, prompt=None, default_prompt_name="quary")
    with pytest.raises(ValueError, match=r"prompts \(it has none\), got 'query'"):
        resolve_prompt({}, prompt_name="query", prompt=None, default_prompt_name=None)


def test_a_prompt_is_a_str() -> None:
    with pytest.raises(TypeError, match="prompt must be a str, got bytes"):
        resolve_prompt(PROMPTS, prompt_name=None, prompt=b"query: ", default_prompt_name=None)


@pytest.mark.parametrize(
    ("names", "query", "document"),
    [
        ((), None, None),
        (("query", "document"), "query", "document"),
        (("corpus", "passage", "document"), None, "document"),
        (("corpus", "passage", "query"), "query", "passage"),
        (("corpus", "queries"), None, "corpus"),
    ],
)
def test_names_for_queries_and_documents(names: tuple[str, ...], query: str | None, document: str | None) -> None:
    prompts = dict.fromkeys(names, "x")
    assert query_prompt_name(prompts) == query
    assert document_prompt_name(prompts) == document
