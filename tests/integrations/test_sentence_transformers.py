"""SentenceTransformer over longspan: the library's own vectors, methods, evaluators and files."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from errors import assert_no_worse
from longspan import Encoder, TruncationWarning
from media_models import MediaGolden

library = pytest.importorskip("sentence_transformers", minversion="6", reason="needs longspan[sentence-transformers]")
torch = pytest.importorskip("torch", reason="needs longspan[sentence-transformers]")
adapter = pytest.importorskip("longspan.integrations.sentence_transformers")

pytestmark = pytest.mark.filterwarnings("default")

TEXTS = [
    "hello world",
    "A longer text about dogs and cats, " * 4 + "again",
    "x",
    "Late chunking embeds the whole document.",
]
LIMIT = 5e-6  # the goldens' for unit vectors of a float32 runtime
# Every family that both can load as it is published: the others need code of their own on the library's side.
FAMILIES = [
    "bert-minilm", "jina-code/model", "jina-v1-t5", "jina-v5-text-nano/model-merged-retrieval",
    "jina-v5-text-small/model-merged-retrieval", "modernbert", "xlmr-absolute",
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder(minilm_path: Path) -> Encoder:
    return Encoder(minilm_path, num_threads=2)


@pytest.fixture
def ours(encoder: Encoder) -> object:
    return adapter.as_sentence_transformer(encoder, on_truncate="ignore")


@pytest.fixture(scope="module")
def theirs(minilm_path: Path) -> object:
    return peer(minilm_path)


def peer(path: Path, dtype: object = torch.float32) -> object:
    return library.SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": dtype})


@pytest.mark.parametrize("family", FAMILIES)
def test_same_vectors_as_its_own_backend(family: str, golden: Path) -> None:
    """Against the library's float64, ours may be twice as far off as the library's own float32."""
    mine, truth, native = (
        adapter.as_sentence_transformer(golden / family),
        peer(golden / family, torch.float64),
        peer(golden / family),
    )
    for method in ("encode", "encode_query", "encode_document"):
        vectors = [getattr(model, method)(TEXTS) for model in (mine, truth, native)]
        assert_no_worse(*vectors)


def test_same_vectors_with_real_weights(minilm_path: Path, ours: object, theirs: object) -> None:
    assert_no_worse(ours.encode(TEXTS), peer(minilm_path, torch.float64).encode(TEXTS), theirs.encode(TEXTS))


@pytest.mark.parametrize(
    "options",
    [
        {"normalize_embeddings": True, "truncate_dim": 100},
        {"prompt": "query: ", "batch_size": 3},
        {"convert_to_tensor": True},
        {"convert_to_numpy": False},
        {"output_value": "token_embeddings"},
        {"precision": "ubinary"},
        {"precision": "int8"},
    ],
    ids=str,
)
def test_options_mean_what_they_mean_there(options: dict[str, object], ours: object, theirs: object) -> None:
    found, wanted = ours.encode(TEXTS, **options), theirs.encode(TEXTS, **options)
    assert type(found) is type(wanted)
    for one, other in zip(map(np.asarray, found), map(np.asarray, wanted), strict=True):
        assert one.dtype == other.dtype
        if options.get("precision") == "int8":  # a value on the border of two steps may fall to either side
            assert np.abs(one.astype(int) - other).max() <= 1
        else:
            scale = max(1.0, float(np.abs(other).max())) if one.dtype == np.float32 else 0
            np.testing.assert_allclose(one, other, rtol=0, atol=LIMIT * scale)


def test_one_text_none_and_all_features(ours: object, theirs: object) -> None:
    np.testing.assert_allclose(ours.encode(TEXTS[0]), theirs.encode(TEXTS[0]), rtol=0, atol=LIMIT)
    assert ours.encode([]).shape == theirs.encode([]).shape
    mine, other = (model.encode(TEXTS[1], output_value=None) for model in (ours, theirs))
    for name in ("input_ids", "attention_mask", "token_embeddings", "sentence_embedding"):
        assert mine[name].shape == other[name].shape and mine[name].dtype == other[name].dtype
    assert mine["input_ids"].tolist() == other["input_ids"].tolist()
    with pytest.raises(KeyError, match="nonsense"):
        ours(ours.preprocess(TEXTS))["nonsense"]


def test_bits_are_those_of_encoder(ours: object, encoder: Encoder) -> None:
    texts = [" ".join(TEXTS[i % 4].split()[: 1 + i % 9]) for i in range(50)]
    np.testing.assert_array_equal(ours.encode(texts, batch_size=7), encoder.encode(texts))


def test_pooling_leaves_out_the_prompt_where_the_model_does(golden: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(golden / "bert-minilm", tmp_path / "model"))
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**config, "include_prompt": False}))
    models = [adapter.as_sentence_transformer(folder), peer(folder, torch.float64), peer(folder)]
    assert_no_worse(*(model.encode(TEXTS, prompt="find what follows: ") for model in models))


def test_tasks_pick_adapters(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3")
    model = adapter.as_sentence_transformer(encoder)
    np.testing.assert_array_equal(model.encode_query(TEXTS), encoder.encode_query(TEXTS))
    np.testing.assert_array_equal(model.encode_document(TEXTS), encoder.encode_document(TEXTS))
    for task in encoder.tasks:
        np.testing.assert_array_equal(model.encode(TEXTS, task=task), encoder.encode(TEXTS, task=task))
    assert not np.array_equal(model.encode_query(TEXTS), model.encode_document(TEXTS))
    with pytest.raises(TypeError, match="task must be one name, got list; longspan.Encoder takes a list, one a text"):
        model.encode(TEXTS, task=["retrieval.query"] * 4)
    with pytest.raises(ValueError, match="task must be None or one of 'retrieval.query'.*got 'translation'"):
        model.encode(TEXTS, task="translation")


def test_a_model_that_needs_a_task_says_so(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v5-text-nano" / "model")
    model = adapter.as_sentence_transformer(encoder)
    with pytest.raises(ValueError, match="encode: task must be one of 'retrieval', .*got None"):
        model.encode(TEXTS)
    np.testing.assert_array_equal(model.encode_query(TEXTS), encoder.encode_query(TEXTS))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (5, "encode: a text must be a str, got int: 5"),
        (["a", None], "a text must be a str, got NoneType: None"),
        ([("a", "b")], "a text must be a str, got tuple"),
        ([{"text": "a"}], "a text must be a str, got dict"),
    ],
    ids=str,
)
def test_text_that_is_none(wrong: object, message: str, ours: object) -> None:
    with pytest.raises(TypeError, match=message):
        ours.encode(wrong)


def test_wrong_use(ours: object, golden: Path) -> None:
    with pytest.raises(TypeError, match="model must be a longspan Encoder, a folder or a name, got int"):
        adapter.as_sentence_transformer(3)
    with pytest.raises(ValueError, match="on_truncate must be one of warn, error, ignore, got 'maybe'"):
        adapter.as_sentence_transformer(golden / "bert-minilm", on_truncate="maybe")
    with pytest.raises(ValueError, match="processing_kwargs cannot be used with longspan; set model.max_seq_length"):
        ours.encode(TEXTS, processing_kwargs={"text": {"max_length": 8}})
    with pytest.raises(ValueError, match="max_seq_length must be an int from 1 to 512, got 513"):
        ours.max_seq_length = 513
    with pytest.raises(RuntimeError, match="EncoderModule has no gradients; train with sentence-transformers' own"):
        ours.train()(ours.preprocess(TEXTS))


def test_a_cut_text_is_said_once(encoder: Encoder, theirs: object) -> None:
    long = ["word " * 300] * 5
    model = adapter.as_sentence_transformer(encoder)
    with pytest.warns(TruncationWarning, match="a text has 46 tokens more than 256, which were left out; this") as seen:
        vectors = model.encode(long, batch_size=2)
    assert len([one for one in seen if one.category is TruncationWarning]) == 1
    np.testing.assert_allclose(vectors, theirs.encode(long), rtol=0, atol=LIMIT)
    model.max_seq_length = 10
    assert model.preprocess(long)["input_ids"].shape == (5, 10)
    with pytest.raises(ValueError, match="encode: a text has 46 tokens more than 256"):
        adapter.as_sentence_transformer(encoder, on_truncate="error").encode(long)


def test_evaluators_and_search(ours: object, theirs: object) -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.util import semantic_search

    corpus = {
        str(i): text for i, text in enumerate(("a cat", "a dog barks", "the stock market", "green tea", "a kitten"))
    }
    queries, relevant = {"q": "cats", "r": "shares fell"}, {"q": {"0", "4"}, "r": {"2"}}
    scores = [InformationRetrievalEvaluator(queries, corpus, relevant)(model) for model in (ours, theirs)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6) and max(scores[0].values()) == 1
    texts = list(corpus.values())
    found = [
        semantic_search(model.encode_query(["cats"]), model.encode_document(texts), top_k=5) for model in (ours, theirs)
    ]
    assert [hit["corpus_id"] for hit in found[0][0]] == [hit["corpus_id"] for hit in found[1][0]]
    np.testing.assert_allclose(
        ours.similarity(*[ours.encode(texts)] * 2), theirs.similarity(*[theirs.encode(texts)] * 2), atol=LIMIT
    )


def test_hard_negatives_are_the_same(ours: object, theirs: object) -> None:
    datasets = pytest.importorskip("datasets", reason="sentence-transformers mines in datasets only")
    words = ["cat", "dog", "market", "tea", "kitten", "puppy", "share", "coffee", "river", "stone"]
    pairs = datasets.Dataset.from_dict(
        {"query": [f"what is a {w}" for w in words], "answer": [f"a {w} is this" for w in words]}
    )
    mined = [
        library.mine_hard_negatives(pairs, model, num_negatives=2, verbose=False).to_list() for model in (ours, theirs)
    ]
    assert mined[0] == mined[1] and len(mined[0]) == 20


def test_saving_and_loading(encoder: Encoder, tmp_path: Path) -> None:
    model = adapter.as_sentence_transformer(encoder, on_truncate="ignore")
    model.max_seq_length, model.prompts["query"] = 40, "find: "
    model.save(str(tmp_path / "saved"))
    types = [module["type"] for module in json.loads((tmp_path / "saved" / "modules.json").read_text())]
    assert types == ["longspan.integrations.sentence_transformers.EncoderModule"]
    with pytest.raises(ValueError, match="trust_remote_code=True"):  # the library's rule for modules not its own
        library.SentenceTransformer(str(tmp_path / "saved"))
    again = library.SentenceTransformer(
        str(tmp_path / "saved"), trust_remote_code=True, model_kwargs={"num_threads": 1}
    )
    assert (again.max_seq_length, again.prompts["query"], again[0].encoder.num_threads) == (40, "find: ", 1)
    assert again[0].on_truncate == "ignore"
    np.testing.assert_array_equal(again.encode_query(TEXTS), model.encode_query(TEXTS))
    again.save(str(tmp_path / "saved"))  # over itself
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS, max_length=40, on_truncate="ignore"))
    inner = tmp_path / "saved" / "0_EncoderModule"  # a checkpoint as it was published, for any runtime
    np.testing.assert_array_equal(Encoder(inner).encode(TEXTS), encoder.encode(TEXTS))


def test_saving_spares_the_original(golden: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(golden / "bert-minilm", tmp_path / "model"))
    with pytest.raises(ValueError, match="must not lie in each other"):
        adapter.as_sentence_transformer(folder).save(str(folder))


def test_another_process_gets_the_same_model(minilm_path: Path) -> None:
    encoder = Encoder(minilm_path, dtype="bfloat16", num_threads=2)
    model = adapter.as_sentence_transformer(encoder, on_truncate="ignore")
    model.max_seq_length = 9
    again = pickle.loads(pickle.dumps(model))
    assert again[0].encoder is not encoder
    assert (again[0].encoder.dtype, again[0].encoder.num_threads) == ("bfloat16", 2)
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize("name, task", [("jina-clip-v2", None), ("jina-v4", "retrieval")])
def test_images_pass_through(name: str, task: str | None, golden: Path) -> None:
    """The library takes one modality a call, or dicts; it refuses lists of both by itself."""
    images = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    encoder = Encoder(golden / name / "model")
    model = adapter.as_sentence_transformer(encoder)
    assert model.modalities == ["text", "image"] and model.supports("image")
    given = [images.fromarray(np.full((60, 80, 3), 50 * place, np.uint8)) for place in range(3)]
    options = {} if task is None else {"task": task}
    truth = encoder.encode(given, **options)
    np.testing.assert_array_equal(model.encode(given, **options), truth)
    np.testing.assert_array_equal(model.encode(given[1], **options), truth[1])
    np.testing.assert_array_equal(model.encode([{"image": one} for one in given], **options), truth)
    np.testing.assert_array_equal(model.encode_document(given), encoder.encode_document(given))
    texts = ["a text", "another"]
    np.testing.assert_allclose(model.encode(texts, **options), encoder.encode(texts, **options), rtol=0, atol=1e-6)
    assert model.similarity(model.encode_query(texts), model.encode_document(given)).shape == (2, 3)


@pytest.mark.parametrize("size", ["small", "nano"])
def test_sounds_videos_and_mixtures_pass_through(size: str, golden: Path) -> None:
    """The library takes one modality a call, or one set of them."""
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    omni = MediaGolden(golden / f"jina-v5-omni-{size}")
    encoder = Encoder(omni.model)
    model = adapter.as_sentence_transformer(encoder)
    assert model.supports("audio") and model.supports("video") and model.supports(("audio", "image", "text", "video"))
    sounds = [{"array": omni.sound(name), "sampling_rate": 16000} for name in ("1s", "odd")]
    mixtures = [{"text": "a hum", "image": omni.image(one), "audio": omni.sound("odd")} for one in (1, 4)]
    for given in (sounds, [omni.sound("odd")], [omni.video(0), omni.video(2)], mixtures, [{"audio": sounds[0]}]):
        truth = encoder.encode(given, task="clustering")
        np.testing.assert_array_equal(model.encode(given, task="clustering"), truth)
    np.testing.assert_array_equal(model.encode_query(mixtures), encoder.encode_query(mixtures))
    np.testing.assert_array_equal(model.encode_document(sounds[1]), encoder.encode_document(sounds[1]))
    asked = model.encode(["a hum"], task="retrieval", prompt_name="query")
    np.testing.assert_allclose(asked, encoder.encode_query(["a hum"]), rtol=0, atol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.encode(sounds, task="retrieval"), model.encode(sounds, task="retrieval"))


def test_its_tokenizer_is_transformers_own(ours: object, theirs: object) -> None:
    """It is called, asked for its length and for words, as code for the library does."""
    mine, other = ours.tokenizer, theirs.tokenizer
    assert mine("a b")["input_ids"] == other("a b")["input_ids"] and len(mine) == len(other)
    assert mine.tokenize("embeddings, a b") == other.tokenize("embeddings, a b")
    assert mine(["a b", "c"], padding=True, return_tensors="pt")["input_ids"].shape == (2, 4)
    assert (mine.model_max_length, mine.pad_token, mine.padding_side) == (256, "[PAD]", "right")
    assert ours.tokenizer is mine and len(pickle.loads(pickle.dumps(ours)).tokenizer) == len(mine)


def test_tasks_by_the_hosted_api_s_names(golden: Path) -> None:
    model, encoder = (kind(golden / "jina-code" / "model") for kind in (adapter.as_sentence_transformer, Encoder))
    for task in ("nl2code.query", "nl2code.passage", "nl2code"):
        np.testing.assert_array_equal(
            model.encode("def f(): pass", task=task), encoder.encode("def f(): pass", task=task)
        )
