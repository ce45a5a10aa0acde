"""Makes this folder: a tiny T5 v1.1 encoder with random weights and what transformers computes with it in float64.

python make.py tokenizer.json     (with transformers, torch and safetensors; written with transformers 5.24.0)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import T5Config, T5EncoderModel

LENGTHS = {"ids1": [1], "ids2": [2], "len7": [7], "len65": [65], "len300": [300], "ragged": [5, 1, 130, 33]}
HERE = Path(__file__).parent


def main() -> None:
    """Writes config.json, model.safetensors, tokenizer.json, cases.json and expected.npz."""
    torch.manual_seed(9104)
    config = T5Config(
        vocab_size=912, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    model = T5EncoderModel(config).eval()
    with torch.no_grad():
        for name, values in model.named_parameters():
            values.normal_(1.0 if "layer_norm" in name else 0.0, 0.3 if "layer_norm" in name else 0.15)
    model.save_pretrained(HERE)
    (HERE / "generation_config.json").unlink(missing_ok=True)
    shutil.copyfile(sys.argv[1], HERE / "tokenizer.json")
    model = model.double()
    rng = np.random.default_rng(9104)
    cases, expected = [], {}
    for name, lengths in LENGTHS.items():
        rows = [rng.integers(0, config.vocab_size, size).tolist() for size in lengths]
        longest = max(lengths)
        ids = [row + [0] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        with torch.no_grad():
            hidden = model(torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
        real = np.array(mask)[:, :, None]
        pooled = (hidden * real).sum(1) / real.sum(1)
        expected[f"{name}/hidden"] = hidden * real
        expected[f"{name}/pooled"] = pooled
        expected[f"{name}/pooled_l2"] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        cases.append({"name": name, "texts": None, "max_length": None, "input_ids": ids, "attention_mask": mask})
    (HERE / "cases.json").write_text(json.dumps({"family": "t5", "cases": cases}))
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
