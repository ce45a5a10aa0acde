"""jina-embeddings-v5-omni-small in its published shape with random weights in bfloat16: all tasks, both towers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from .random_checkpoints import SEED, Shapes, linear_shapes, norm_shapes, write_tokenizer

TASKS: Final = ("retrieval", "text-matching", "clustering", "classification")
VOCAB: Final = 151672  # rows of the table; the tokenizer makes fewer
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 1024, 3072, 28, 16, 8, 128
RANK: Final = 32
SEES: Final = {"hidden_size": 1024, "depth": 24, "num_heads": 16, "intermediate_size": 4096}
HEARS: Final = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120}
# Read by the config's names: a token for images, videos and sounds each, and those around them.
TOKENS: Final = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "audio_token_id": "<|audio_pad|>",
    "audio_start_token_id": "<|audio_start|>",
    "audio_end_token_id": "<|audio_end|>",
}
BLOCK: Final = 1 << 24  # numbers that are made and written together


def write_omni_small(folder: Path) -> Path:
    """The base repository's form: 1.63 billion numbers and four adapters, 3.4 GB."""
    from tokenizers import Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer.json", tuple(TOKENS.values()))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = {name: tokenizer.token_to_id(token) for name, token in TOKENS.items()}
    rope = {"rope_theta": 3500000, "rope_type": "default"}
    config = {
        "model_type": "jina_embeddings_v5_omni",
        "task_names": list(TASKS),
        "special_token_ids": list(ids.values()),
        **ids,
        "matryoshka_dimensions": [32, 64, 128, 256, 512, 768, 1024],
        "text_config": {
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 32768,
            "vocab_size": VOCAB,
            "rope_parameters": rope,
        },
        "vision_config": {**SEES, "num_position_embeddings": 2304, "deepstack_visual_indexes": []},
        "audio_config": {**HEARS, "n_window": 100, "num_mel_bins": 128, "output_dim": 3584},
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_bfloat16(folder / "model.safetensors", {**text_shapes(), **vision_shapes(), **audio_shapes()})
    for number, task in enumerate(TASKS):
        adapter = folder / "adapters" / task
        adapter.mkdir(parents=True, exist_ok=True)
        settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(PROJECTIONS)}
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        write_bfloat16(adapter / "adapter_model.safetensors", adapter_shapes(), number)
    return folder


PROJECTIONS: Final = {
    "q_proj": ("self_attn", HEADS * HEAD_DIM, HIDDEN),
    "k_proj": ("self_attn", KV_HEADS * HEAD_DIM, HIDDEN),
    "v_proj": ("self_attn", KV_HEADS * HEAD_DIM, HIDDEN),
    "o_proj": ("self_attn", HIDDEN, HEADS * HEAD_DIM),
    "gate_proj": ("mlp", INNER, HIDDEN),
    "up_proj": ("mlp", INNER, HIDDEN),
    "down_proj": ("mlp", HIDDEN, INNER),
}


def text_shapes() -> Shapes:
    """The text side, and what of it is a task's own."""
    at = "language_model."
    shapes: Shapes = {f"{at}embed_tokens.weight": (VOCAB, HIDDEN), f"{at}norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        own = f"{at}layers.{layer}"
        shapes |= {f"{own}.{norm}.weight": (HIDDEN,) for norm in ("input_layernorm", "post_attention_layernorm")}
        shapes |= {f"{own}.self_attn.{norm}.weight": (HEAD_DIM,) for norm in ("q_norm", "k_norm")}
        shapes |= {f"{own}.{part}.{name}.weight": (out, inner) for name, (part, out, inner) in PROJECTIONS.items()}
    return shapes | {f"task_token_embeddings.{task.replace('-', '_')}": (len(TOKENS), HIDDEN) for task in TASKS}


def vision_shapes() -> Shapes:
    """The vision tower and its connectors."""
    width, inner = SEES["hidden_size"], SEES["intermediate_size"]
    shapes: Shapes = {
        "visual.patch_embed.proj.weight": (width, 3, 2, 16, 16),
        "visual.patch_embed.proj.bias": (width,),
        "visual.pos_embed.weight": (2304, width),
    }
    for layer in range(SEES["depth"]):
        at = f"visual.blocks.{layer}"
        shapes |= norm_shapes(f"{at}.norm1", width) | norm_shapes(f"{at}.norm2", width)
        shapes |= linear_shapes(f"{at}.attn.qkv", 3 * width, width) | linear_shapes(f"{at}.attn.proj", width, width)
        shapes |= linear_shapes(f"{at}.mlp.linear_fc1", inner, width)
        shapes |= linear_shapes(f"{at}.mlp.linear_fc2", width, inner)
    for task in TASKS:
        at = f"mergers.{task.replace('-', '_')}"
        shapes |= norm_shapes(f"{at}.norm", width) | linear_shapes(f"{at}.linear_fc1", 4 * width, 4 * width)
        shapes |= linear_shapes(f"{at}.linear_fc2", HIDDEN, 4 * width)
    return shapes


def audio_shapes() -> Shapes:
    """The audio tower and its connectors."""
    width, inner = HEARS["d_model"], HEARS["encoder_ffn_dim"]
    shapes: Shapes = {"audio_tower.audio_bos_eos_token.weight": (2, 3584)}
    for name, inputs in (("conv1", 128), ("conv2", width)):
        shapes |= {f"audio_tower.{name}.weight": (width, inputs, 3), f"audio_tower.{name}.bias": (width,)}
    for layer in range(HEARS["encoder_layers"]):
        at = f"audio_tower.layers.{layer}"
        shapes |= norm_shapes(f"{at}.self_attn_layer_norm", width) | norm_shapes(f"{at}.final_layer_norm", width)
        for part in ("q", "k", "v", "out"):
            shapes |= linear_shapes(f"{at}.self_attn.{part}_proj", width, width)
        del shapes[f"{at}.self_attn.k_proj.bias"]
        shapes |= linear_shapes(f"{at}.fc1", inner, width) | linear_shapes(f"{at}.fc2", width, inner)
    shapes |= norm_shapes("audio_tower.ln_post", width)
    for task in TASKS:
        shapes |= linear_shapes(f"audio_projectors.{task.replace('-', '_')}", HIDDEN, width)
    return shapes


def adapter_shapes() -> Shapes:
    """One task's."""
    shapes: Shapes = {}
    for layer in range(LAYERS):
        for name, (part, out, inner) in PROJECTIONS.items():
            at = f"base_model.model.language_model.layers.{layer}.{part}.{name}"
            shapes |= {f"{at}.lora_A.weight": (RANK, inner), f"{at}.lora_B.weight": (out, RANK)}
    return shapes


def bytes_of(shapes: Shapes) -> int:
    """In bfloat16."""
    return 2 * sum(math.prod(shape) for shape in shapes.values())


def write_bfloat16(path: Path, shapes: Shapes, seed: int = 0) -> None:
    """A safetensors file of random numbers of both signs, 0.008 to 0.03 in size; a block at a time, never all in
    memory. Norms' scales are such numbers too: nothing that is measured of it depends on them."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in _bits(end // 2, seed):
            file.write(block.tobytes())


def _bits(count: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng([SEED, seed])
    for start in range(0, count, BLOCK):
        bits = rng.integers(0, 1 << 16, min(BLOCK, count - start), np.uint16)
        yield (bits & np.uint16(0x80FF)) + np.uint16(0x3C00)
