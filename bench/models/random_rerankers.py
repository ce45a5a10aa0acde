"""Cross-encoders of published shapes with random weights: speed depends on sizes alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..cache import kept
from .random_checkpoints import VOCABULARY, Shapes, linear_shapes, norm_shapes, write_checkpoint, write_names

MAX_LENGTH: Final = 512


def write_minilm(folder: Path) -> None:
    """cross-encoder/ms-marco-MiniLM-L6-v2: BERT of 6 x 384, token types, a pooler, one label."""
    config = _write(folder, "bert", "bert.", 384, 6, 1536, positions=MAX_LENGTH, types=2)
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    _name_inputs(folder, "input_ids", "token_type_ids", "attention_mask")


def write_bge_base(folder: Path) -> None:
    """BAAI/bge-reranker-base: XLM-RoBERTa of 12 x 768, one label."""
    config = _write(folder, "xlm-roberta", "roberta.", 768, 12, 3072, positions=MAX_LENGTH + 1, types=1)
    architecture = {"architectures": ["XLMRobertaForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps({**config, **architecture}))
    _name_inputs(folder, "input_ids", "attention_mask")  # its tokenizer makes no token types


def _name_inputs(folder: Path, *names: str) -> None:
    """What transformers' tokenizer is to make."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))


def _write(
    folder: Path, kind: str, prefix: str, hidden: int, layers: int, inner: int, *, positions: int, types: int
) -> dict[str, object]:
    """The folder's files, and its config."""
    at = f"{prefix}embeddings"
    shapes: Shapes = {
        f"{at}.word_embeddings.weight": (VOCABULARY, hidden),
        f"{at}.position_embeddings.weight": (positions, hidden),
        f"{at}.token_type_embeddings.weight": (types, hidden),
        **norm_shapes(f"{at}.LayerNorm", hidden),
    }
    for layer in range(layers):
        at = f"{prefix}encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{at}.attention.{name}", hidden, hidden)
        shapes |= norm_shapes(f"{at}.attention.output.LayerNorm", hidden)
        shapes |= linear_shapes(f"{at}.intermediate.dense", inner, hidden)
        shapes |= linear_shapes(f"{at}.output.dense", hidden, inner)
        shapes |= norm_shapes(f"{at}.output.LayerNorm", hidden)
    if kind == "bert":
        shapes |= linear_shapes("bert.pooler.dense", hidden, hidden) | linear_shapes("classifier", 1, hidden)
    else:
        shapes |= linear_shapes("classifier.dense", hidden, hidden) | linear_shapes("classifier.out_proj", 1, hidden)
    config: dict[str, object] = {
        "model_type": kind,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12 if kind == "bert" else 1e-5,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": 12,
        "num_hidden_layers": layers,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
    }
    write_checkpoint(folder, config, shapes)
    write_names(folder, MAX_LENGTH)
    return config


SHAPES: Final[dict[str, Callable[[Path], None]]] = {"MiniLM-L6": write_minilm, "bge-base": write_bge_base}


def reranker_folder(name: str) -> Path:
    """The checkpoint of this shape, made once a machine."""
    parts = (name, Path(__file__).read_text("utf-8"))
    return kept(f"reranker-{name}", parts, SHAPES[name])
