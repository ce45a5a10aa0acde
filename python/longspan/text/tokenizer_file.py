"""A tokenizer.json, looked at before and after the library reads it: no file may cost memory or time without bound."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from longspan.errors import CheckpointError

MAX_BYTES: Final = 256_000_000  # the largest that are published have a fifth of it
MAX_GROWTH: Final = 64  # characters that a normalizer may make of one; Unicode's own forms make 18
MAX_SPECIAL_TOKENS: Final = 64  # that a template puts around a text
_CHARSMAP: Final = re.compile(rb'"precompiled_charsmap"\s*:\s*"([A-Za-z0-9+/=]*)"')


def read_tokenizer(path: Path) -> Tokenizer:
    """The library's tokenizer of the file.

    Raises: CheckpointError, the file is missing or damaged, or would make too much of a text or of a few bytes.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, or is not a file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes; a tokenizer may have {MAX_BYTES:,}")
    data = path.read_bytes()
    for encoded in _CHARSMAP.findall(data):
        _check_charsmap(encoded, path)
    with blaming(path):
        tokenizer = Tokenizer.from_buffer(data)
    growth = _growth(tokenizer)
    if growth > MAX_GROWTH:
        raise CheckpointError(
            f"{path}: its normalizer makes up to {growth:,} characters of one; {MAX_GROWTH} are the most that is taken"
        )
    added = tokenizer.num_special_tokens_to_add(False)
    if added > MAX_SPECIAL_TOKENS:
        raise CheckpointError(
            f"{path}: its template adds {added:,} tokens to a text; {MAX_SPECIAL_TOKENS} are the most"
        )
    return tokenizer


@contextmanager
def blaming(source: Path) -> Iterator[None]:
    """Turns what the library throws into a CheckpointError, as texts were checked and the file is at fault; unless the
    machine is: a want of threads or memory is said as that."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library is Rust, and a panic there is no Exception
        said = str(error)
        if re.search(r"thread pool|ThreadPool|spawn|Resource temporarily unavailable", said):
            raise OSError(f"the tokenizer could not start its threads: {said}") from error
        if re.search(r"memory allocation|out of memory|capacity overflow", said):
            raise MemoryError(f"the tokenizer could not have the memory it wanted: {said}") from error
        raise CheckpointError(f"{source} is damaged, or needs a newer `tokenizers`: {error}") from error


def _check_charsmap(encoded: bytes, path: Path) -> None:
    """A map of characters begins with the bytes of its trie, which the library reserves before it looks at them."""
    try:
        head = base64.b64decode(encoded[:8] + b"=" * (-len(encoded[:8]) % 4))
    except ValueError:
        head = b""
    size = int.from_bytes(head[:4], "little")
    if len(head) < 4 or size > len(encoded) * 3 // 4:
        raise CheckpointError(f"{path}: its precompiled map of characters claims {size:,} bytes, and has fewer")


def _growth(tokenizer: Tokenizer) -> int:
    """How many characters the normalizer's replacements may make of one, all in a row."""
    if tokenizer.normalizer is None:
        return 1
    described = json.loads(tokenizer.normalizer.__getstate__())
    growth = 1
    for step in described.get("normalizers", [described]):
        if step.get("type") == "Replace":
            pattern, content = step.get("pattern", {}), step.get("content", "")
            growth *= max(1, len(content) // max(1, len(pattern.get("String", "x"))))
    return growth
