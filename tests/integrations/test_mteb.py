"""mteb.evaluate over longspan: scores on local tasks, adapters and prompts by task, late interaction, reranking."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.encoders import load_longspan
from bench.quality.data import load_retrieval, load_sts
from bench.quality.metrics import NDCG_10
from bench.quality.retrieval import embed
from bench.quality.retrieval import measure as measure_retrieval
from bench.quality.sts import measure as measure_sts
from longspan import Encoder, MultiVectorEncoder

mteb = pytest.importorskip("mteb", minversion="2", reason="needs longspan[mteb]")
datasets = pytest.importorskip("datasets", reason="needs longspan[mteb]")
adapter = pytest.importorskip("longspan.integrations.mteb")
late = pytest.importorskip("longspan.integrations.mteb_multi_vector")

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["cat", "market", "river", "kernel", "tea", "stone", "piano", "cloud"]
CORPUS = {f"d{i}": f"a {word} is what text {i} is about, and of {WORDS[i % 3]}" for i, word in enumerate(WORDS * 4)}
QUERIES = {f"q{i}": f"tell me of the {word}" for i, word in enumerate(WORDS)}
RELEVANT = {f"q{i}": {f"d{j}": 1 for j in range(i, 32, 8)} for i in range(len(WORDS))}
PAIRS = {"sentence1": [f"a {word}" for word in WORDS], "sentence2": [f"one {word}" for word in WORDS[::-1]]}
PAIRS["score"] = [0.5 * i for i in range(len(WORDS))]


def metadata(name: str, kind: str, score: str) -> object:
    return mteb.TaskMetadata(
        name=name, type=kind, main_score=score, description="A task of this test.", eval_splits=["test"],
        eval_langs=["eng-Latn"], category="t2t", modalities=["text"], reference=None, date=None, domains=None,
        task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
        bibtex_citation=None, dataset={"path": "none", "revision": "none"},
    )  # fmt: skip


def retrieval_task(name: str, corpus: dict, queries: dict, relevant: dict, top: dict | None = None) -> object:
    kind = "Retrieval" if top is None else "Reranking"

    class Local(mteb.abstasks.AbsTaskRetrieval):
        def load_data(self, **_: object) -> None:
            rows = [[{"id": key, "text": text} for key, text in each.items()] for each in (corpus, queries)]
            documents, asked = map(datasets.Dataset.from_list, rows)
            split = {"corpus": documents, "queries": asked, "relevant_docs": relevant, "top_ranked": top}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    Local.metadata = metadata(name, kind, "ndcg_at_10")
    return Local()


def sts_task(name: str, columns: dict[str, list]) -> object:
    class Local(mteb.abstasks.AbsTaskSTS):
        def load_data(self, **_: object) -> None:
            self.dataset, self.data_loaded = {"test": datasets.Dataset.from_dict(columns)}, True

    Local.metadata = metadata(name, "STS", "cosine_spearman")
    return Local()


def scores(model: object, *tasks: object) -> list[float]:
    """The main scores."""
    result = mteb.evaluate(model, list(tasks), cache=None, show_progress_bar=False, co2_tracker=False)
    return [task.get_score() for task in result.task_results]


def test_scores_are_those_of_its_own_backend(golden: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = golden / "bert-minilm"
    tasks = retrieval_task("Small", CORPUS, QUERIES, RELEVANT), sts_task("Pairs", PAIRS)
    ours, theirs = adapter.MtebEncoder(folder), library.SentenceTransformer(str(folder), device="cpu")
    assert scores(ours, *tasks) == pytest.approx(scores(theirs, *tasks), abs=1e-6)


class Recorder(adapter.MtebEncoder):
    """Notes what is asked of the encoder, each thing once."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.calls: dict[tuple[object, ...], None] = {}
        self.is_inside = False
        for name in ("encode", "encode_query", "encode_document"):
            setattr(self.model, name, self.note(name, getattr(self.model, name)))

    def note(self, name: str, encode: object) -> object:
        def noted(texts: list[str], *, task: object, prompt: object, **options: object) -> object:
            if self.is_inside:  # the methods call each other
                return encode(texts, task=task, prompt=prompt, **options)
            self.calls[name, task, prompt] = None
            self.is_inside = True
            try:
                return encode(texts, task=task, prompt=prompt, **options)
            finally:
                self.is_inside = False

        return noted


