"""What tokenizer_config.json says of a tokenizer beside its tokenizer.json."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import ByteLevel

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError

Side: TypeAlias = Literal["left", "right"]
SIDES: Final[tuple[Side, ...]] = get_args(Side)

# With these classes transformers takes tokenizer.json as it stands; the others are rebuilt from tokenizer_config.json.
VERBATIM_CLASSES: Final = frozenset({"PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"})


def apply_config(tokenizer: Tokenizer, config: JsonObject) -> None:
    """Let it override tokenizer.json in what transformers' named classes take from it. BERT's and MPNet's make their
    normalizer of it alone: an absent key is the class's default, whatever tokenizer.json says."""
    if config.get_str("tokenizer_class", "") in VERBATIM_CLASSES:
        return
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    if isinstance(normalizer, BertNormalizer):
        normalizer.handle_chinese_chars = config.get_bool("tokenize_chinese_chars", True)
        normalizer.strip_accents = config.get_bool("strip_accents", None)  # None: as lowercase
        normalizer.lowercase = config.get_bool("do_lower_case", True)
        tokenizer.normalizer = normalizer
    if isinstance(pre_tokenizer, ByteLevel):
        pre_tokenizer.add_prefix_space = config.get_bool("add_prefix_space", pre_tokenizer.add_prefix_space)
        tokenizer.pre_tokenizer = pre_tokenizer


def truncation_side_of(config: JsonObject) -> Side:
    """Which end of a text is cut. Raises: CheckpointError, it is neither of the two."""
    said = config.get_str("truncation_side", "right")
    for side in SIDES:
        if side == said:
            return side
    raise CheckpointError(f"{config.source}: 'truncation_side' must be 'left' or 'right', got {said!r}")


def padding_token_of(config: JsonObject) -> str | None:
    """How it spells the padding token, or else the end token; plain, or with its settings."""
    for name in ("pad_token", "eos_token"):
        token = config.get(name)
        spelled = token.get("content") if isinstance(token, dict) else token
        if isinstance(spelled, str):
            return spelled
    return None
