"""Tiny random models of transformers' own classes: read as it saves them, and as their bare state dict, they compute
what it computes; classifiers and masked language models what sentence-transformers makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longspan import Encoder, Reranker, SparseEncoder

torch = pytest.importorskip("torch", reason="needs transformers")
transformers = pytest.importorskip("transformers", minversion="5.20", reason="needs transformers >= 5.20")
library = pytest.importorskip("sentence_transformers", minversion="6", reason="needs sentence-transformers >= 6")

pytestmark = pytest.mark.filterwarnings("default")

BASE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
BASE["max_position_embeddings"] = 140
GROUPED = {**BASE, "num_key_value_heads": 2, "head_dim": 16}
WINDOWS = {"sliding_window": 16, "query_pre_attn_scalar": 16, "use_bidirectional_attention": True}
DISTIL = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96, "max_position_embeddings": 140}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 20000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 1e6}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
ONE_TYPE = {"type_vocab_size": 1}
WORDPIECE, UNIGRAM, BYTES = "bert-minilm", "xlmr-absolute", "modernbert"
QWEN, GEMMA = "rerank-qwen3/model-seq-cls", "embeddinggemma/model"
# Name: the golden whose tokenizer it has, what its classes are called, and its shape.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": (WORDPIECE, "Bert", BASE),
    "electra": (WORDPIECE, "Electra", {**BASE, "embedding_size": 64}),
    "roberta": (BYTES, "Roberta", {**BASE, **ONE_TYPE}),
    "camembert": (UNIGRAM, "Camembert", {**BASE, **ONE_TYPE}),
    "xlm-roberta": (UNIGRAM, "XLMRoberta", {**BASE, **ONE_TYPE}),
    "distilbert": (WORDPIECE, "DistilBert", DISTIL),
    "mpnet": (WORDPIECE, "MPNet", BASE),
    "modernbert": (BYTES, "ModernBert", {**BASE, "num_hidden_layers": 4, "local_attention": 16}),
    "nomic": (WORDPIECE, "NomicBert", BASE),
    "gte": (UNIGRAM, "Gte", BASE),
    "gte, no types": (UNIGRAM, "Gte", {**BASE, "type_vocab_size": 0}),
    "gte, dynamic": (UNIGRAM, "Gte", {**BASE, "rope_parameters": DYNAMIC}),
    "jina v3": (UNIGRAM, "JinaEmbeddingsV3", BASE),
    "qwen2": (QWEN, "Qwen2", {**BASE, "num_key_value_heads": 2}),
    "qwen3": (QWEN, "Qwen3", GROUPED),
    "qwen3, yarn": (QWEN, "Qwen3", {**GROUPED, "rope_parameters": YARN}),
    "gemma": (GEMMA, "Gemma3Text", {**GROUPED, **WINDOWS, "num_hidden_layers": 6}),
    "eurobert": (BYTES, "EuroBert", GROUPED),
    "t5": ("jina-v1-t5", "T5", T5),
    "t5, gated": ("jina-v1-t5", "T5", {**T5, "feed_forward_proj": "gated-gelu"}),
}
IDS = [list(range(5, 5 + size)) for size in (1, 7, 63, 100)]
QUERY = "how do I reset a forgotten password"
TEXTS = ["To reset a forgotten password, open the sign-in page.", "", "def Reset(User): user.hash = None", "word " * 60]


def make(name: str, kind: str, source: Path, folder: Path, **more: object) -> Any:
    """The model, saved in `folder` with the golden's tokenizer; `kind` ends its class' name."""
    tokens, stem, shape = FAMILIES[name]
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (source / tokens / file).exists():
            shutil.copy(source / tokens / file, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"model_max_length": 120}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    own = {"vocab_size": len(tokenizer) + 3, "pad_token_id": tokenizer.pad_token_id, **shape, **more}
    torch.manual_seed(3)
    with torch.no_grad():
        model = getattr(transformers, stem + kind)(getattr(transformers, f"{stem}Config")(**own)).eval()
        for values in model.parameters():
            values.add_(torch.randn_like(values) * 0.05)
        model.tie_weights()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("is_bare", [False, True], ids=["saved", "state dict"])
@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states(name: str, is_bare: bool, golden: Path, tmp_path: Path) -> None:
    kind = "EncoderModel" if name.startswith("t5") else "Model"
    model = make(name, kind, golden, tmp_path / "model")
    if is_bare:
        from safetensors.torch import save_file

        tensors = {values.data_ptr(): (key, values.contiguous()) for key, values in model.state_dict().items()}
        save_file(dict(tensors.values()), tmp_path / "model" / "model.safetensors")
    found = Encoder(tmp_path / "model").encode_ids(IDS, output_value="token_embeddings")
    for ids, states in zip(IDS, found, strict=True):
        with torch.no_grad():
            truth = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        np.testing.assert_allclose(states, truth, rtol=1e-5, atol=2e-5)


POOLED = {"modernbert": ["cls", "mean"], "eurobert": ["bos", "mean", "late"]}
HEADS = ["bert", "electra", "roberta", "camembert", "xlm-roberta", "distilbert", "mpnet", "nomic", "gte", "jina v3"]
CLASSIFIERS = [(name, None) for name in (*HEADS, "qwen2", "qwen3", "gemma")]
CLASSIFIERS += [(name, pooling) for name, poolings in POOLED.items() for pooling in poolings]


@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("name, pooling", CLASSIFIERS)
def test_classifiers(name: str, pooling: str | None, labels: int, golden: Path, tmp_path: Path) -> None:
    """As sentence-transformers saves them, from its own activation to how pairs become rows."""
    more = {} if pooling is None else {"classifier_pooling": pooling}
    make(name, "ForSequenceClassification", golden, tmp_path / "model", num_labels=labels, **more)
    prompts = {"prompts": {"web": "find: "}, "default_prompt_name": "web"}
    library.CrossEncoder(str(tmp_path / "model"), device="cpu", **prompts).save_pretrained(str(tmp_path / "saved"))
    pairs = [*((QUERY, text) for text in TEXTS), ("x " * 90, "y " * 90)]
    truth = library.CrossEncoder(str(tmp_path / "saved"), device="cpu")
    found = Reranker(tmp_path / "saved")
    for softmax in (False, True):
        want = truth.predict(pairs, apply_softmax=softmax)
        got = found.predict(pairs, apply_softmax=softmax, on_truncate="ignore")
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


MASKED = [*HEADS, "modernbert"]
MASKED.remove("electra")


@pytest.mark.parametrize("pooling, activation", [("max", "relu"), ("sum", "log1p_relu")])
@pytest.mark.parametrize("name", MASKED)
def test_masked_language_models(name: str, pooling: str, activation: str, golden: Path, tmp_path: Path) -> None:
    from sentence_transformers.sparse_encoder import modules

    make(name, "ForMaskedLM", golden, tmp_path / "model")
    head = modules.SpladePooling(pooling_strategy=pooling, activation_function=activation)
    steps = [modules.MLMTransformer(str(tmp_path / "model")), head]
    library.SparseEncoder(modules=steps, device="cpu").save_pretrained(str(tmp_path / "saved"))
    truth = library.SparseEncoder(str(tmp_path / "saved"), device="cpu").encode(TEXTS).to_dense().numpy()
    found = SparseEncoder(tmp_path / "saved").encode(TEXTS, on_truncate="ignore").to_dense()
    np.testing.assert_allclose(found, truth, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["Model", "ForConditionalGeneration"])
def test_the_text_side_of_qwen_vl(kind: str, golden: Path, tmp_path: Path) -> None:
    """With the vision tower's tensors beside it, under the prefixes of either class."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    text = {**BASE, "num_key_value_heads": 2, "vocab_size": 500, "rope_parameters": rope}
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 64}
    vision |= {"fullatt_block_indexes": [1], "patch_size": 14, "spatial_merge_size": 2, "window_size": 112}
    ids = {"vision_start_token_id": 0, "vision_end_token_id": 1, "image_token_id": 2, "video_token_id": 3}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    torch.manual_seed(3)
    model = getattr(transformers, f"Qwen2_5_VL{kind}")(config).eval()
    folder = tmp_path / "model"
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(golden / QWEN / file, folder)
    model.save_pretrained(folder)
    found = Encoder(folder, modalities=("text",)).encode_ids(IDS, output_value="token_embeddings")
    for rows, states in zip(IDS, found, strict=True):
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([rows]), output_hidden_states=True)
        np.testing.assert_allclose(states, whole.hidden_states[-1][0].numpy(), rtol=1e-5, atol=2e-5)
