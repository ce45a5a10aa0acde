"""`longspan search` with late-interaction models: token vectors in a MultiVectorStore, found by MaxSim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.stream import Given, encode_with
from longspan.cli.files.stage import Vectors
from longspan.cli.search.plan import BuildRequest, Encoding

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from longspan.documents.folder import SearchIndex
    from longspan.encoder import Encoder
    from longspan.multi_vector import MultiVectorEncoder

    AnyEncoder = Encoder | MultiVectorEncoder

TokenRows = list[np.ndarray]  # of each text (tokens, dim) f32


def is_late_interaction(encoder: AnyEncoder) -> TypeIs[MultiVectorEncoder]:
    """Whether it makes token vectors."""
    from longspan.multi_vector import MultiVectorEncoder

    return isinstance(encoder, MultiVectorEncoder)


def has_tokens(index: SearchIndex) -> bool:
    """Whether it holds token vectors."""
    from longspan.search import MultiVectorStore

    return isinstance(index, MultiVectorStore)


def check_kind(name: str, index: SearchIndex, makes_tokens: bool) -> None:
    """Raises: CommandError, the index does not hold what the model makes."""
    if has_tokens(index) != makes_tokens:
        held, made = ("one vector a text", "token vectors") if makes_tokens else ("token vectors", "one vector a text")
        raise CommandError(f"{name} holds {held}, but these are {made}; take the model it was built with")


def encode_either(encoder: AnyEncoder, options: Encoding) -> Callable[[Sequence[Given]], Vectors | TokenRows]:
    """Texts and images to what the encoder makes of them."""
    if is_late_interaction(encoder):
        return _encode_tokens_with(encoder, options)
    return encode_with(encoder, options)


def _encode_tokens_with(encoder: MultiVectorEncoder, options: Encoding) -> Callable[[Sequence[Given]], TokenRows]:
    """Texts and images to token vectors, by the encoder's method for the role and with the other options."""
    method = encoder.encode_queries if options.role == "query" else encoder.encode_documents

    def encode(texts: Sequence[Given]) -> TokenRows:
        vectors = method(
            texts,
            task=options.task,
            dim=options.truncate_dim,
            max_length=options.max_length,
            batch_tokens=options.batch_tokens,
            show_progress_bar=False,
            on_truncate=options.on_truncate,
        )
        assert isinstance(vectors, list), "a list of texts gives a list"
        return vectors

    return encode


def check_prompts(prompt_name: str | None, prompt: str | None) -> None:
    """Raises: CommandError, a prompt is asked for."""
    if prompt_name is not None or prompt is not None:
        raise CommandError("--prompt and --prompt-name are for models of one vector a text")


def check_build(request: BuildRequest) -> None:
    """Raises: CommandError, an option says nothing about token vectors."""
    check_prompts(request.prompt_name, request.prompt)
    if request.center == "yes" or request.query_sample:
        raise CommandError("--center and --query-sample are for models of one vector a text")
