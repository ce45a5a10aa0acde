"""transformers' own tensor names of GTE, NomicBERT and Jina v3: the published goldens renamed, and the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Tensors, merge_stacked, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder, Reranker

# Published part of a name, and transformers'.
RENAMED = {
    "gte": {
        "encoder.layer.": "layers.",
        "attention.o_proj": "self_attn.o_proj",
        "attn_ln": "post_attention_layernorm",
        "mlp_ln": "post_mlp_layernorm",
    },
    "nomic": {
        "encoder.layers.": "layers.",
        "emb_ln": "embeddings.LayerNorm",
        "attn.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
        "fc11": "up_proj",
        "fc12": "gate_proj",
        "fc2": "down_proj",
    },
    "jina": {
        "encoder.layers.": "layers.",
        "emb_ln": "embeddings.LayerNorm",
        "mixer.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
    },
}
SPLIT = {
    "attention.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mixer.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj"),
}


def native(tensors: Tensors, kind: str, removed: str = "", added: str = "") -> Tensors:
    """The tensors as transformers' class has them, under another prefix; a head's names stay."""
    found: Tensors = {}
    for published, values in tensors.items():
        is_body = published.startswith(removed) and not published.startswith(("classifier.", "lm_head."))
        name = (added if is_body else "") + published.removeprefix(removed)
        for old, new in RENAMED[kind].items():
            name = name.replace(old, new)
        whole = next((part for part in SPLIT if part in name), None)
        if whole is None:
            found[name] = values
        else:
            parts = SPLIT[whole]
            split = np.split(values, len(parts))
            found |= {name.replace(whole, part): own for part, own in zip(parts, split, strict=True)}
    return found


@pytest.mark.parametrize("prefix", ["", "gte."])
def test_gte(prefix: str, golden: Path, tmp_path: Path) -> None:
    source = golden / "gte-new" / "model"
    tensors = native(read_tensors(source), "gte", "new.", prefix)
    assert f"{prefix}layers.1.mlp.gate_proj.weight" in tensors
    folder = write_checkpoint(source, tmp_path / "native", tensors, {**read_config(source), "model_type": "gte"})
    texts = ["a text", "", "another, longer text"]
    np.testing.assert_array_equal(Encoder(folder).encode(texts), Encoder(source).encode(texts))


def test_a_gte_reranker(golden: Path, tmp_path: Path) -> None:
    source = golden / "rerank-gte" / "model"
    tensors = native(read_tensors(source), "gte", "new.", "gte.")
    folder = write_checkpoint(source, tmp_path / "native", tensors, {**read_config(source), "model_type": "gte"})
    pairs = [("a query", "a document"), ("a query", "")]
    np.testing.assert_array_equal(Reranker(folder).predict(pairs), Reranker(source).predict(pairs))


@pytest.mark.parametrize("prefix", ["", "nomic_bert."])
def test_nomic(prefix: str, golden: Path, tmp_path: Path) -> None:
    source = golden / "nomic-bert"
    tensors = native(read_tensors(source), "nomic", "", prefix)
    folder = write_checkpoint(source, tmp_path / "native", tensors, read_config(source))
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(source).encode("a text"))


@pytest.mark.parametrize("prefix", ["", "roberta."])
def test_jina_v3(prefix: str, golden: Path, tmp_path: Path) -> None:
    """Without adapters, which transformers keeps in PEFT's files."""
    source = golden / "jina-v3"
    plain = merge_stacked(read_tensors(source), 0, 0.0)
    published = write_checkpoint(source, tmp_path / "published", plain, read_config(source))
    tensors = native(plain, "jina", "roberta.", prefix)
    folder = write_checkpoint(source, tmp_path / "native", tensors, read_config(source) | {"model_type": "xlm-roberta"})
    with pytest.raises(CheckpointError, match="model_type 'xlm-roberta'.* is not supported"):
        Encoder(folder)  # whose own class has other layers
    config = read_config(source)
    keys = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
    own = {key: config[key] for key in (*keys, "layer_norm_eps", "hidden_act", "vocab_size", "type_vocab_size")}
    own |= {"model_type": "jina_embeddings_v3", "rope_parameters": {"rope_theta": config["rotary_emb_base"]}}
    folder = write_checkpoint(source, tmp_path / "own", tensors, own)
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(published).encode("a text"))


def test_a_missing_tensor_is_named_as_it_is_called(golden: Path, tmp_path: Path) -> None:
    source = golden / "gte-new" / "model"
    tensors = native(read_tensors(source), "gte", "new.")
    del tensors["layers.1.mlp.up_proj.weight"]
    folder = write_checkpoint(source, tmp_path / "native", tensors, read_config(source))
    with pytest.raises(CheckpointError, match=r"tensor layers\.1\.mlp\.up_proj\.weight is missing"):
        Encoder(folder)


def test_an_unknown_architecture_is_named(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / "bert-minilm", tmp_path / "model", model_type="albert", architectures=["AlbertModel"])
    with pytest.raises(
        CheckpointError, match=r"model_type 'albert' \(AlbertModel\).* is not supported; supported are: "
    ):
        Encoder(folder)
