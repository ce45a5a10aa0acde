"""Makes this folder: a tiny DistilBERT with random weights and what transformers computes with it in float64.

python make.py tokenizer.json     (with transformers, torch and safetensors; written with transformers 5.24.0)
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import DistilBertConfig, DistilBertForMaskedLM

LENGTHS = {"ids1": [1], "ids2": [2], "len7": [7], "len63": [63], "len64": [64], "len65": [65], "len512": [512]}
RAGGED = {"ragged": [5, 1, 130, 33]}
HERE = Path(__file__).parent


def main() -> None:
    """Writes config.json, model.safetensors, tokenizer.json, cases.json and expected.npz."""
    torch.manual_seed(9102)
    config = DistilBertConfig(
        vocab_size=912, dim=48, n_layers=2, n_heads=4, hidden_dim=96, architectures=["DistilBertForMaskedLM"]
    )
    whole = DistilBertForMaskedLM(config).eval()
    with torch.no_grad():
        for name, values in whole.named_parameters():
            is_norm = "LayerNorm" in name or "layer_norm" in name
            values.normal_(1.0 if is_norm and name.endswith("weight") else 0.0, 0.5 if is_norm else 0.12)
    whole.save_pretrained(HERE)
    (HERE / "generation_config.json").unlink(missing_ok=True)
    shutil.copyfile(sys.argv[1], HERE / "tokenizer.json")

    rng = np.random.default_rng(9102)
    cases, expected = [], {}
    model = whole.distilbert.double()
    for name, lengths in {**LENGTHS, **RAGGED}.items():
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
    (HERE / "cases.json").write_text(json.dumps({"family": "distilbert", "cases": cases}))
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
