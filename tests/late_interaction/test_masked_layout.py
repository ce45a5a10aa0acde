"""sentence-transformers' own MultiVectorEncoder layout, in which it saves PyLate's models: the same goldens."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import numpy as np
import pytest

from longspan import CheckpointError, Encoder, MultiVectorEncoder

LIMIT = 5e-6
TYPES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "MultiVectorMask": "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
FIXED = {"strategy": "fixed", "attend": False, "token": None, "length": 32}


def write(path: Path, values: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values))


def masked(source: Path, target: Path, *kinds: str, mask: dict[str, object] | None = None, **settings: object) -> Path:
    """A copy of a PyLate folder in the newer layout; `settings` are the Transformer's, `kinds` follow it."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("config_sentence_transformers.json"))
    dense = [path.name for path in sorted(target.glob("*_Dense"))]
    entries, numbered = [("Transformer", ""), *(("Dense", name) for name in dense)], len(dense) + 1
    for place, kind in enumerate(kinds or ("MultiVectorMask", "Normalize"), numbered):
        entries.append((kind, f"{place}_{kind}"))
        own = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
        if kind == "MultiVectorMask":
            own = {"skiplist_words": [*string.punctuation], "skiplist_tasks": ["document"], "keep_only_token_ids": None}
            own |= mask or {}
        write(target / f"{place}_{kind}" / "config.json", own)
    for name in dense:
        path = target / name / "config.json"
        write(path, json.loads(path.read_text()) | {"module_input_name": "token_embeddings"})
    write(
        target / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": TYPES[kind]} for i, (kind, path) in enumerate(entries)],
    )
    before = json.loads((source / "sentence_bert_config.json").read_text())
    kept = {"transformer_task": "feature-extraction", "do_lower_case": before.get("do_lower_case", False)}
    write(target / "sentence_bert_config.json", kept | settings)
    prompts = {"query": "[Q] ", "document": "[D] "}
    write(target / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder", "prompts": prompts})
    return target


@pytest.mark.parametrize("name", ["model", "model-lateon"])
def test_the_goldens_of_pylate(name: str, golden: Path, tmp_path: Path) -> None:
    source = golden / "colbert-pylate"
    case = next(case for case in json.loads((source / "cases.json").read_text())["cases"] if case["model_dir"] == name)
    expanded = {"query_expansion": FIXED | {"length": case["query_length"]}}
    lengths = {"document_length": case["document_length"]}
    own = expanded if name == "model" else {"query_length": case["query_length"]}
    encoder = MultiVectorEncoder(masked(source / name, tmp_path / "model", **lengths, **own))
    assert (encoder.query_maxlen, encoder.doc_maxlen) == (case["query_length"], case["document_length"])
    expected = np.load(source / "expected.npz")
    queries = encoder.encode_queries(case["queries"], on_truncate="ignore")
    documents = encoder.encode_documents(case["documents"], on_truncate="ignore")
    for role, found in (("query", queries), ("document", documents)):
        for place, vectors in enumerate(found):
            np.testing.assert_allclose(vectors, expected[f"{name}/{role}/{place}"], rtol=0, atol=LIMIT)


def test_a_query_may_be_longer_than_it_is_filled_to(golden: Path, tmp_path: Path) -> None:
    """Under "min" the length is one that no query falls below."""
    source = golden / "colbert-pylate" / "model"
    fixed = MultiVectorEncoder(masked(source, tmp_path / "fixed", query_expansion=FIXED))
    least = MultiVectorEncoder(masked(source, tmp_path / "min", query_expansion=FIXED | {"strategy": "min"}))
    short, long = "a password", "a password " * 30
    np.testing.assert_array_equal(least.encode_queries(short), fixed.encode_queries(short))
    assert len(fixed.encode_queries(long, on_truncate="ignore")) == 32 < len(least.encode_queries(long))
    assert least.fingerprint != fixed.fingerprint
    assert least.query_maxlen == least.max_length
    np.testing.assert_array_equal(
        least.encode_queries(long, max_length=32, on_truncate="ignore"),
        fixed.encode_queries(long, on_truncate="ignore"),
    )


def test_words_that_are_skipped(golden: Path, tmp_path: Path) -> None:
    source = golden / "colbert-pylate" / "model"
    none = MultiVectorEncoder(masked(source, tmp_path / "none", mask={"skiplist_words": []}))
    marks = MultiVectorEncoder(masked(source, tmp_path / "marks"))
    text = "a.b"
    assert len(marks.encode_documents(text)) == len(none.encode_documents(text)) - 1
    np.testing.assert_array_equal(
        marks.encode_documents(text), none.encode_documents(text, skip_list=None)[[0, 1, 2, 4, 5]]
    )


@pytest.mark.parametrize(
    "kinds, mask, settings, message",
    [
        (
            ("MultiVectorMask",),
            {},
            {},
            "then a MultiVectorMask and, as vectors have unit length here, a Norm",
        ),
        (("MultiVectorMask", "Normalize", "Dense"), {}, {}, "may list Dense modules, then a MultiVectorMask"),
        (
            (),
            {"skiplist_tasks": ["query", "document"]},
            {},
            r"'skiplist_tasks' must be \['document'\], got \['que",
        ),
        ((), {"keep_only_token_ids": [5]}, {}, r"'keep_only_token_ids' must be absent or null, got \[5\]"),
        ((), {"skiplist_words": [3]}, {}, "'skiplist_words' must be a list of strings"),
        ((), {}, {"query_expansion": FIXED | {"strategy": "most"}}, "'strategy' must be one of fixed, min, got 'most'"),
        ((), {}, {"query_expansion": FIXED | {"length": 0}}, "'length' must be from 1 to "),
        ((), {}, {"query_expansion": {"strategy": "fixed"}}, "'length' is missing"),
        ((), {}, {"query_expansion": FIXED | {"token": "[X]"}}, r"has no token '\[X\]', which is to be the expansion"),
        ((), {}, {"document_length": 10**9}, "'document_length' must be from 1 to "),
    ],
)
def test_what_is_refused(
    kinds: tuple[str, ...],
    mask: dict[str, object],
    settings: dict[str, object],
    message: str,
    golden: Path,
    tmp_path: Path,
) -> None:
    folder = masked(golden / "colbert-pylate" / "model", tmp_path / "model", *kinds, mask=mask, **settings)
    with pytest.raises(CheckpointError, match=message):
        MultiVectorEncoder(folder)


def test_other_classes_name_the_right_one(golden: Path, tmp_path: Path) -> None:
    folder = masked(golden / "colbert-pylate" / "model", tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"is made for late interaction .* open it with longspan\.MultiVec"):
        Encoder(folder)
