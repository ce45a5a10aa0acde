"""The spelling of special tokens by their part, as a checkpoint's tokenizer files say it."""

from __future__ import annotations

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject


def special_token(checkpoint: Checkpoint, name: str) -> str | None:
    """A token by its part, such as "mask_token": a string, or an object with its content, in either of two files."""
    published = JsonObject.read_optional(checkpoint.model_folder / "special_tokens_map.json")
    for config in (checkpoint.tokenizer_config, published):
        value = config.get(name)
        if value is not None:
            nested = config.get_object(name) if isinstance(value, dict) else None
            return config.get_str(name) if nested is None else nested.get_str("content")
    return None