QUERY, DOCUMENT, TEXT = "encode_query", "encode_document", "encode"


@pytest.mark.parametrize(
    "folder, tasks, prompts, query, document, text",
    [
        ("jina-v3", {}, {}, (QUERY, None, None), (DOCUMENT, None, None), (TEXT, "text-matching", "")),
        (
            "jina-v5-text-nano/model", {}, {},
            (QUERY, None, "Query: "), (DOCUMENT, None, "Document: "), (TEXT, "text-matching", None),
        ),
        (
            "bert-minilm", {}, {"query": "find: ", "STS": "compare: "},
            (QUERY, None, "find: "), (DOCUMENT, None, None), (TEXT, None, "compare: "),
        ),
        (
            "jina-v3",
            {"Retrieval-query": "classification", "Small-document": "retrieval.passage"},
            {"Small-query": "x: "},
            (TEXT, "classification", "x: "), (DOCUMENT, "retrieval.passage", None), (TEXT, "text-matching", ""),
        ),
    ],
)  # fmt: skip
def test_a_task_picks_adapter_and_prompt(
    folder: str, tasks: dict, prompts: dict, query: tuple, document: tuple, text: tuple, golden: Path
) -> None:
    model = Recorder(golden / folder, tasks=tasks, prompts=prompts)
    found = scores(model, retrieval_task("Small", CORPUS, QUERIES, RELEVANT), sts_task("Pairs", PAIRS))
    assert all(np.isfinite(found))
    assert list(model.calls) == [query, document, text]


