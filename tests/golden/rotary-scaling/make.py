"""Makes expected.npz: what transformers computes in float64 with jina-code's golden weights and scaled RoPE.

python make.py     (with transformers, torch and safetensors; written with transformers 5.24.0)
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

HERE = Path(__file__).parent
MODEL = HERE.parent / "jina-code" / "model"
SCALINGS = json.loads((HERE / "scalings.json").read_text())
LENGTHS = (1, 40, 64, 65, 200)


def main() -> None:
    """One text at a time, so that dynamic scaling goes by its own length."""
    config = json.loads((MODEL / "config.json").read_text())
    weights = {name.removeprefix("model."): values for name, values in load_file(MODEL / "model.safetensors").items()}
    rng = np.random.default_rng(9103)
    expected = {}
    for size in LENGTHS:
        expected[f"ids/{size}"] = rng.integers(0, config["vocab_size"], size)
    for name, scaling in SCALINGS.items():
        own = Qwen2Config(**{**config, "max_position_embeddings": 64, "rope_scaling": scaling})
        model = Qwen2Model(own).eval()
        model.load_state_dict(weights)
        frequencies = model.rotary_emb.inv_freq.float(), model.rotary_emb.attention_scaling
        model = model.double()
        model.rotary_emb.inv_freq = frequencies[0]
        model.rotary_emb.original_inv_freq = frequencies[0]
        for size in LENGTHS:
            ids = torch.tensor(expected[f"ids/{size}"])[None]
            with torch.no_grad():
                hidden = model(ids).last_hidden_state[0, -1].numpy()
            expected[f"emb/{name}/{size}"] = hidden / np.linalg.norm(hidden)
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
