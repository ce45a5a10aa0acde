"""Tasks: jina-v3's goldens of every task, prompts and defaults by family, mixed batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from checkpoints import read_config, read_tensors, write_checkpoint
from longspan import Encoder
from longspan.pipeline.pipeline import Finish

HIDDEN_LIMIT, POOLED_LIMIT = 1e-4, 5e-6  # the golden README's, for a float32 runtime
V3, SMALL, V4, CLIP = "jina-v3", "jina-v5-text-small/model", "jina-v4/model", "jina-clip-v2/model"
V3_TASKS = ("retrieval.query", "retrieval.passage", "separation", "classification", "text-matching")
TEXTS = [
    "what is late chunking?",
    "A",
    "Crème brûlée coûte 3,50 €",
    "快速的棕色狐狸",
    "def add(a, b):\n    return a + b",
]


def v3_golden(golden: Path) -> tuple[dict, dict[str, np.ndarray]]:
    return json.loads((golden / V3 / "cases.json").read_text()), dict(np.load(golden / V3 / "expected.npz"))


def real_ids(case: dict) -> list[np.ndarray]:
    rows = zip(case["input_ids"], case["attention_mask"])
    return [np.array(ids)[np.array(mask, bool)] for ids, mask in rows]


def test_v3_every_task_of_every_case(isa: str, golden: Path) -> None:
    encoder = Encoder(golden / V3)
    cases, expected = v3_golden(golden)
    assert encoder.tasks == V3_TASKS == tuple(cases["task_order"][1:])
    for case in cases["cases"]:
        name, ids = case["name"], real_ids(case)
        for place, task in enumerate(cases["task_order"]):
            chosen = None if task == "none" else task
            pooled = encoder.encode_ids(ids, task=chosen)
            truth = expected[f"{name}/pooled_l2_by_task"][place]
            np.testing.assert_allclose(pooled, truth, rtol=0, atol=POOLED_LIMIT, err_msg=f"{name} {task}")
            raw = encoder.encode_ids(ids, task=chosen, normalize_embeddings=False)
            truth = expected[f"{name}/pooled_by_task"][place]
            np.testing.assert_allclose(raw, truth, rtol=0, atol=HIDDEN_LIMIT, err_msg=f"{name} {task}")
            if chosen is None:
                np.testing.assert_array_equal(encoder.encode_ids(ids, task="base"), pooled)
        states = encoder.encode_ids(ids, task="retrieval.passage", output_value="token_embeddings")
        for row, hidden in enumerate(states):
            shown = hidden[case.get("hidden_rows", slice(None))]
            truth = expected[f"{name}/hidden/retrieval.passage"][row][: len(shown)]
            np.testing.assert_allclose(shown, truth, rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
        for dim in encoder.spec.matryoshka_dims:
            short = encoder.encode_ids(ids, task="text-matching", truncate_dim=dim)
            truth = expected[f"{name}/trunc{dim}_l2/text-matching"]
            kept = np.linalg.norm(expected[f"{name}/pooled_l2_by_task"][-1][:, :dim], axis=1)
            limit = POOLED_LIMIT / kept.min()  # errors are stretched to unit length as well
            np.testing.assert_allclose(short, truth, rtol=0, atol=limit, err_msg=name)


def test_v3_mixed_tasks(isa: str, golden: Path) -> None:
    encoder = Encoder(golden / V3)
    cases, expected = v3_golden(golden)
    case = next(case for case in cases["cases"] if "tasks_per_row" in case)
    tasks = [None if task == "none" else task for task in case["tasks_per_row"]]
    pooled = encoder.encode_ids(real_ids(case), task=tasks)
    np.testing.assert_allclose(pooled, expected["ragged/mixed_tasks/pooled_l2"], rtol=0, atol=POOLED_LIMIT)
    states = encoder.encode_ids(real_ids(case), task=tasks, output_value="token_embeddings")
    for hidden, truth in zip(states, expected["ragged/mixed_tasks/hidden"]):
        np.testing.assert_allclose(hidden, truth[: len(hidden)], rtol=0, atol=HIDDEN_LIMIT)


def test_v3_encode_with_prompt_and_task(isa: str, golden: Path) -> None:
    encoder = Encoder(golden / V3)
    cases, expected = v3_golden(golden)
    for case in cases["encode_cases"]:
        task = case["task"]
        assert encoder.prompts[task] == case["prompt"]
        tokens = encoder.tokenize(case["texts"], prompt=case["prompt"])
        assert [text.ids.tolist() for text in tokens] == [row.tolist() for row in real_ids(case)]
        for dim in (None, *case["truncate_dims"]):
            truth = expected[f"encode64/{task}/{dim or 'full'}"]
            got = encoder.encode(case["texts"], task=task, prompt_name=task, truncate_dim=dim)
            np.testing.assert_allclose(got, truth, rtol=0, atol=POOLED_LIMIT, err_msg=task)
    queries, passages = cases["encode_cases"][:2]
    for case, encode in ((queries, encoder.encode_query), (passages, encoder.encode_document)):
        truth = expected[f"encode64/{case['task']}/full"]
        np.testing.assert_allclose(encode(case["texts"]), truth, rtol=0, atol=POOLED_LIMIT)


@pytest.mark.parametrize("name", [V3, SMALL, "jina-v5-text-nano/model", V4, CLIP])
def test_mixed_equals_single_bit_for_bit(isa: str, name: str, golden: Path) -> None:
    encoder = Encoder(golden / name)
    choices = [*encoder.tasks, "base"]
    ids = [np.arange(3, 3 + 5 * length) % 200 + 5 for length in (1, 9, 2, 14, 30, 3, 7, 1)]
    tasks = [choices[place % len(choices)] for place in range(len(ids))]
    for output in ("sentence_embedding", "token_embeddings"):
        mixed = encoder.encode_ids(ids, task=tasks, output_value=output)
        for place, task in enumerate(tasks):
            alone = encoder.encode_ids([ids[place]], task=task, output_value=output)
            np.testing.assert_array_equal(mixed[place], alone[0])


def test_base_is_the_model_without_its_adapters(isa: str, golden: Path, tmp_path: Path) -> None:
    """Bit for bit."""
    config = {**read_config(golden / SMALL), "model_type": "qwen3"}
    bare = Encoder(write_checkpoint(golden / SMALL, tmp_path / "bare", read_tensors(golden / SMALL), config))
    assert bare.tasks == ()
    got = Encoder(golden / SMALL).encode(TEXTS, task="base")
    np.testing.assert_array_equal(got, bare.encode(TEXTS))


def test_no_task_where_one_is_needed(golden: Path) -> None:
    for name in (SMALL, V4):
        encoder = Encoder(golden / name)
        known = "'retrieval', 'text-matching', .*, 'base'"
        for task in (None, ["retrieval", None]):
            with pytest.raises(ValueError, match=f"encode: task must be one of {known}, got None"):
                encoder.encode(["a", "b"], task=task)
        with pytest.raises(ValueError, match="task must be one of .*, got None; encode_query and encode_document"):
            encoder.encode_ids([[1]])
        assert encoder.encode_query("a").shape == (64,)
        assert encoder.encode_document([]).shape == (0, 64)


def test_wrong_tasks(golden: Path) -> None:
    encoder = Encoder(golden / V3)
    known = ", ".join(map(repr, (*V3_TASKS, "base")))
    with pytest.raises(ValueError, match=f"encode: task must be None or one of {known}, got 'retrieval'"):
        encoder.encode("a", task="retrieval")
    with pytest.raises(ValueError, match="encode: task must be one name or 2, one a text; got 1"):
        encoder.encode(["a", "b"], task=["separation"])
    with pytest.raises(ValueError, match="encode: prompt must be one str or 2, one a text; got 1"):
        encoder.encode(["a", "b"], prompt=["x"])
    with pytest.raises(ValueError, match="truncate_dim must be one of 8, 16, 32, 48, 64, got 20"):
        encoder.encode("a", truncate_dim=20)
    assert encoder.encode("a", truncate_dim=20, output_value="token_embeddings").shape[1] == 20
    with pytest.raises(TypeError, match="prompt must be a str or a list of them, got int"):
        encoder.encode("a", prompt=3)


def test_roles_take_the_model_s_own_task_and_prompt(golden: Path) -> None:
    v3, small, v4, clip = (Encoder(golden / name) for name in (V3, SMALL, V4, CLIP))
    expectations = [
        (
            v3,
            {},
            "retrieval.query",
            v3.prompts["retrieval.query"],
            "retrieval.passage",
            v3.prompts["retrieval.passage"],
        ),
        (v3, {"task": "separation"}, "separation", "", "separation", ""),
        (v3, {"task": "base"}, "base", v3.prompts["retrieval.query"], "base", v3.prompts["retrieval.passage"]),
        (small, {}, "retrieval", "Query: ", "retrieval", "Document: "),
        (small, {"task": "clustering"}, "clustering", "Query: ", "clustering", "Document: "),
        (v4, {}, "retrieval", "Query: ", "retrieval", "Passage: "),
        (v4, {"task": "text-matching"}, "text-matching", "Query: ", "text-matching", "Query: "),
        (clip, {}, "retrieval.query", clip.prompts["retrieval.query"], "retrieval.query", ""),
    ]
    for encoder, options, query_task, query_prompt, document_task, document_prompt in expectations:
        got = encoder.encode_query(TEXTS, **options)
        np.testing.assert_array_equal(got, encoder.encode(TEXTS, task=query_task, prompt=query_prompt))
        got = encoder.encode_document(TEXTS, **options)
        np.testing.assert_array_equal(got, encoder.encode(TEXTS, task=document_task, prompt=document_prompt))
    mixed = v3.encode_query(TEXTS[:3], task=["separation", None, "text-matching"])
    apart = [v3.encode_query(TEXTS[0], task="separation"), v3.encode_query(TEXTS[1])]
    np.testing.assert_array_equal(mixed, [*apart, v3.encode_query(TEXTS[2], task="text-matching")])
    assert v4.prompts == {"query": "Query: ", "passage": "Passage: "}
    np.testing.assert_array_equal(v4.encode("a", task="code"), v4.encode("a", task="code", prompt_name="query"))


def test_prompts_of_each_text(golden: Path) -> None:
    encoder = Encoder(golden / V3)
    got = encoder.encode(TEXTS[:2], prompt=["one: ", ""])
    np.testing.assert_array_equal(got, [encoder.encode(TEXTS[0], prompt="one: "), encoder.encode(TEXTS[1], prompt="")])


def test_a_pipeline_for_one_adapter(golden: Path) -> None:
    """What late chunking runs a task's documents through."""
    encoder = Encoder(golden / V3)
    ids = [np.arange(5, 40), np.arange(5, 9)]
    wanted = Finish(tokens=False, truncate_dim=None, normalize=True)
    for task, number in (("separation", 2), ("base", -1)):
        got = encoder._pipeline.for_adapter(number).run(ids, wanted)
        np.testing.assert_array_equal(got, encoder.encode_ids(ids, task=task))
    mixed = encoder._pipeline.for_adapter(2).run(ids, wanted, lora_ids=[-1, 1])
    np.testing.assert_array_equal(mixed, encoder.encode_ids(ids, task=["base", "retrieval.passage"]))
