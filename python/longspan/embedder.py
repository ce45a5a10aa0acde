"""`Encoder`: a checkpoint, ready to embed texts. It joins the stages; each lies in a file of its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypedDict

import numpy as np

from longspan import _core, hub
from longspan.checkpoint import Checkpoint
from longspan.errors import CheckpointError, TruncationWarning
from longspan.head import Dense
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.spec import ModelSpec
from longspan.models.weights import load_weights
from longspan.pipeline import Finish, Pipeline
from longspan.pooling import pooling_mode
from longspan.progress import progress_bar
from longspan.prompts import document_prompt_name, query_prompt_name, resolve_prompt
from longspan.quantize import Precision, quantize_embeddings
from longspan.similarity import SIMILARITIES, similarity
from longspan.tokenizer import TextTokenizer, TokenizedText, checked_texts

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

OutputValue = Literal["sentence_embedding", "token_embeddings"]
OnTruncate = Literal["warn", "error", "ignore"]

BASE_TASK: Final = "base"  # no adapter
# Texts that are tokenized together: it bounds memory, and gives the packing enough texts of like length.
TEXTS_PER_BLOCK: Final = 4096


class EncodeOptions(TypedDict, total=False):
    """The options that `encode`, `encode_query` and `encode_document` share; `Encoder.encode` says what they mean."""

    task: str | Sequence[str | None] | None
    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    normalize_embeddings: bool | None
    truncate_dim: int | None
    precision: Precision
    output_value: OutputValue
    max_length: int | None
    on_truncate: OnTruncate
    convert_to_tensor: bool


class Encoder:
    """A text-embedding model.

    Args:
        name_or_path: a folder or a Hugging Face id such as "sentence-transformers/all-MiniLM-L6-v2".
        device: "cpu", or None for it.
        dtype: what products are computed in: "float32", or "auto" for it.
        revision: branch, tag or commit of a Hugging Face id.
        token: access token for gated models; None uses the one that `hf auth login` stored.
        cache_dir: where downloads are kept; None for Hugging Face's own place.
        local_files_only: never reach for the network.
        num_threads: threads that each call uses; None for all that the machine grants.
    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged or not supported;
        ValueError, an argument breaks a line above.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str | None = None,
        dtype: str = "auto",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        num_threads: int | None = None,
    ) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"Encoder: device must be None or 'cpu', got {device!r}; this version has no GPU engine")
        if dtype not in ("auto", "float32"):
            raise ValueError(f"Encoder: dtype must be 'auto' or 'float32', got {dtype!r}")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"Encoder: num_threads must be 1 or more, got {num_threads}")
        folder = hub.resolve(
            name_or_path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
        checkpoint = Checkpoint.open(folder)
        spec, names = detect_family(checkpoint).describe(checkpoint)
        self.name: Final = os.fspath(name_or_path)
        self.spec: Final[ModelSpec] = spec
        self.num_threads: Final = num_threads
        self.prompts: Final = dict(checkpoint.prompts)
        self.tasks: Final[tuple[str, ...]] = ()
        longest = checkpoint.max_seq_length or spec.default_max_tokens or spec.max_tokens
        self.max_length: Final = min(longest, spec.max_tokens)
        self.pooling: Final = pooling_mode(checkpoint, spec.default_pooling)
        self.normalizes: Final = checkpoint.has_normalize or (checkpoint.pooling is None and spec.default_normalize)
        self.similarity_fn_name: Final = checkpoint.similarity_fn_name or "cosine"
        if self.similarity_fn_name not in SIMILARITIES:
            known = ", ".join(SIMILARITIES)
            raise CheckpointError(
                f"{folder}: similarity_fn_name must be one of {known}, got {self.similarity_fn_name!r}"
            )
        self._pools_prompt = checkpoint.pooling is None or checkpoint.pooling.get_bool("include_prompt", True)
        self._default_prompt_name = checkpoint.default_prompt_name
        self.tokenizer = TextTokenizer.load(checkpoint, max_length=self.max_length, vocab_size=spec.vocab_size)
        self._pipeline = Pipeline(
            TextEncoder(spec, load_weights(checkpoint, spec, names)),
            tuple(Dense.load(module) for module in checkpoint.dense),
            self.pooling,
            num_threads,
        )
        checkpoint.close()

    @property
    def dim(self) -> int:
        """Values of an embedding, before any truncation."""
        return self._pipeline.dim

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: str | Sequence[str | None] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool | None = None,
        truncate_dim: int | None = None,
        precision: Precision = "float32",
        output_value: OutputValue = "sentence_embedding",
        max_length: int | None = None,
        on_truncate: OnTruncate = "warn",
        convert_to_tensor: bool = False,
    ) -> np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]:
        """Embed texts. The result for a text does not depend on the others, bit for bit.

        Args:
            texts: any number of str, or one.
            task: None or "base"; models with adapters have more, see `tasks`.
            prompt_name: one of `prompts`, to go before every text; None for the model's default prompt, if it has one.
            prompt: the prompt itself; wins over `prompt_name`.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most (a longer text runs alone); None for a number that runs well.
            show_progress_bar: None shows one on a terminal, if the work takes more than a second.
            normalize_embeddings: bring vectors to unit length, after truncation; None does what the model's files say,
                and leaves token vectors as they are.
            truncate_dim: keep this many leading values.
            precision: "float32", "float16", "int8", "uint8", "binary" or "ubinary", as `quantize_embeddings`.
            output_value: "sentence_embedding", or "token_embeddings": the last hidden state of every token.
            max_length: tokens of a text at most, special tokens included; None for the model's own limit.
            on_truncate: what to do when a text is cut: "warn" (TruncationWarning), "error" or "ignore".
            convert_to_tensor: return torch tensors.
        Returns: (n, dim) f32, or in the precision asked for; (dim,) for one str. With token_embeddings a list of
            (tokens, dim) f32, or one such array for one str.
        Raises: TypeError or ValueError, an argument breaks a line above, or `on_truncate="error"` and a text is cut.
        """
        self._check_task(task)
        alone = isinstance(texts, str)
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        before = resolve_prompt(
            self.prompts, prompt_name=prompt_name, prompt=prompt, default_prompt_name=self._default_prompt_name
        )
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        if wanted.tokens and precision != "float32":
            raise ValueError(f"encode: precision must be 'float32' for token_embeddings, got {precision!r}")
        _check_choice("on_truncate", on_truncate, ("warn", "error", "ignore"))
        limit = self._checked_max_length(max_length)

        rows: list[np.ndarray] = []
        num_cut = num_lost = 0
        with progress_bar(len(items), "text", show_progress_bar) as progress:
            for start in range(0, len(items), TEXTS_PER_BLOCK):
                block = self.tokenizer.encode(items[start : start + TEXTS_PER_BLOCK], prompt=before, max_length=limit)
                for place, text in enumerate(block, start):
                    if text.truncated and on_truncate == "error":
                        raise ValueError(f"encode: texts[{place}] has {text.truncated} tokens more than {limit}")
                    num_cut += text.truncated > 0
                    num_lost += text.truncated
                rows += self._pipeline.run(
                    [text.ids for text in block],
                    wanted,
                    pooled=self._pooled_tokens(block, before),
                    batch_size=batch_size,
                    batch_tokens=batch_tokens,
                    progress=progress,
                )
        if num_cut and on_truncate == "warn":
            warnings.warn(_truncation_text(num_cut, num_lost, len(items), limit), TruncationWarning, stacklevel=2)
        return self._present(rows, wanted, precision, alone=alone, convert_to_tensor=convert_to_tensor)

    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Unpack[EncodeOptions],
    ) -> np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]:
        """`encode` for queries: with the prompt named "query", if the model has one. Same arguments and result."""
        if prompt is None and prompt_name is None:
            prompt_name = query_prompt_name(self.prompts)
            prompt = "" if prompt_name is None else None  # the default prompt is for `encode`
        return self.encode(texts, prompt_name=prompt_name, prompt=prompt, **options)

    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        **options: Unpack[EncodeOptions],
    ) -> np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]:
        """`encode` for documents: with the prompt "document", "passage" or "corpus", if the model has one of them."""
        if prompt is None and prompt_name is None:
            prompt_name = document_prompt_name(self.prompts)
            prompt = "" if prompt_name is None else None
        return self.encode(texts, prompt_name=prompt_name, prompt=prompt, **options)

    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: str | Sequence[str | None] | None = None,
        output_value: OutputValue = "sentence_embedding",
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Embed lists of token ids as they are: no prompt, no special tokens, nothing cut.

        Args:
            ids: for each text its ids, at least one, each from 0 to the vocabulary's size, at most `spec.max_tokens`.
        Returns: (n, dim) f32, or with token_embeddings a list of (tokens, dim) f32.
        Raises: ValueError, naming the text, if one breaks the line above.
        """
        self._check_task(task)
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        rows = self._pipeline.run([self._checked_ids(place, text) for place, text in enumerate(ids)], wanted)
        return rows if wanted.tokens else self._stack(rows, wanted)

    def tokenize(self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None) -> list[TokenizedText]:
        """Ids and character offsets of each text, as `encode` would use them."""
        return self.tokenizer.encode(texts, prompt=prompt, max_length=self._checked_max_length(max_length))

    def similarity(self, a: object, b: object) -> np.ndarray:
        """(len(a), len(b)) f32 by the model's own measure, cosine unless its files say otherwise; higher is closer."""
        return similarity(a, b, self.similarity_fn_name)

    def explain(self) -> str:
        """Which kernels run, in one line."""
        threads = self.num_threads or _core.num_threads()
        return f"cpu kernels ({_core.isa()}), float32, {threads} thread{'s' if threads > 1 else ''}"

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, {self.spec.family}, dim={self.dim}, max_length={self.max_length})"

    def _present(
        self, rows: list[np.ndarray], wanted: Finish, precision: Precision, *, alone: bool, convert_to_tensor: bool
    ) -> np.ndarray | list[np.ndarray] | torch.Tensor | list[torch.Tensor]:
        """The rows in the form that the caller asked for."""
        result: np.ndarray | list[np.ndarray] = rows
        if not wanted.tokens:
            result = self._stack(rows, wanted)
            if precision != "float32":
                result = quantize_embeddings(result, precision)
        if convert_to_tensor:
            tensors = _to_torch(result)
            return tensors[0] if alone else tensors
        return result[0] if alone else result

    def _stack(self, rows: list[np.ndarray], wanted: Finish) -> np.ndarray:
        return np.stack(rows) if rows else np.empty((0, wanted.truncate_dim or self.dim), np.float32)

    def _finish(self, output_value: OutputValue, truncate_dim: int | None, normalize: bool | None) -> Finish:
        _check_choice("output_value", output_value, ("sentence_embedding", "token_embeddings"))
        tokens = output_value == "token_embeddings"
        dim = self._pipeline.token_dim if tokens else self.dim
        if truncate_dim is not None and not 1 <= truncate_dim <= dim:
            raise ValueError(f"encode: truncate_dim must be from 1 to {dim}, got {truncate_dim}")
        if normalize is None:
            normalize = self.normalizes and not tokens
        return Finish(tokens, truncate_dim, normalize)

    def _pooled_tokens(self, block: list[TokenizedText], prompt: str) -> list[np.ndarray] | None:
        """Which tokens a mean counts: without the prompt and what stands before it, if the pooling says so."""
        if self._pools_prompt or not prompt:
            return None
        return [_after_prompt(text) for text in block]

    def _check_task(self, task: str | Sequence[str | None] | None) -> None:
        for name in [task] if task is None or isinstance(task, str) else task:
            if name not in (None, BASE_TASK, *self.tasks):
                known = ", ".join(map(repr, (*self.tasks, BASE_TASK)))
                raise ValueError(f"encode: task must be None or one of {known}, got {name!r}")

    def _checked_max_length(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        if not 1 <= max_length <= self.spec.max_tokens:
            raise ValueError(f"encode: max_length must be from 1 to {self.spec.max_tokens}, got {max_length}")
        return max_length

    def _checked_ids(self, place: int, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        array = np.asarray(ids)
        if array.ndim != 1 or not 1 <= len(array) <= self.spec.max_tokens or array.dtype.kind not in "iu":
            raise ValueError(
                f"encode_ids: ids[{place}] must be from 1 to {self.spec.max_tokens} integers, got shape {array.shape} "
                f"of {array.dtype}"
            )
        if array.min() < 0 or array.max() >= self.spec.vocab_size:
            wrong = array[(array < 0) | (array >= self.spec.vocab_size)][0]
            raise ValueError(f"encode_ids: ids[{place}] has {wrong}; ids go from 0 to {self.spec.vocab_size - 1}")
        return array.astype(np.int32)


def _after_prompt(text: TokenizedText) -> np.ndarray:
    """(tokens,) bool: what follows the prompt's last token."""
    after = np.ones(len(text.ids), bool)
    of_prompt = np.flatnonzero(~text.special_mask)[: text.num_prompt_tokens]
    after[: of_prompt[-1] + 1 if len(of_prompt) else 0] = False
    return after


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"encode: {name} must be one of {', '.join(choices)}, got {value!r}")


def _truncation_text(num_cut: int, num_lost: int, num_texts: int, limit: int) -> str:
    texts = f"{num_cut} of {num_texts} texts" if num_texts > 1 else "the text"
    return f"encode: {texts} had more than {limit} tokens; {num_lost} tokens were left out"


def _to_torch(result: np.ndarray | list[np.ndarray]) -> torch.Tensor | list[torch.Tensor]:
    try:
        import torch
    except ImportError as error:
        raise ImportError("encode: convert_to_tensor=True needs torch, which is not installed") from error
    if isinstance(result, list):
        return [torch.from_numpy(array) for array in result]
    return torch.from_numpy(result)
