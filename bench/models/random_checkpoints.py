"""Checkpoints of published shapes with random weights, for what depends on sizes alone, such as memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

SEED: Final = 20260131
SCALE: Final = 0.02  # of a weight, as published models start their training
VOCABULARY: Final = 8192  # pieces of the tokenizer, learned from the reference: about as many a word as real ones make

Shapes = dict[str, tuple[int, ...]]


def write_v2_base(folder: Path) -> Path:
    """jina-embeddings-v2-base-en: 12 x 768, ALiBi, GEGLU, 8192 tokens, 137 M numbers in float16 (275 MB)."""
    hidden, inner, layers, vocab = 768, 3072, 12, 30528
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (vocab, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **norm_shapes("embeddings.LayerNorm", hidden),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{at}.attention.{name}", hidden, hidden)
        shapes |= norm_shapes(f"{at}.attention.output.LayerNorm", hidden)
        shapes[f"{at}.mlp.gated_layers.weight"] = (2 * inner, hidden)
        shapes |= linear_shapes(f"{at}.mlp.wo", hidden, inner)
        shapes |= norm_shapes(f"{at}.mlp.layernorm", hidden)
    config = {
        "model_type": "bert",
        "architectures": ["JinaBertForMaskedLM"],
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "emb_pooler": "mean",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": 12,
        "num_hidden_layers": layers,
        "max_position_embeddings": 8192,
        "type_vocab_size": 2,
        "vocab_size": vocab,
        "pad_token_id": 0,
    }
    return write_checkpoint(folder, config, shapes)


def write_bert_base(folder: Path, *, hidden: int = 768, inner: int = 3072, layers: int = 12, heads: int = 12) -> Path:
    """BERT base: 12 x 768, learned positions, 512 tokens; with the files that transformers wants beside ours. Or the
    same in other sizes."""
    vocab = 30522
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (vocab, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **norm_shapes("embeddings.LayerNorm", hidden),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{at}.attention.{name}", hidden, hidden)
        shapes |= norm_shapes(f"{at}.attention.output.LayerNorm", hidden)
        shapes |= linear_shapes(f"{at}.intermediate.dense", inner, hidden) | linear_shapes(
            f"{at}.output.dense", hidden, inner
        )
        shapes |= norm_shapes(f"{at}.output.LayerNorm", hidden)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": vocab,
        "pad_token_id": 0,
    }
    write_checkpoint(folder, config, shapes)
    write_names(folder, 512)
    return folder


def write_v3(folder: Path, *, hidden: int = 1024, inner: int = 4096, layers: int = 24, heads: int = 16) -> Path:
    """jina-embeddings-v3 without its adapters: 24 x 1024, RoPE, 8192 tokens, 302 M numbers in the layers; words as few
    as our tokenizer's, since a text reads a row for each token whatever their number. Or the same in other sizes."""
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, hidden),
        "embeddings.token_type_embeddings.weight": (1, hidden),
        **norm_shapes("emb_ln", hidden),
    }
    for layer in range(layers):
        at = f"encoder.layers.{layer}"
        shapes |= linear_shapes(f"{at}.mixer.Wqkv", 3 * hidden, hidden) | linear_shapes(
            f"{at}.mixer.out_proj", hidden, hidden
        )
        shapes |= linear_shapes(f"{at}.mlp.fc1", inner, hidden) | linear_shapes(f"{at}.mlp.fc2", hidden, inner)
        shapes |= norm_shapes(f"{at}.norm1", hidden) | norm_shapes(f"{at}.norm2", hidden)
    config = {
        "architectures": ["XLMRobertaModel"],
        "position_embedding_type": "rotary",
        "rotary_emb_base": 20000.0,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 8194,
        "type_vocab_size": 1,
        "vocab_size": VOCABULARY,
        "pad_token_id": 1,
    }
    return write_checkpoint(folder, config, shapes)


def write_v5_small(folder: Path) -> Path:
    """jina-embeddings-v5-text-small's backbone, a Qwen3 of 28 x 1024 with 16 and 8 heads of 128: 440 M numbers in the
    layers; words as few as our tokenizer's. With the files that sentence-transformers wants."""
    hidden, inner, layers, heads, kv_heads, head_dim = 1024, 3072, 28, 16, 8, 128
    shapes: Shapes = {"embed_tokens.weight": (VOCABULARY, hidden), "norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"layers.{layer}"
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        shapes[f"{at}.self_attn.q_norm.weight"] = shapes[f"{at}.self_attn.k_norm.weight"] = (head_dim,)
        for name, width in (
            ("q_proj", heads * head_dim),
            ("k_proj", kv_heads * head_dim),
            ("v_proj", kv_heads * head_dim),
        ):
            shapes[f"{at}.self_attn.{name}.weight"] = (width, hidden)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, heads * head_dim)
        shapes[f"{at}.mlp.gate_proj.weight"] = shapes[f"{at}.mlp.up_proj.weight"] = (inner, hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
    config = {
        "model_type": "qwen3",
        "architectures": ["Qwen3Model"],
        "hidden_act": "silu",
        "head_dim": head_dim,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 3.5e6,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
    }
    write_checkpoint(folder, config, shapes)
    write_names(folder, 32768)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": hidden, "pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = (("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"))
    modules = [
        {"idx": int(idx), "name": idx, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for idx, path, kind in kinds
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def write_small_decoder(folder: Path) -> Path:
    """A Qwen2 of 4 x 256, causal, grouped heads, RoPE, 32768 tokens, 6 M numbers."""
    hidden, inner, layers, heads, kv_heads, vocab = 256, 768, 4, 4, 2, VOCABULARY
    kv_width = hidden // heads * kv_heads
    shapes: Shapes = {"embed_tokens.weight": (vocab, hidden), "norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"layers.{layer}"
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        for name, width in (("q_proj", hidden), ("k_proj", kv_width), ("v_proj", kv_width)):
            shapes |= linear_shapes(f"{at}.self_attn.{name}", width, hidden)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, hidden)
        for name in ("gate_proj", "up_proj"):
            shapes[f"{at}.mlp.{name}.weight"] = (inner, hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
    config = {
        "model_type": "qwen2",
        "architectures": ["Qwen2Model"],
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "vocab_size": vocab,
    }
    return write_checkpoint(folder, config, shapes)


SHAPES: Final[dict[str, Callable[[Path], Path]]] = {"v2-base": write_v2_base, "small decoder": write_small_decoder}


def linear_shapes(name: str, out: int, inputs: int) -> Shapes:
    """A product's weight and bias."""
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def norm_shapes(name: str, dim: int) -> Shapes:
    """A norm's scale and shift."""
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def write_checkpoint(folder: Path, config: Mapping[str, object], shapes: Shapes) -> Path:
    """The folder, with config.json, model.safetensors and tokenizer.json. Raises: ImportError, without safetensors."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(SEED)
    tensors = {
        name: (rng.standard_normal(shape, np.float32) * SCALE + (len(shape) == 1)).astype(np.float16)
        for name, shape in shapes.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    write_tokenizer(folder / "tokenizer.json")
    return folder


def write_names(folder: Path, max_length: int) -> None:
    """What transformers wants to know of the tokenizer."""
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def write_tokenizer(path: Path, more: tuple[str, ...] = ()) -> None:
    """Word pieces learned from the language reference that every CPython carries, and `more` tokens behind them."""
    from pydoc_data.topics import topics

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([topics[name] for name in sorted(topics)], trainer)
    around = [(name, specials.index(name)) for name in specials[2:]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    tokenizer.add_special_tokens(list(more))
    tokenizer.save(str(path))
