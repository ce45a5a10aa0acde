"""Tasks: jina-v3's goldens of every task, prompts and defaults by family, mixed batches, adapters of one's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import Tensors, merge_peft, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder
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


def peft_folder(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    """An adapter as PEFT writes it."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["query", "dense"]}
    settings |= {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, **config}
    (folder / "adapter_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v != "absent"}))
    if tensors:
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def bert_factors(rank: int = 4) -> dict[str, np.ndarray]:
    """For the query, and every dense layer, of bert-minilm's golden."""
    rng = np.random.default_rng(3)
    tensors = {}
    for layer in range(2):
        at = f"base_model.model.encoder.layer.{layer}"
        for module, out, inputs in (
            ("attention.self.query", 64, 64),
            ("attention.output.dense", 64, 64),
            ("intermediate.dense", 128, 64),
            ("output.dense", 64, 128),
        ):
            tensors[f"{at}.{module}.lora_A.weight"] = (0.1 * rng.standard_normal((rank, inputs))).astype(np.float32)
            tensors[f"{at}.{module}.lora_B.weight"] = (0.1 * rng.standard_normal((out, rank))).astype(np.float32)
    return tensors


def test_an_adapter_of_one_s_own(isa: str, golden: Path, tmp_path: Path) -> None:
    base = golden / "bert-minilm"
    adapter = peft_folder(tmp_path / "adapter", bert_factors())
    encoder = Encoder(base)
    before = encoder.encode(TEXTS)
    encoder.load_adapter("mine", adapter)
    assert encoder.tasks == ("mine",)
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)
    merged = Encoder(
        write_checkpoint(base, tmp_path / "merged", merge_peft(read_tensors(base), adapter), read_config(base))
    )
    mine = encoder.encode(TEXTS, task="mine")
    np.testing.assert_allclose(mine, merged.encode(TEXTS), rtol=0, atol=POOLED_LIMIT)
    assert np.abs(mine - before).max() > 0.01
    # Another rank, other modules, other wrappers, a single one of the stacked q, k and v.
    factors = {
        f"base_model.model.bert.encoder.layer.1.attention.self.key.lora_{part}.weight": np.full(shape, 0.1, np.float32)
        for part, shape in (("A", (7, 64)), ("B", (64, 7)))
    }
    other = peft_folder(tmp_path / "other", factors, r=7, lora_alpha=7, target_modules="all-linear")
    encoder.load_adapter("other", str(other))
    np.testing.assert_array_equal(encoder.encode(TEXTS, task="mine"), mine)
    tasks = ["other", "mine", None, "other", "base"]
    mixed = encoder.encode(TEXTS, task=tasks)
    for place, task in enumerate(tasks):
        np.testing.assert_array_equal(mixed[place], encoder.encode(TEXTS[place], task=task))
    alone = Encoder(base)
    alone.load_adapter("other", other)
    np.testing.assert_array_equal(alone.encode(TEXTS, task="other"), encoder.encode(TEXTS, task="other"))


def test_an_adapter_beside_the_published_ones(golden: Path) -> None:
    """v5's own folder as a fifth task is its first task again, bit for bit."""
    encoder = Encoder(golden / SMALL)
    before = encoder.encode(TEXTS, task="clustering")
    encoder.load_adapter("again", golden / SMALL / "adapters" / "retrieval")
    assert encoder.tasks[-2:] == ("classification", "again")
    np.testing.assert_array_equal(encoder.encode(TEXTS, task="clustering"), before)
    both = encoder.encode([TEXTS[0], TEXTS[0]], task=["again", "retrieval"])
    np.testing.assert_array_equal(both[0], both[1])


QUERY = "base_model.model.encoder.layer.1.attention.self.query"


