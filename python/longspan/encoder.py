"""`Encoder`: a checkpoint, ready to embed texts. It joins the stages; each lies in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.errors import TruncationWarning, warn_caller
from longspan.integers import checked_int
from longspan.late_chunking.document_chunks import (
    ChunkEncoder,
    ChunkMode,
    ChunkOptions,
    ChunkRule,
    ChunkSettings,
    spans_by_document,
)
from longspan.late_chunking.windows import Chunks, Strategy, default_overlap
from longspan.packing.media import MediaRow
from longspan.pipeline.blocks import Block, read_blocks
from longspan.pipeline.cuts import Cuts
from longspan.pipeline.inputs import Input, Item, is_one, read_inputs
from longspan.pipeline.media_options import MediaOptions, checked_media
from longspan.pipeline.options import (
    ON_TRUNCATE,
    AnyOptions,
    EncodeOptions,
    FloatOptions,
    HalfOptions,
    OnTruncate,
    OutputValue,
    PrecisionOptions,
    SignedOptions,
    TensorOptions,
    TokenOptions,
    TokenTensorOptions,
    UnsignedOptions,
    check_choice,
)
from longspan.pipeline.peer_names import takes_peer_names
from longspan.pipeline.pipeline import Finish
from longspan.pipeline.text_model import TextModel
from longspan.progress import progress_bar
from longspan.text.containers import checked_texts, listed
from longspan.text.prompts import resolve_prompt
from longspan.text.task_names import role_tasks_and_prompts, tasks_and_prompts
from longspan.text.tasks import Role, Task, spread
from longspan.text.tokenizer import TokenizedText
from longspan.vectors.arrays import FloatArray, HalfArray, SignedArray, UnsignedArray, VectorArray
from longspan.vectors.quantize import PRECISIONS, Precision
from longspan.vectors.results import Result, present

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack


@names_arguments
class Encoder(TextModel):
    """A model that embeds texts, and images, sounds and videos if it can.

    Args:
        name_or_path: a folder or a Hugging Face id such as "sentence-transformers/all-MiniLM-L6-v2".
        device: "cpu", or None for it; "cuda" or "cuda:N" for a GPU, which needs torch and triton.
        dtype: what products are computed in. On the CPU, where sums and all between products are float32: "float32", or
            "auto" for it; "bfloat16", weights and the rows that meet them; or "int8", weights by output and rows by
            token, quantised here, in long texts q and k too. On a GPU the type of weights and activations: "bfloat16",
            or "auto" for it; "float16" or "float32".
        revision: branch, tag or commit of a Hugging Face id.
        token: access token for gated models; None uses the one that `hf auth login` stored.
        cache_dir: where downloads are kept; None for Hugging Face's own place.
        local_files_only: never reach for the network.
        num_threads: threads that each call uses; None for all that the machine grants.
        cuda_graphs: on a GPU, capture what small batches launch when a size first comes, and launch it as a whole from
            then on: a short query takes a fraction of the time. False saves the memory of the captured passes.
        modalities: what to load the model for; None for all that it reads; ("text",) leaves the towers for images and
            sounds on disk.
        media: how media are put to a model that reads them in one sequence with texts; None for `MediaOptions()`.
        trust_remote_code: taken for code that was written for other libraries; no code of a checkpoint is ever run.
    Attributes:
        name: what was named.
        folder: where its files lie.
        dim: values of an embedding, before any truncation.
        max_length: tokens of a text that count, special ones included.
        modalities: what is read: "text", and of "image", "audio" and "video" what the model has towers for.
        tasks: the adapters that are loaded, by name.
        prompts: name -> text that goes before an input.
        pooling: how tokens become a text's vector: "mean", "cls", "lasttoken" and the like, or several, joined.
        normalizes: whether the checkpoint's own modules bring vectors to unit length.
        similarity_fn_name: what the checkpoint compares vectors by: "cosine", "dot", "euclidean" or "manhattan".
        spec: what the model computes, layer by layer: a `ModelSpec`.
        device: where it computes.
        dtype: what products are computed in.
        num_threads: threads that each call uses; None for all.
        fingerprint: a hash of all that shapes a vector.
        revision: the commit, of a model that came from the hub; else None.
    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged or not supported;
        ValueError, an argument breaks a line above.
    """

    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[FloatOptions]) -> FloatArray: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[HalfOptions]) -> HalfArray: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[SignedOptions]) -> SignedArray: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[UnsignedOptions]) -> UnsignedArray: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[PrecisionOptions]) -> VectorArray: ...
    @overload
    def encode(self, texts: Input, **options: Unpack[TokenOptions]) -> FloatArray: ...  # type: ignore[overload-overlap]
    @overload
    def encode(self, texts: Iterable[Item], **options: Unpack[TokenOptions]) -> list[FloatArray]: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[TensorOptions]) -> torch.Tensor: ...
    @overload
    def encode(self, texts: Input, **options: Unpack[TokenTensorOptions]) -> torch.Tensor: ...
    @overload
    def encode(self, texts: Iterable[Item], **options: Unpack[TokenTensorOptions]) -> list[torch.Tensor]: ...
    @overload
    def encode(self, texts: Input | Iterable[Item], **options: Unpack[AnyOptions]) -> Result: ...

    @takes_peer_names
    def encode(
        self,
        texts: Input | Iterable[Item],
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
        modality: str | None = None,
        media: MediaOptions | None = None,
    ) -> Result:
        """Embed texts, images, sounds and videos, in any order. No input's result depends on the others, on the CPU bit
        for bit.

        What only sentence-transformers' method has is taken as well: convert_to_numpy (False gives a list of torch
        tensors), device (the encoder's own) and pool (None).

        Args:
            texts: any number of inputs, or one: a str; an image as (height, width, 3) uint8 or as one of Pillow's; a
                sound as (samples,) floats at the model's rate, {"array": ..., "sampling_rate": ...} or (samples, rate);
                a video as (frames, height, width, 3) uint8 or {"array": ..., "video_metadata": ...}; or, by `modality`,
                the path or the bytes of a file, an open one, or {"bytes": ..., "path": ...}. {"text": ..., "image":
                [...], "audio": ..., "video": ...} is one input of those parts in the dict's order, one or several under
                a key, and so is a tuple of any of these within the list; a str under "image", "audio" or "video" is a
                path, and `PdfPages(path)` all pages of a file. `modalities` says what the model reads.
            task: one of `tasks`, the adapter to run; "base" for none; None for what the model does by default, which
                for some is an error; or a list, one a text: texts of different tasks run in one pass. The hosted API's
                names hold for every model: "retrieval.query" is adapter and prompt for queries, "nl2code.passage" a
                prompt of a model for code; "nl2code" that of queries, or of what `encode_document` embeds. Of a model
                without tasks they say the role at most.
            prompt_name: one of `prompts`, to go before every text; None for the model's default prompt, if it has one.
                Inputs without a text have none, but by `media`.
            prompt: the prompt itself, or a list, one a text; wins over `prompt_name`.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most (a longer text runs alone); None for a number that runs well.
            show_progress_bar: None shows one on a terminal or in a notebook, if the work takes more than a second, and
                elsewhere a line every 30 seconds; False shows nothing.
            normalize_embeddings: bring vectors to unit length, after truncation; None does what the model's files say,
                and leaves token vectors as they are.
            truncate_dim: keep this many leading values; one of `spec.matryoshka_dims`, where the model lists any.
            precision: "float32", "float16", "int8", "uint8", "binary" or "ubinary", as `quantize_embeddings`.
            output_value: "sentence_embedding", or "token_embeddings": the last hidden state of every token.
            max_length: tokens of a text at most, special tokens included; None for the model's own limit.
            on_truncate: what to do when a text is cut: "warn" (TruncationWarning), "error" or "ignore".
            convert_to_tensor: return torch tensors.
            modality: what a str, a path, bytes, an open file or {"bytes": ..., "path": ...} are: "text", or "image",
                "audio" or "video" for files; None takes a str for a text.
            media: how media are put to a model that reads them in one sequence with texts; None for the encoder's own.
        Returns: (n, dim) f32, or in the precision asked for; (dim,) for one str. With token_embeddings a list of
            (tokens, dim) f32, or one such array for one str.
        Raises: TypeError or ValueError, an argument breaks a line above, a file cannot be decoded, a sequence with
            media is longer than the model's places, or `on_truncate="error"` and a text or a sound is cut;
            FileNotFoundError; ImportError, naming the extra that decodes such files.
        """
        inputs = read_inputs("encode", texts, modality, self.modalities)
        items = inputs.items
        task, before = tasks_and_prompts(task, len(items), self, prompt_name=prompt_name, prompt=prompt)
        lora_ids = self._adapters(task, len(items))
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        check_choice("encode", "precision", precision, PRECISIONS)
        if wanted.tokens and precision != "float32":
            raise ValueError(f"encode: precision must be 'float32' for token_embeddings, got {precision!r}")
        check_choice("encode", "on_truncate", on_truncate, ON_TRUNCATE)
        limit = self._checked_max_length(max_length)
        options = self.media if media is None else checked_media("encode", media, self.spec)
        reader = None if self._sequences is None else self._sequences.reader("encode", options)
        if self._sequences is not None:
            self._sequences.check("encode", items, lora_ids, spread(task, len(items)))

        rows: list[np.ndarray] = []
        cuts = Cuts(on_truncate, limit, len(items), None if self._audio is None else self._audio.spec.mel.rate)
        unit = "text" if inputs.texts is not None else "input"
        with progress_bar(len(items), unit, show_progress_bar) as progress:
            tokenize = partial(self._tokenize, limit=limit)
            for block in read_blocks("encode", items, before, tokenize, self._vision, reader):
                cuts.add(block)
                how = {"batch_size": batch_size, "batch_tokens": batch_tokens}
                rows += self._run(block, wanted, before[block.part], lora_ids[block.part], progress, **how)
        for said in cuts.warnings:
            warn_caller(said, TruncationWarning)
        dim = None if wanted.tokens else self._width(wanted)
        return present(rows, dim=dim, precision=precision, alone=inputs.alone, convert_to_tensor=convert_to_tensor)

    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[FloatOptions]) -> FloatArray: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[HalfOptions]) -> HalfArray: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[SignedOptions]) -> SignedArray: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[UnsignedOptions]) -> UnsignedArray: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[PrecisionOptions]) -> VectorArray: ...
    @overload
    def encode_query(self, texts: Input, **options: Unpack[TokenOptions]) -> FloatArray: ...  # type: ignore[overload-overlap]
    @overload
    def encode_query(self, texts: Iterable[Item], **options: Unpack[TokenOptions]) -> list[FloatArray]: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[TensorOptions]) -> torch.Tensor: ...
    @overload
    def encode_query(self, texts: Input, **options: Unpack[TokenTensorOptions]) -> torch.Tensor: ...
    @overload
    def encode_query(self, texts: Iterable[Item], **options: Unpack[TokenTensorOptions]) -> list[torch.Tensor]: ...
    @overload
    def encode_query(self, texts: Input | Iterable[Item], **options: Unpack[AnyOptions]) -> Result: ...

    @takes_peer_names
    def encode_query(
        self,
        texts: Input | Iterable[Item],
        *,
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Result:
        """`encode` for queries: with the model's task for them, if none is said, and the task's own prompt, or else the
        one named "query", if the model has them. Same arguments and result."""
        return self._encode_as("query", texts, prompt_name, prompt, options)

    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[FloatOptions]) -> FloatArray: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[HalfOptions]) -> HalfArray: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[SignedOptions]) -> SignedArray: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[UnsignedOptions]) -> UnsignedArray: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[PrecisionOptions]) -> VectorArray: ...
    @overload
    def encode_document(self, texts: Input, **options: Unpack[TokenOptions]) -> FloatArray: ...  # type: ignore[overload-overlap]
    @overload
    def encode_document(self, texts: Iterable[Item], **options: Unpack[TokenOptions]) -> list[FloatArray]: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[TensorOptions]) -> torch.Tensor: ...
    @overload
    def encode_document(self, texts: Input, **options: Unpack[TokenTensorOptions]) -> torch.Tensor: ...
    @overload
    def encode_document(self, texts: Iterable[Item], **options: Unpack[TokenTensorOptions]) -> list[torch.Tensor]: ...
    @overload
    def encode_document(self, texts: Input | Iterable[Item], **options: Unpack[AnyOptions]) -> Result: ...

    @takes_peer_names
    def encode_document(
        self,
        texts: Input | Iterable[Item],
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
        texts: Input | Iterable[Item],
        prompt_name: str | None,
        prompt: str | Sequence[str] | None,
        options: EncodeOptions,
    ) -> Result:
        if not is_one(texts, self.modalities):  # a generator can be read once
            texts = cast("list[Item]", listed("encode: texts", texts))
        items = read_inputs("encode", texts, options.get("modality"), self.modalities).items
        options["task"], own = role_tasks_and_prompts(options.get("task"), len(items), self, role)
        if prompt is None and prompt_name is None:
            prompt = own
        return self.encode(texts, prompt_name=prompt_name, prompt=prompt, **options)

    @overload
    def encode_chunks(self, documents: str, **options: Unpack[ChunkOptions]) -> Chunks: ...  # type: ignore[overload-overlap]
    @overload
    def encode_chunks(self, documents: Iterable[str], **options: Unpack[ChunkOptions]) -> list[Chunks]: ...

    def encode_chunks(
        self,
        documents: str | Iterable[str],
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
        `longspan.late_chunking.windows` for models that do not pool by the mean.

        Args:
            documents: any number of str of any length, or one.
            chunks: "sentence" or "paragraph", joined up to `chunk_tokens`; "markdown" or "code", cut along headings,
                tables and fences or along definitions; "tokens", `chunk_tokens` each; a list of these, one a document;
                a function from a text to (start, end) character spans; or the spans, for each document a list.
            chunk_tokens: tokens of a chunk at most; None leaves each sentence, paragraph, block or definition as it is.
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
        read, [before] = role_tasks_and_prompts(task, 1, self, "document")
        [task] = spread(read, 1)
        [adapter] = self._adapters(task, 1)
        alone = isinstance(documents, str)
        items = checked_texts(
            "documents", [documents] if isinstance(documents, str) else documents, caller="encode_chunks"
        )
        if prompt is not None or prompt_name is not None:
            before = resolve_prompt(self.prompts, prompt_name=prompt_name, prompt=prompt, default_prompt_name=None)
        limit = self._checked_max_length(window, "window")
        wanted = self._finish("sentence_embedding", truncate_dim, normalize_embeddings)
        if mode == "late" and not isinstance(self.pooling, str):
            joined = " + ".join(self.pooling)
            raise ValueError(f"encode_chunks: late chunks are means, and this model joins {joined}; use mode='naive'")
        settings = ChunkSettings(
            chunks=chunks,
            chunk_tokens=None if chunk_tokens is None else checked_int("encode_chunks: chunk_tokens", chunk_tokens),
            chunk_overlap=checked_int("encode_chunks: chunk_overlap", chunk_overlap),
            window=limit,
            overlap=default_overlap(limit) if overlap is None else checked_int("encode_chunks: overlap", overlap),
            mode=mode,
            strategy=strategy,
            special_tokens=special_tokens,
            max_length=max_length,
            drop_empty=drop_empty,
        )

        def encode(texts: list[str]) -> np.ndarray:
            options: EncodeOptions = {"task": task, "batch_tokens": batch_tokens, "max_length": limit}
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
        with progress_bar(
            sum(map(len, items)), "character", show_progress_bar, what="characters of documents"
        ) as progress:
            results = list(chunker.run(items, spans, progress))
        return results[0] if alone else results

    def __repr__(self) -> str:
        return f"Encoder({self.name!r}, {self.spec.family}, dim={self.dim}, max_length={self.max_length})"

    def _tokenize(self, texts: list[str], prompts: list[str], *, limit: int) -> list[TokenizedText]:
        return self.tokenizer.encode(texts, prompt=prompts, max_length=limit)

    def _run(
        self,
        block: Block[TokenizedText],
        wanted: Finish,
        prompts: list[str],
        lora_ids: list[int],
        progress: Callable[[int], object],
        *,
        batch_size: int | None,
        batch_tokens: int | None,
    ) -> list[np.ndarray]:
        """The finished vectors of each of the block's inputs, in order."""
        found: dict[int, np.ndarray] = {}
        images: dict[int, MediaRow] = {}
        if block.sequences and self._sequences is not None:
            numbers = [lora_ids[place] for place in block.sequences]
            at = [block.start + place for place in block.sequences]
            made = self._sequences.rows([*block.sequences.values()], numbers, at, batch_tokens=batch_tokens)
            images = dict(zip(block.sequences, made, strict=True))
        if block.images and self._vision is not None:
            at = [block.start + place for place in block.images]
            if self._vision.has_own_vectors:
                given = [*block.images.values()]
                vectors = self._vision.encode(given, tokens=wanted.tokens, batch_tokens=batch_tokens, places=at)
                found = dict(zip(block.images, map(partial(self._finished, wanted=wanted), vectors), strict=True))
                progress(len(found))
            else:
                rows = self._vision.rows([*block.images.values()], batch_tokens=batch_tokens, places=at)
                images = dict(zip(block.images, rows, strict=True))
        read: dict[int, TokenizedText | MediaRow] = {**block.texts, **images}
        places = sorted(read)
        results = self._pipeline.run(
            [read[place].ids for place in places],
            wanted,
            pooled=self._pooled([read[place] for place in places], [prompts[place] for place in places]),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            lora_ids=[lora_ids[place] for place in places],
            attach=self._pipeline.with_media([images.get(place) for place in places]),
            progress=progress,
            places=[block.start + place for place in places],
            noun="inputs" if images else "texts",
        )
        found |= zip(places, results, strict=True)
        return [found[place] for place in range(block.size)]

    def _finished(self, states: np.ndarray, *, wanted: Finish) -> np.ndarray:
        """What a tower of its own made of an image, (tokens, dim), as `encode` gives it."""
        finished = self._pipeline.finish(states, wanted)
        return finished if wanted.tokens else finished[0]

    def _pooled(self, rows: list[TokenizedText | MediaRow], prompts: list[str]) -> list[np.ndarray] | None:
        """Which tokens count for pooling: an image's own, and of a text those of `pooled_tokens`."""
        texts = [row for row in rows if isinstance(row, TokenizedText)]
        before = [prompt for row, prompt in zip(rows, prompts, strict=True) if isinstance(row, TokenizedText)]
        kept = self.pooled_tokens(texts, before)
        if kept is None and len(texts) == len(rows):
            return None
        of_texts = iter([np.ones(len(text.ids), bool) for text in texts] if kept is None else kept)
        return [row.pooled if isinstance(row, MediaRow) else next(of_texts) for row in rows]
