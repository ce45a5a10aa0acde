"""Smaller vectors: what truncation and one bit a dimension cost, measured on your own texts.

A float32 vector of 384 dimensions takes 1536 bytes; its signs take 48.
"""

import numpy as np

from longspan import Encoder, quantize_embeddings

SENTENCES = [
    f"{who} {what} {where}."
    for who in ("The cat", "A dog", "My neighbour")
    for what in ("sleeps", "eats", "waits", "sings")
    for where in ("at home", "in the garden", "by the river")
]

encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
full = encoder.encode(SENTENCES, normalize_embeddings=True)
nearest = (full @ full.T).argsort(axis=1)[:, ::-1][:, 1:6]  # the five nearest, itself left out


def kept(scores: np.ndarray) -> float:
    """The share of the five nearest that are still among the five best."""
    best = scores.argsort(axis=1, kind="stable")[:, ::-1][:, 1:6]
    return float(np.mean([len(set(a) & set(b)) / 5 for a, b in zip(nearest, best)]))


for dim in (encoder.dim, encoder.dim // 2, encoder.dim // 4):
    short = encoder.encode(SENTENCES, truncate_dim=dim, normalize_embeddings=True)
    codes = quantize_embeddings(short, "ubinary")
    differing = np.unpackbits(codes[:, None] ^ codes[None], axis=-1).sum(axis=-1)
    print(f"{dim:4} dimensions: float32 {kept(short @ short.T):.2f}, one bit {kept(-differing.astype(float)):.2f}")
