"""`Encoder`: a checkpoint, ready to embed texts. It joins the stages; each lies in a file of its own."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan import hub
from longspan.ahead import ahead
from longspan.checkpoint import Checkpoint
from longspan.document_chunks import ChunkEncoder, ChunkMode, ChunkRule, ChunkSettings, spans_by_document
from longspan.errors import CheckpointError, TruncationWarning
from longspan.head import Dense
from longspan.late_chunking import Chunks, Strategy, default_overlap
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines import engine_for
from longspan.models.peft import read_peft
from longspan.models.spec import ModelSpec
from longspan.models.weights import add_adapters, load_weights, read_adapters
from longspan.options import EncodeOptions, OnTruncate, OutputValue, check_choice, checked_int
from longspan.peer_names import takes_peer_names
from longspan.pipeline import Finish, Pipeline
from longspan.pooling import after_prompt, pooling_mode
from longspan.progress import progress_bar
from longspan.prompts import resolve_prompt
from longspan.quantize import Precision
from longspan.results import Result, present, stack, truncation_text
from longspan.similarity import SIMILARITIES, similarity
from longspan.tasks import Role, Task, adapter_numbers, check_new_task, role_prompts, role_task, spread, text_prompts
from longspan.tokenizer import TextTokenizer, TokenizedText, checked_texts

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Texts that are tokenized together: it bounds memory, and gives the packing enough texts of like length.
TEXTS_PER_BLOCK: Final = 4096


class Encoder:
    """A text-embedding model.

    Args:
        name_or_path: a folder or a Hugging Face id such as "sentence-transformers/all-MiniLM-L6-v2".
        device: "cpu", or None for it; "cuda" or "cuda:N" for a GPU, which needs torch and triton.
        dtype: what products are computed in. On the CPU, where sums and all between products are float32: "float32", or
            "auto" for it; "bfloat16", weights and the rows that meet them; or "int8", weights by output and rows by
            token, quantised here, with attention in bfloat16. On a GPU the type of weights and activations: "bfloat16",
            or "auto" for it; "float16" or "float32".
        revision: branch, tag or commit of a Hugging Face id.
        token: access token for gated models; None uses the one that `hf auth login` stored.
        cache_dir: where downloads are kept; None for Hugging Face's own place.
        local_files_only: never reach for the network.
        num_threads: threads that each call uses; None for all that the machine grants.
        cuda_graphs: on a GPU, capture what small batches launch when a size first comes, and launch it as a whole from
            then on: a short query takes a fraction of the time. False saves the memory of the captured passes.
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
        cuda_graphs: bool = True,
    ) -> None:
        engine = engine_for("Encoder", device, dtype, num_threads, cuda_graphs)
        folder = hub.resolve(
            name_or_path, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only
        )
        checkpoint = Checkpoint.open(folder)
        spec, names = detect_family(checkpoint).describe(checkpoint)
        self.name: Final = os.fspath(name_or_path)
        self.folder: Final = folder
        self.spec: Final[ModelSpec] = spec
        self.device: Final = "cpu" if device is None else str(device)
        self.dtype: Final = engine.dtype
        self.num_threads: Final = num_threads
        self.prompts: Final = dict(checkpoint.prompts or spec.default_prompts)
        longest = checkpoint.max_seq_length or spec.max_tokens
        if longest >= spec.max_tokens:  # no limit of their own
            longest = spec.default_max_tokens or spec.max_tokens
        self.max_length: Final = min(longest, spec.max_tokens)
        self.pooling: Final = pooling_mode(checkpoint, spec.default_pooling)
        self.normalizes: Final = checkpoint.has_normalize or (checkpoint.pooling is None and spec.default_normalize)
        self.similarity_fn_name: Final = checkpoint.similarity_fn_name or "cosine"
        if self.similarity_fn_name not in SIMILARITIES:
            known = ", ".join(SIMILARITIES)
            raise CheckpointError(
                f"{folder}: similarity_fn_name must be one of {known}, got {self.similarity_fn_name!r}"
            )
        self.pools_prompt: Final = checkpoint.pooling is None or checkpoint.pooling.get_bool("include_prompt", True)
        self.default_prompt_name: Final = (checkpoint if checkpoint.prompts else spec).default_prompt_name
        self.tokenizer = TextTokenizer.load(checkpoint, max_length=self.max_length, vocab_size=spec.vocab_size)
        self._weight_map = names
        self._loading_adapter = threading.Lock()
        weights = load_weights(checkpoint, spec, names, engine)
        self._encoder = TextEncoder(spec, add_adapters(weights, spec, names, read_adapters(names), engine), engine)
        self._pipeline = Pipeline(
            self._encoder,
            tuple(Dense.load(module, engine) for module in checkpoint.dense),
            self.pooling,
            num_threads,
        )
        checkpoint.close()

    @property
    def dim(self) -> int:
        """Values of an embedding, before any truncation."""
        return self._pipeline.dim

    @property
    def tasks(self) -> tuple[str, ...]:
        """The adapters that are loaded, by name."""
        return self._encoder.weights.tasks

    def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load one more adapter, as the PEFT library saves them; then `task=name` runs it, alone or beside others.

        Args:
            name: a new name for `tasks`.
            path: the folder with adapter_config.json and adapter_model.safetensors: plain LoRA of linear layers, of
                this model's, with or without the wrappers that it was trained in.
        Raises: ValueError, the name is taken; FileNotFoundError, no such folder; CheckpointError, the adapter is
            damaged, not supported or of another model. Nothing has changed then.
        """
        with self._loading_adapter:
            check_new_task(name, self.tasks)
            adapter = read_peft(Path(path).expanduser(), name)
            self._encoder.weights = add_adapters(
                self._encoder.weights, self.spec, self._weight_map, [adapter], self._encoder.engine
            )

    @takes_peer_names
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        task: Task = None,
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
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
    ) -> Result:
        """Embed texts. The result for a text does not depend on the others, on the CPU bit for bit.

        Arguments of sentence-transformers' `encode` that are not listed here are taken as well: see `takes_peer_names`.

        Args:
            texts: any number of str, or one.
            task: one of `tasks`, the adapter to run; "base" for none; None for what the model does by default, which
                for some is an error; or a list, one a text: texts of different tasks run in one pass.
            prompt_name: one of `prompts`, to go before every text; None for the model's default prompt, if it has one.
            prompt: the prompt itself, or a list, one a text; wins over `prompt_name`.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most (a longer text runs alone); None for a number that runs well.
            show_progress_bar: None shows one on a terminal, if the work takes more than a second.
            normalize_embeddings: bring vectors to unit length, after truncation; None does what the model's files say,
                and leaves token vectors as they are.
            truncate_dim: keep this many leading values; one of `spec.matryoshka_dims`, where the model lists any.
            precision: "float32", "float16", "int8", "uint8", "binary" or "ubinary", as `quantize_embeddings`.
            output_value: "sentence_embedding", or "token_embeddings": the last hidden state of every token.
            max_length: tokens of a text at most, special tokens included; None for the model's own limit.
            on_truncate: what to do when a text is cut: "warn" (TruncationWarning), "error" or "ignore".
            convert_to_tensor: return torch tensors.
        Returns: (n, dim) f32, or in the precision asked for; (dim,) for one str. With token_embeddings a list of
            (tokens, dim) f32, or one such array for one str.
        Raises: TypeError or ValueError, an argument breaks a line above, or `on_truncate="error"` and a text is cut.
        """
        alone = isinstance(texts, str)
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        tasks = spread(task, len(items))
        lora_ids = self._adapters(task, len(items))
        before = text_prompts(
            tasks,
            self.prompts,
            self.spec.tasks,
            prompt_name=prompt_name,
            prompt=prompt,
            default_prompt_name=self.default_prompt_name,
        )
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        if wanted.tokens and precision != "float32":
            raise ValueError(f"encode: precision must be 'float32' for token_embeddings, got {precision!r}")
        check_choice("encode", "on_truncate", on_truncate, ("warn", "error", "ignore"))
        limit = self._checked_max_length(max_length)

        rows: list[np.ndarray] = []
        num_cut = num_lost = 0
        with progress_bar(len(items), "text", show_progress_bar) as progress:
            for part, block in self._tokenized(items, before, limit):
                for place, text in enumerate(block, part.start):
                    if text.truncated and on_truncate == "error":
                        raise ValueError(f"encode: texts[{place}] has {text.truncated} tokens more than {limit}")
                    num_cut += text.truncated > 0
                    num_lost += text.truncated
                rows += self._pipeline.run(
                    [text.ids for text in block],
                    wanted,
                    pooled=self._pooled_tokens(block, before[part]),
                    batch_size=batch_size,
                    batch_tokens=batch_tokens,
                    lora_ids=lora_ids[part],
                    progress=progress,
                )
        if num_cut and on_truncate == "warn":
            warnings.warn(truncation_text(num_cut, num_lost, len(items), limit), TruncationWarning, stacklevel=3)
        dim = None if wanted.tokens else self._width(wanted)
        return present(rows, dim=dim, precision=precision, alone=alone, convert_to_tensor=convert_to_tensor)

    @takes_peer_names
    def encode_query(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Result:
        """`encode` for queries: with the model's task for them, if none is said, and the task's own prompt, or else the
        one named "query", if the model has them. Same arguments and result."""
        return self._encode_as("query", texts, prompt_name, prompt, options)

    @takes_peer_names
    def encode_document(
        self,
        texts: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Result:
        """`encode` for documents: as `encode_query`, where the prompt is "document", "passage" or "corpus"."""
        return self._encode_as("document", texts, prompt_name, prompt, options)

    def _encode_as(
        self,
        role: Role,
        texts: str | Sequence[str],
        prompt_name: str | None,
        prompt: str | Sequence[str] | None,
        options: EncodeOptions,
    ) -> Result:
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        task = options["task"] = role_task(options.get("task"), role, self.spec.tasks)
        if prompt is None and prompt_name is None:
            prompt = role_prompts(spread(task, len(items)), role, self.prompts, self.spec.tasks)
        return self.encode(texts, prompt_name=prompt_name, prompt=prompt, **options)

    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        output_value: OutputValue = "sentence_embedding",
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        pooled: Sequence[np.ndarray] | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Embed lists of token ids as they are: no prompt, no special tokens, nothing cut.

        Args:
            ids: for each text its ids, at least one, each from 0 to the vocabulary's size, at most `spec.max_tokens`.
            task: as `encode`.
            pooled: for each text the (tokens,) bool of the tokens that a mean counts; None for all.
        Returns: (n, dim) f32, or with token_embeddings a list of (tokens, dim) f32.
        Raises: ValueError, naming the text, if one breaks the line above.
        """
        lora_ids = self._adapters(task, len(ids))
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        checked = [self._checked_ids(place, text) for place, text in enumerate(ids)]
        if pooled is not None and [*map(len, pooled)] != [*map(len, checked)]:
            raise ValueError("encode_ids: pooled must have one bool for each token of each text")
        rows = self._pipeline.run(checked, wanted, pooled=pooled, lora_ids=lora_ids)
        return rows if wanted.tokens else stack(rows, self._width(wanted))

    def tokenize(self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None) -> list[TokenizedText]:
        """Ids and character offsets of each text, as `encode` would use them."""
        return self.tokenizer.encode(texts, prompt=prompt, max_length=self._checked_max_length(max_length))

    def encode_chunks(
        self,
        documents: str | Sequence[str],
        *,
        chunks: ChunkRule = "sentence",
        chunk_tokens: int | None = 256,
        chunk_overlap: int = 0,
        window: int | None = None,
        overlap: int | None = None,
        task: str | None = None,
        mode: ChunkMode = "late",
        strategy: Strategy = "context",
        special_tokens: bool = True,
        prompt_name: str | None = None,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        max_length: int | None = None,
        drop_empty: bool = False,
        batch_tokens: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> Chunks | list[Chunks]:
        """Cut documents into chunks and embed each chunk in the light of its document: late chunking.

        The encoder runs over the whole document, and a chunk's vector is the mean of its tokens' vectors. Whether that
        beats embedding each chunk by itself (mode="naive") depends on the model and the data, so compare; see
        `longspan.late_chunking` for models that do not pool by the mean.

        Args:
            documents: any number of str of any length, or one.
            chunks: "sentence" or "paragraph", joined up to `chunk_tokens`; "tokens", `chunk_tokens` each; a function
                from a text to (start, end) character spans; or the spans, for each document a list.
            chunk_tokens: tokens of a chunk at most; None leaves each sentence or paragraph as it is.
            chunk_overlap: how many of its tokens a chunk of "tokens" shares with the one before.
            window: tokens that the encoder sees at once, special ones included; None for the model's own limit.
            overlap: tokens that neighbouring windows of a longer document share; None for 512, or a quarter of the
                window where that is less.
            task: as `encode_document`, one for all documents.
            mode: "late"; "naive", each chunk's text by itself; or "whole", one vector a document, as `encode` gives it.
            strategy: from which of its windows a token's vector comes: "context", where it sees most on both sides;
                "earlier"; or "reference", which cuts windows as the authors' code does.
            special_tokens: count the special tokens and the prompt to the first and the last chunk, as published.
            prompt_name: one of `prompts`; None for that of `encode_document`.
            prompt: the prompt itself; wins over `prompt_name`.
            truncate_dim: as `encode`.
            normalize_embeddings: as `encode`.
            max_length: tokens of a document at most, special ones included; what lies behind is in no chunk.
            drop_empty: leave out chunks of yours that hold no token, instead of refusing them.
            batch_tokens: as `encode`.
            show_progress_bar: as `encode`.
        Returns: for each document its `Chunks`; for one str one. The units' chunks cover their document without a gap;
            a document without a token has none.
        Raises: TypeError or ValueError, an argument breaks a line above.
        Source: Late Chunking, arXiv:2409.04701.
        """
        tasks = spread(role_task(task, "document", self.spec.tasks), 1)
        [adapter] = self._adapters(tasks, 1)
        alone = isinstance(documents, str)
        items = checked_texts("documents", [documents] if isinstance(documents, str) else documents)
        if prompt is None and prompt_name is None:
            [before] = role_prompts(tasks, "document", self.prompts, self.spec.tasks)
        else:
            before = resolve_prompt(self.prompts, prompt_name=prompt_name, prompt=prompt, default_prompt_name=None)
        limit = self._checked_max_length(window, "window")
        wanted = self._finish("sentence_embedding", truncate_dim, normalize_embeddings)
        settings = ChunkSettings(
            chunks=chunks,
            chunk_tokens=chunk_tokens,
            chunk_overlap=chunk_overlap,
            window=limit,
            overlap=default_overlap(limit) if overlap is None else overlap,
            mode=mode,
            strategy=strategy,
            special_tokens=special_tokens,
            max_length=max_length,
            drop_empty=drop_empty,
        )

        def encode(texts: list[str]) -> np.ndarray:
            options: EncodeOptions = {"task": tasks[0], "batch_tokens": batch_tokens, "max_length": limit}
            options |= {"truncate_dim": truncate_dim, "normalize_embeddings": normalize_embeddings}
            options |= {"show_progress_bar": False}
            return np.asarray(self.encode(texts, prompt=before, **options))

        chunker = ChunkEncoder(
            self.tokenizer,
            self._pipeline.for_adapter(adapter),
            settings,
            wanted,
            before,
            self.pools_prompt,
            encode,
            batch_tokens,
        )
        spans = spans_by_document(chunks, items, alone=alone)
        with progress_bar(sum(map(len, items)), "character", show_progress_bar) as progress:
            results = list(chunker.run(items, spans, progress))
        return results[0] if alone else results

    def similarity(self, a: object, b: object) -> np.ndarray:
        """(len(a), len(b)) f32 by the model's own measure, cosine unless its files say otherwise; higher is closer."""
        return similarity(a, b, self.similarity_fn_name)

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipeline.explain()

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, {self.spec.family}, dim={self.dim}, max_length={self.max_length})"

    def _width(self, wanted: Finish) -> int:
        """Values of a text's finished vector."""
        return wanted.truncate_dim or self.dim

    def _finish(self, output_value: OutputValue, truncate_dim: int | None, normalize: bool | None) -> Finish:
        check_choice("encode", "output_value", output_value, ("sentence_embedding", "token_embeddings"))
        tokens = output_value == "token_embeddings"
        dim = self._pipeline.token_dim if tokens else self.dim
        if truncate_dim is not None and not 1 <= truncate_dim <= dim:
            raise ValueError(f"encode: truncate_dim must be from 1 to {dim}, got {truncate_dim}")
        listed = () if tokens or self._pipeline.dim != self.spec.hidden_size else self.spec.matryoshka_dims
        if truncate_dim is not None and listed and truncate_dim not in listed:
            raise ValueError(f"encode: truncate_dim must be one of {', '.join(map(str, listed))}, got {truncate_dim}")
        if normalize is None:
            normalize = self.normalizes and not tokens
        return Finish(tokens, truncate_dim, normalize)

    def _tokenized(
        self, texts: list[str], prompts: list[str], limit: int
    ) -> Iterator[tuple[slice, list[TokenizedText]]]:
        """Blocks of texts, each tokenized while the one before is computed; without texts one, to check the options."""
        parts = [slice(start, start + TEXTS_PER_BLOCK) for start in range(0, max(1, len(texts)), TEXTS_PER_BLOCK)]
        blocks = ((part, self.tokenizer.encode(texts[part], prompt=prompts[part], max_length=limit)) for part in parts)
        return ahead(blocks) if len(parts) > 1 else blocks

    def _pooled_tokens(self, block: list[TokenizedText], prompts: list[str]) -> list[np.ndarray] | None:
        """Which tokens a mean counts: without the prompt and what stands before it, if the pooling says so."""
        if self.pools_prompt or not any(prompts):
            return None
        return [after_prompt(text.special_mask, text.num_prompt_tokens) for text in block]

    def _adapters(self, task: Task, num_texts: int) -> list[int]:
        """The adapter of every text."""
        return adapter_numbers(task, num_texts, self.tasks, self.spec.tasks)

    def _checked_max_length(self, max_length: int | None, name: str = "max_length") -> int:
        if max_length is None:
            return self.max_length
        limit = checked_int("encode", name, max_length)
        least = self.tokenizer.num_special_tokens + 1
        if not least <= limit <= self.spec.max_tokens:
            raise ValueError(f"encode: {name} must be from {least} to {self.spec.max_tokens}, got {limit}")
        return limit

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