def reshaped(part: str, shape: tuple[int, int]) -> Callable[[Tensors], object]:
    return lambda t: t.update({f"{QUERY}.lora_{part}.weight": np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    "change, config, message",
    [
        (None, {"peft_type": "IA3"}, "'peft_type' must be 'LORA' or absent, got 'IA3'; only plain LoRA is supported"),
        (None, {"peft_type": "absent"}, "'peft_type' is missing"),
        (None, {"use_dora": True}, "'use_dora' must be False or absent, got True"),
        (None, {"use_rslora": True}, "'use_rslora' must be False or absent, got True"),
        (None, {"bias": "all"}, "'bias' must be 'none' or absent, got 'all'"),
        (None, {"lora_bias": True}, "'lora_bias' must be False"),
        (None, {"modules_to_save": ["classifier"]}, r"'modules_to_save' must be \[\] or absent, got \['classifier'\]"),
        (None, {"rank_pattern": {"query": 8}}, "'rank_pattern' must be {} or absent"),
        (None, {"alpha_pattern": {"query": 8}}, "'alpha_pattern' must be {} or absent"),
        (None, {"fan_in_fan_out": True}, "'fan_in_fan_out' must be False"),
        (None, {"r": 0}, "'r' must be 1 or more, got 0"),
        (None, {"r": "absent"}, "'r' is missing; it must be an integer"),
        (None, {"lora_alpha": "absent"}, "'lora_alpha' is missing"),
        (None, {"r": 8}, r"lora_A.weight must be \(8, in\) by 'r', got \(4, 64\)"),
        (reshaped("B", (64, 5)), {}, r"query.lora_B.weight must be \(out, 4\) by 'r', got \(64, 5\)"),
        (reshaped("B", (63, 4)), {}, r"layer.1.attention.self.query must be for \(64, 64\) .* got \(63, 64\)"),
        (reshaped("A", (4, 65)), {}, r"layer.1.attention.self.query must be for \(64, 64\) .* got \(64, 65\)"),
        (lambda t: t.pop(f"{QUERY}.lora_B.weight"), {}, "layer.1.attention.self.query.lora_B.weight is missing"),
        (
            lambda t: [t.pop(f"{QUERY}.lora_{part}.weight") for part in "AB"],
            {},
            "tensor encoder.layer.1.attention.self.query.lora_A.weight is missing, a target of the adapter",
        ),
        (
            lambda t: t.update({name.replace("layer.1", "layer.7"): t[name] for name in list(t)}),
            {},
            "encoder.layer.7.* has an adapter, but is no linear layer of this model",
        ),
        (
            lambda t: t.update({f"{QUERY}.lora_magnitude_vector": np.ones(4, np.float32)}),
            {},
            "query.lora_magnitude_vector is no factor of a linear layer's adapter; names must end with lora_A.weight",
        ),
        (
            lambda t: t.update(
                {"base_model.model.embeddings.word_embeddings.lora_embedding_A": np.ones((4, 9), np.float32)}
            ),
            {},
            "word_embeddings.lora_embedding_A is no factor of a linear layer's adapter",
        ),
        (
            lambda t: t.update({name.replace("model.enc", "model.bert.enc"): t[name] for name in list(t)}),
            {},
            "are the same factor",
        ),
        (
            lambda t: t[f"{QUERY}.lora_B.weight"].__setitem__((3, 2), np.nan),
            {},
            "'base_model.model.encoder.layer.1.attention.self.query.lora_B.weight' holds nan",
        ),
        (lambda t: t.clear(), {}, "adapter has no adapter_model.safetensors"),
    ],
)
def test_hostile_adapters(
    change: Callable[[Tensors], object] | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    encoder = Encoder(golden / "bert-minilm")
    factors = bert_factors()
    if change is not None:
        change(factors)
    with pytest.raises(CheckpointError, match=message):
        encoder.load_adapter("bad", peft_folder(tmp_path / "adapter", factors, **config))
    assert encoder.tasks == ()


def test_load_adapter_s_arguments(golden: Path, tmp_path: Path) -> None:
    encoder = Encoder(golden / V3)
    with pytest.raises(ValueError, match="load_adapter: name must be a str that is not empty, got ''"):
        encoder.load_adapter("", tmp_path)
    for name in ("base", "separation"):
        with pytest.raises(ValueError, match=f"load_adapter: there is a task '{name}' already; choose another name"):
            encoder.load_adapter(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; give the folder that holds adapter_config"):
        encoder.load_adapter("mine", tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        encoder.load_adapter("mine", tmp_path)


FC1 = "roberta.encoder.layers.1.mlp.fc1.parametrizations.weight.0"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(f"{FC1}.lora_A"), {}, f"tensor {FC1}.lora_A is missing"),
        (
            lambda t: t.update({f"{FC1}.lora_A": t[f"{FC1}.lora_A"][:4]}),
            {},
            r"lora_A must be \(5, 4, 64\) .* \(4, 4, 64\)",
        ),
        (lambda t: t.update({f"{FC1}.lora_B": t[f"{FC1}.lora_B"][..., :3]}), {}, r"lora_B must be \(5, 128, 4\)"),
        (lambda t: t[f"{FC1}.lora_B"].__setitem__((4, 1, 1), np.inf), {}, f"tensor '{FC1}.lora_B' holds inf"),
        (None, {"lora_rank": 8}, r"Wqkv.*lora_A must be \(5, 8, 64\) by the config, got \(5, 4, 64\)"),
        (None, {"lora_rank": None}, "'lora_rank' is missing"),
        (None, {"lora_alpha": 0}, "'lora_alpha' must be above 0, got 0"),
        (None, {"lora_adaptations": None}, "'lora_adaptations' is missing"),
        (None, {"lora_adaptations": ["a", "a"]}, "'lora_adaptations' must be a list of different names"),
        (None, {"lora_adaptations": ["base"]}, r"'lora_adaptations' must be a list of different names, got \['base'\]"),
        (None, {"lora_adaptations": ["a"]}, r"Wqkv.*lora_A must be \(1, 4, 64\) by the config, got \(5, 4, 64\)"),
        (None, {"matryoshka_dimensions": [8, 65]}, "'matryoshka_dimensions' must be different integers from 1 to 64"),
        (None, {"task_instructions": {"separation": 3}}, "task_instructions: 'separation' must be a string, got 3"),
    ],
)
def test_hostile_stacked_adapters(
    change: Callable[[Tensors], object] | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    folder = spoilt(golden / V3, tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        Encoder(folder)


def test_hostile_published_folders(golden: Path, tmp_path: Path) -> None:
    small = spoilt(golden / SMALL, tmp_path / "small")
    shutil.rmtree(small / "adapters" / "clustering")
    with pytest.raises(CheckpointError, match="clustering is missing: it holds the adapter of the task 'clustering'"):
        Encoder(small)
    with pytest.raises(CheckpointError, match="'task_names' is missing; it must be a list"):
        Encoder(spoilt(golden / SMALL, tmp_path / "none", task_names=None))
    v4 = spoilt(golden / V4, tmp_path / "v4")
    factors = read_tensors(v4 / "adapters", "adapter_model")
    dropped = next(name for name in factors if ".mlp.down_proj.lora_A.code." in name)
    factors.pop(dropped)
    (v4 / "adapters" / "adapter_model.safetensors").unlink()
    save_file(factors, v4 / "adapters" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers.0.mlp.down_proj.lora_A.code.weight is missing"):
        Encoder(v4)
    with pytest.raises(
        CheckpointError, match="is no factor of a linear layer's adapter; names must end with lora_A.<cod"
    ):
        Encoder(spoilt(golden / V4, tmp_path / "fewer", task_names=["retrieval", "code"]))
    config = read_config(golden / CLIP)["text_config"]
    config["default_lora_task"] = "separation"
    with pytest.raises(CheckpointError, match="'default_lora_task' must be one of retrieval.query, got 'separation'"):
        Encoder(spoilt(golden / CLIP, tmp_path / "clip", text_config=config))
