"""SPLADE in the shape of a 6 x 384 BERT with random weights, as sparse as published models are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from ..cache import kept
from .random_checkpoints import Shapes, linear_shapes, norm_shapes, write_checkpoint, write_names

HIDDEN, LAYERS, INNER, WORDS = 384, 6, 1536, 30522
MAX_LENGTH: Final = 512
BIAS: Final = -3.4  # standard deviations of a logit: some dozens of 30522 maxima over 100 tokens stay above 0


def splade_folder() -> Path:
    """The checkpoint, made when it is first asked for."""
    parts = (str(MAX_LENGTH), str(BIAS), Path(__file__).read_text(encoding="utf-8"))
    return kept("splade-6x384", parts, write_splade)


def write_splade(folder: Path) -> None:
    """The files of sentence-transformers' layout."""
    from safetensors.numpy import load_file, save_file

    at = "bert.embeddings"
    shapes: Shapes = {
        f"{at}.word_embeddings.weight": (WORDS, HIDDEN),
        f"{at}.position_embeddings.weight": (MAX_LENGTH, HIDDEN),
        f"{at}.token_type_embeddings.weight": (2, HIDDEN),
        **norm_shapes(f"{at}.LayerNorm", HIDDEN),
    }
    for layer in range(LAYERS):
        at = f"bert.encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{at}.attention.{name}", HIDDEN, HIDDEN)
        shapes |= norm_shapes(f"{at}.attention.output.LayerNorm", HIDDEN)
        shapes |= linear_shapes(f"{at}.intermediate.dense", INNER, HIDDEN)
        shapes |= linear_shapes(f"{at}.output.dense", HIDDEN, INNER)
        shapes |= norm_shapes(f"{at}.output.LayerNorm", HIDDEN)
    head = "cls.predictions"
    shapes |= linear_shapes(f"{head}.transform.dense", HIDDEN, HIDDEN)
    shapes |= norm_shapes(f"{head}.transform.LayerNorm", HIDDEN) | {f"{head}.bias": (WORDS,)}
    config = {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": 12,
        "num_hidden_layers": LAYERS,
        "max_position_embeddings": MAX_LENGTH,
        "type_vocab_size": 2,
        "vocab_size": WORDS,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }
    write_checkpoint(folder, config, shapes)
    write_names(folder, MAX_LENGTH)
    path = folder / "model.safetensors"
    tensors = {name: np.array(values) for name, values in load_file(path).items()}
    spread = np.linalg.norm(tensors["bert.embeddings.word_embeddings.weight"].astype(np.float32), axis=1)
    tensors[f"{head}.transform.LayerNorm.bias"][:] = 0
    tensors[f"{head}.bias"] = (BIAS * spread).astype(np.float16)
    save_file(tensors, path)
    modules = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    listed = [
        {"idx": at, "name": str(at), "path": place, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for at, (place, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    named = {"model_type": "SparseEncoder", "similarity_fn_name": "dot"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(named))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_LENGTH}))
    (folder / "1_SpladePooling").mkdir(exist_ok=True)
    pooling = {"pooling_strategy": "max", "activation_function": "relu", "word_embedding_dimension": WORDS}
    (folder / "1_SpladePooling" / "config.json").write_text(json.dumps(pooling))