def test_jina_v3_takes_the_prompts_of_its_roles(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3")
    model, task = adapter.MtebEncoder(encoder), metadata("Small", "Retrieval", "ndcg_at_10")
    where = {"task_metadata": task, "hf_split": "test", "hf_subset": "default"}
    texts = list(QUERIES.values())
    batches = [{"text": texts[:3]}, {"text": texts[3:]}]
    for role, wanted in (("query", encoder.encode_query(texts)), ("document", encoder.encode_document(texts))):
        found = model.encode(batches, prompt_type=mteb.types.PromptType(role), **where)
        np.testing.assert_array_equal(found, wanted)


def test_late_interaction_searches_and_reranks(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = MultiVectorEncoder(golden / "jina-colbert-v2")
    model = late.MtebMultiVectorEncoder(encoder)
    wanted = encoder.score(
        encoder.encode_queries(list(QUERIES.values())), encoder.encode_documents(list(CORPUS.values()))
    )
    columns = {
        key: datasets.Dataset.from_list([{"id": i, "text": t} for i, t in each.items()])
        for key, each in (("c", CORPUS), ("q", QUERIES))
    }
    where = {"task_metadata": metadata("Small", "Retrieval", "ndcg_at_10"), "hf_split": "test", "hf_subset": "default"}
    where |= {"encode_kwargs": {}, "num_proc": None}
    for at_once in (20_000, 5):  # in one part and in seven
        monkeypatch.setattr(late, "DOCUMENTS_AT_ONCE", at_once)
        model.index(columns["c"], **where)
        found = model.search(columns["q"], top_k=4, **where)
        for row, name in zip(wanted, QUERIES, strict=True):
            assert list(found[name].values()) == pytest.approx(np.sort(row)[::-1][:4].tolist(), rel=1e-6)
            assert all(row[list(CORPUS).index(one)] == pytest.approx(score) for one, score in found[name].items())
    top = {name: [f"d{(7 * i + j) % 32}" for j in range(9)] for i, name in enumerate(QUERIES)}
    reranked = model.search(columns["q"], top_k=20, top_ranked=top, **where)
    assert {name: set(each) for name, each in reranked.items()} == {name: set(each) for name, each in top.items()}
    tasks = retrieval_task("Small", CORPUS, QUERIES, RELEVANT), retrieval_task("Again", CORPUS, QUERIES, RELEVANT, top)
    assert all(0 <= score <= 1 for score in scores(model, *tasks))


def test_the_description_is_of_this_model(golden: Path) -> None:
    meta = adapter.MtebEncoder(golden / "bert-minilm").mteb_model_meta
    other = adapter.MtebEncoder(golden / "jina-v1-t5").mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.max_tokens, meta.model_type) == ("local/bert-minilm", 64, 256, ["dense"])
    assert meta.n_parameters > 10_000 and meta.memory_usage_mb > 0 and len(meta.revision) == 40
    assert meta.revision != other.revision
    assert late.MtebMultiVectorEncoder(golden / "jina-colbert-v2").mteb_model_meta.model_type == ["late-interaction"]
    assert adapter.MtebEncoder(golden / "bert-minilm", meta=other).mteb_model_meta is other


def test_parameters_are_counted_as_published(minilm_path: Path) -> None:
    assert adapter.MtebEncoder(minilm_path).mteb_model_meta.n_parameters == 22_713_216


def test_wrong_use(golden: Path) -> None:
    with pytest.raises(TypeError, match="MtebEncoder: model must be a longspan Encoder, a folder or a name, got int"):
        adapter.MtebEncoder(1)
    with pytest.raises(TypeError, match="model must be a longspan MultiVectorEncoder, a folder or a name, got int"):
        late.MtebMultiVectorEncoder(1)
    with pytest.raises(ValueError, match="task must be None or one of .*, got 'nonsense'"):
        scores(adapter.MtebEncoder(golden / "jina-v3", tasks={"STS": "nonsense"}), sts_task("Pairs", PAIRS))


@pytest.mark.parametrize("name", ["cosqa"])
def test_scores_are_those_of_our_own_scripts(name: str, minilm_path: Path) -> None:
    folder = os.environ.get("LONGSPAN_TEST_DATA")
    if not folder:
        pytest.skip("LONGSPAN_TEST_DATA names no folder of evaluation data")
    data, pairs = load_retrieval(Path(folder), name), load_sts(Path(folder), "en", "test")
    runtime = load_longspan(str(minilm_path), None)
    wanted = measure_retrieval(data, *embed(runtime, data), ["float32"])["float32"][NDCG_10]
    corpus, queries = ({str(i): text for i, text in enumerate(texts)} for texts in (data.documents, data.queries))
    relevant = {str(i): {str(j): int(gain) for j, gain in gains.items()} for i, gains in enumerate(data.gains)}
    columns = {"sentence1": list(pairs.first), "sentence2": list(pairs.second), "score": pairs.scores.tolist()}
    model = adapter.MtebEncoder(minilm_path)
    found = scores(model, retrieval_task(name, corpus, queries, relevant), sts_task("stsb", columns))
    assert found == pytest.approx([wanted, measure_sts(runtime, pairs)["float32"]], abs=1e-5)


def test_an_image_task(golden: Path) -> None:
    """Texts find pictures: mteb's batches of images reach the tower, and the score is that of vectors by hand."""
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pictures = [
        images.fromarray(np.full((40 + 5 * place, 60, 3), (30 * place, 9, 200 - 20 * place), np.uint8))
        for place in range(len(WORDS))
    ]
    encoder = Encoder(golden / "jina-clip-v2" / "model")

    class Local(mteb.abstasks.AbsTaskRetrieval):
        def load_data(self, **_: object) -> None:
            rows = [{"id": f"d{place}", "image": picture} for place, picture in enumerate(pictures)]
            features = datasets.Features({"id": datasets.Value("string"), "image": datasets.Image()})
            asked = datasets.Dataset.from_list([{"id": key, "text": text} for key, text in QUERIES.items()])
            relevant = {f"q{place}": {f"d{place}": 1} for place in range(len(WORDS))}
            corpus = datasets.Dataset.from_list(rows, features=features)
            split = {"corpus": corpus, "queries": asked, "relevant_docs": relevant, "top_ranked": None}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    described = metadata("Pictures", "Any2AnyRetrieval", "ndcg_at_10")
    Local.metadata = described.model_copy(update={"category": "t2i", "modalities": ["text", "image"]})
    [score] = scores(adapter.MtebEncoder(encoder), Local())
    found = encoder.encode_query(list(QUERIES.values())) @ encoder.encode_document(pictures).T
    ranks = (found > np.diag(found)[:, None]).sum(1)
    assert score == pytest.approx(np.mean(np.where(ranks < 10, 1 / np.log2(2 + ranks), 0)), abs=1e-3)
