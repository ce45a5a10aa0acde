"""Makes this folder: a tiny MPNet with random weights and what transformers computes with it in float64.

python make.py tokenizer.json     (with transformers, torch and safetensors; written with transformers 5.23.0)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import MPNetConfig, MPNetModel

LENGTHS = {"ids1": [1], "ids2": [2], "len7": [7], "len63": [63], "len64": [64], "len65": [65], "len512": [512]}
RAGGED = {"ragged": [5, 1, 130, 33]}
HERE = Path(__file__).parent


def main() -> None:
    """Writes config.json, model.safetensors, tokenizer.json, cases.json and expected.npz."""
    torch.manual_seed(9101)
    config = MPNetConfig(
        vocab_size=912,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=514,
        layer_norm_eps=1e-5,
        architectures=["MPNetForMaskedLM"],
    )
    model = MPNetModel(config, add_pooling_layer=True).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            spread = 0.5 if "relative" in name or "LayerNorm" in name else 0.12
            values.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, spread)
    model.save_pretrained(HERE)
    shutil.copyfile(sys.argv[1], HERE / "tokenizer.json")

    rng = np.random.default_rng(9101)
    cases, expected = [], {}
    model = model.double()
    for name, lengths in {**LENGTHS, **RAGGED}.items():
        rows = [rng.integers(2, config.vocab_size, size).tolist() for size in lengths]  # 1 is the class's padding
        longest = max(lengths)
        ids = [row + [1] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        with torch.no_grad():
            hidden = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
        real = np.array(mask)[:, :, None]
        pooled = (hidden * real).sum(1) / real.sum(1)
        expected[f"{name}/hidden"] = hidden * real
        expected[f"{name}/pooled"] = pooled
        expected[f"{name}/pooled_l2"] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        cases.append({"name": name, "texts": None, "max_length": None, "input_ids": ids, "attention_mask": mask})
    (HERE / "cases.json").write_text(json.dumps({"family": "mpnet", "cases": cases}))
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
