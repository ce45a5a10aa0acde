"""`TextModel`: a checkpoint, loaded: token ids to vectors. `Encoder` brings the texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.audio.allowance import Allowance
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError, warn_caller
from longspan.integers import checked_int
from longspan.models.spec import ModelSpec
from longspan.models.weights import read_adapters
from longspan.packing.buckets import AT_ONCE, TOKENS
from longspan.pipeline.head import load_head
from longspan.pipeline.inputs import NOUNS, Part
from longspan.pipeline.loaded_model import LoadedModel, open_model
from longspan.pipeline.media_options import MediaOptions, checked_media
from longspan.pipeline.options import OutputValue, check_choice
from longspan.pipeline.pipeline import Finish, Pipeline
from longspan.pipeline.pooling import Pooling, num_parts, pooling_mode
from longspan.pipeline.purpose import require_purpose
from longspan.pipeline.sequences import Fitted, Sequences
from longspan.text.containers import listed
from longspan.text.task_names import read_tasks
from longspan.text.tasks import Task, adapter_numbers
from longspan.text.tokenizer import UNCUT, TextTokenizer, TokenizedText
from longspan.vectors.arrays import FloatArray
from longspan.vectors.results import stack
from longspan.vectors.similarity import SIMILARITIES, similarity

if TYPE_CHECKING:
    from longspan.images.decode import ImageInput


@names_arguments
class TextModel(LoadedModel):
    """What `Encoder` loads; its docstring says what the arguments mean."""

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str | None = None,
        dtype: str = "auto",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        num_threads: int | None = None,
        cuda_graphs: bool = True,
        trust_remote_code: bool = False,
        modalities: Sequence[str] | None = None,
        media: MediaOptions | None = None,
    ) -> None:
        """Open the checkpoint and load it; the class says what the arguments mean."""
        opened = open_model(
            "Encoder",
            name_or_path,
            device,
            dtype,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            num_threads=num_threads,
            cuda_graphs=cuda_graphs,
            trust_remote_code=trust_remote_code,
            modalities=modalities,
            reads_sequences=True,
        )
        checkpoint, spec = opened.checkpoint, opened.spec
        self.media: Final = checked_media("Encoder", media, spec)
        require_purpose("Encoder", checkpoint, "embedding")
        longest = checkpoint.max_seq_length or spec.max_tokens
        if longest >= spec.max_tokens:  # no limit of their own
            longest = spec.default_max_tokens or spec.max_tokens
        self._max_length = min(longest, spec.max_tokens)
        self.pooling: Final[Pooling] = pooling_mode(checkpoint, spec.default_pooling)
        self.normalizes: Final = checkpoint.has_normalize or (checkpoint.pooling is None and spec.default_normalize)
        self.similarity_fn_name: Final = _similarity_name(checkpoint)
        self.pools_prompt: Final = checkpoint.pooling is None or checkpoint.pooling.get_bool("include_prompt", True)
        self.default_prompt_name: Final = (checkpoint if checkpoint.prompts else spec).default_prompt_name
        self.tokenizer = TextTokenizer.load(
            checkpoint, max_length=self._max_length, vocab_size=spec.vocab_size, static=spec.static
        )
        _check_end(spec, self.tokenizer, checkpoint)
        super().__init__(
            opened,
            opened.names,
            read_adapters(opened.names),
            {
                "default prompt": self.default_prompt_name,
                "pooling": [self.pooling, self.pools_prompt],
                "normalizes": self.normalizes,
                "max length": self._max_length,
                **self.media.changed,
            },
        )
        if media is not None:
            self._again["media"] = media
        self._sequences: Final = self._open_sequences(spec, checkpoint.tokenizer_file)
        if self._vision is not None:
            self._vision.stand_in_text(self.tokenizer, checkpoint.tokenizer_file)
        head = load_head(checkpoint, spec.hidden_size * num_parts(self.pooling), opened.engine)
        self._pipeline = Pipeline(self._encoder, head, self.pooling, num_threads)

    def _open_sequences(self, spec: ModelSpec, source: Path) -> Sequences | None:
        """Of a model that reads media in one sequence with texts. CheckpointError, its tokenizer lacks their tokens."""
        if spec.sequence is None:
            return None
        tasks, towers = spec.tasks.names, (self._vision, self._audio)
        return Sequences(spec.sequence, spec.max_tokens, tasks, self.tokenizer, source, *towers)

    def fit_input(
        self,
        parts: Sequence[Part],
        *,
        prompt: str = "",
        caller: str = "fit_input",
        allowance: Allowance | None = None,
    ) -> Fitted:
        """Decode and shrink an input with media ahead of a call, in a thread of the caller's.

        Args:
            parts: of the input, in order, one of them no text; of a model without sequences one image.
            prompt: that `encode` will put before it.
            caller: begins the messages.
            allowance: of sound and video to decode, over several calls.
        Raises: ValueError, the model does not read such inputs, one is longer than its places, or a part is damaged or
            too large; MediaLimitError, more would be decoded than is allowed; ImportError, naming the extra that is
            needed.
        """
        if not isinstance(parts, Sequence) or not parts or not all(isinstance(part, Part) for part in parts):
            raise TypeError(f"{caller}: parts must be a list of longspan.pipeline.inputs.Part, got {parts!r:.60}")
        for part in parts:
            if part.modality not in self.modalities:
                reads = " and ".join(self.modalities)
                raise ValueError(f"{caller}: {part.name} is {NOUNS[part.modality]}, but this model reads {reads} alone")
        if self._sequences is not None:
            return self._sequences.reader(caller, self.media, allowance).fit(parts, prompt)
        if len(parts) != 1 or parts[0].modality == "text":
            raise ValueError(f"{caller}: {parts[0].name} must be one image, which is all that this model joins")
        pixels, tokens = self.fit_image(cast("ImageInput", parts[0].value), f"{caller}: {parts[0].name}")
        return Fitted(({"image": pixels},), tokens)

    @property
    def max_length(self) -> int:
        """Tokens of a text that count, special ones included. It may be set, up to `spec.max_tokens`."""
        return self._max_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self._max_length = self._checked_max_length(value)

    @property
    def max_seq_length(self) -> int:
        """`max_length`, as sentence-transformers calls it."""
        return self._max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.max_length = value

    @property
    def dim(self) -> int:
        """Values of an embedding, before any truncation."""
        return self._pipeline.dim

    @overload
    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        output_value: Literal["sentence_embedding"] = "sentence_embedding",
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        pooled: Sequence[np.ndarray] | None = None,
    ) -> FloatArray: ...

    @overload
    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        output_value: Literal["token_embeddings"],
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        pooled: Sequence[np.ndarray] | None = None,
    ) -> list[FloatArray]: ...

    @overload
    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        output_value: OutputValue,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        pooled: Sequence[np.ndarray] | None = None,
    ) -> FloatArray | list[FloatArray]: ...

    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        output_value: OutputValue = "sentence_embedding",
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        pooled: Sequence[np.ndarray] | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Embed lists of token ids as they are: no prompt, no special tokens, nothing cut.

        Args:
            ids: for each text its ids, at least one, each from 0 to the vocabulary's size, at most `spec.max_tokens`.
            task: as `encode`.
            pooled: for each text the (tokens,) bool of the tokens that a mean counts; None for all.
        Returns: (n, dim) f32, or with token_embeddings a list of (tokens, dim) f32.
        Raises: ValueError, naming the text, if one breaks the line above.
        """
        ids = cast("list[Sequence[int] | np.ndarray]", listed("encode_ids: ids", ids, "lists of ids"))
        lora_ids = self._adapters(task, len(ids))
        wanted = self._finish(output_value, truncate_dim, normalize_embeddings)
        checked = [self._checked_ids(place, text) for place, text in enumerate(ids)]
        if pooled is not None and [*map(len, pooled)] != [*map(len, checked)]:
            raise ValueError("encode_ids: pooled must have one bool for each token of each text")
        rows = self._pipeline.run(checked, wanted, pooled=pooled, lora_ids=lora_ids)
        return rows if wanted.tokens else stack(rows, self._width(wanted))

    def warm_up(self, sizes: Iterable[int | tuple[int, int]] | None = None, *, task: Task = None) -> None:
        """Run batches of these sizes once, so that no later call waits for what a first one does: on a GPU kernels are
        compiled and loaded, and passes captured as CUDA graphs; on the CPU memory is set aside.

        Args:
            sizes: (texts, tokens of each) pairs, or a number of tokens for one text; None for one text of each size
                that graphs are captured of, up to `max_length`: what queries need.
            task: as `encode`; adapters have passes of their own.
        Raises: ValueError, a size is not from 1 text and token up to `spec.max_tokens` tokens a text.
        """
        if sizes is not None and (isinstance(sizes, str) or not isinstance(sizes, Iterable)):
            raise TypeError(f"warm_up: sizes must be a list of sizes, got {type(sizes).__name__}")
        if sizes is None:
            sizes = [size for size in TOKENS if size <= min(self.max_length, AT_ONCE)] or [self.max_length]
        for size in sizes:
            pair = size if isinstance(size, tuple) else (1, size)
            if len(pair) != 2:
                raise ValueError(f"warm_up: sizes must be numbers or pairs (texts, tokens), got {size!r}")
            texts, tokens = (checked_int("warm_up: sizes", count) for count in pair)
            if texts < 1 or not 1 <= tokens <= self.spec.max_tokens:
                raise ValueError(
                    f"warm_up: sizes must be 1 or more texts of 1 to {self.spec.max_tokens} tokens, got {size!r}"
                )
            for _ in range(2):  # large passes are captured when they come again
                self.encode_ids([np.zeros(tokens, np.int32)] * texts, task=task)

    def tokenize(self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None) -> list[TokenizedText]:
        """Ids and character offsets of each text, as `encode` would use them."""
        return self.tokenizer.encode(texts, prompt=prompt, max_length=self._checked_max_length(max_length))

    def pooled_tokens(self, texts: Sequence[TokenizedText], prompts: Sequence[str]) -> list[np.ndarray] | None:
        """For each text the (tokens,) bool of those that count for pooling, or None where all do.

        Where the checkpoint leaves the prompt out, as many of the first tokens do not count as the prompt has by
        itself, special ones included but for one at its end. That is sentence-transformers' rule, and models were
        measured by it: a word of the text whose first piece joins the prompt's last one goes with it."""
        if self.spec.static is not None and any(text.special_mask.all() for text in texts):
            return [~text.special_mask for text in texts]  # a text of nothing: what stands for it does not count
        if self.pools_prompt or not any(prompts):
            return None
        lengths = {prompt: self._prompt_length(prompt) for prompt in set(prompts)}
        return [np.arange(len(text.ids)) >= lengths[prompt] for text, prompt in zip(texts, prompts, strict=True)]

    def _prompt_length(self, prompt: str) -> int:
        if not prompt:
            return 0
        [alone] = self.tokenizer.encode([prompt], max_length=UNCUT)
        return len(alone.ids) - int(alone.special_mask[-1])

    def similarity(self, a: object, b: object) -> FloatArray:
        """(len(a), len(b)) f32 by the model's own measure, cosine unless its files say otherwise; higher is closer."""
        return similarity(a, b, self.similarity_fn_name)

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipeline.explain()

    def _width(self, wanted: Finish) -> int:
        """Values of a text's finished vector."""
        return wanted.truncate_dim or self.dim

    def _finish(self, output_value: OutputValue, truncate_dim: int | None, normalize: bool | None) -> Finish:
        check_choice("encode", "output_value", output_value, ("sentence_embedding", "token_embeddings"))
        tokens = output_value == "token_embeddings"
        dim = self._pipeline.token_dim if tokens else self.dim
        if truncate_dim is not None:
            truncate_dim = checked_int("encode: truncate_dim", truncate_dim)
            if not 1 <= truncate_dim <= dim:
                raise ValueError(f"encode: truncate_dim must be from 1 to {dim}, got {truncate_dim}")
        listed = () if tokens or self._pipeline.dim != self.spec.hidden_size else self.spec.matryoshka_dims
        if truncate_dim is not None and listed and truncate_dim not in listed:
            raise ValueError(f"encode: truncate_dim must be one of {', '.join(map(str, listed))}, got {truncate_dim}")
        if normalize is None:
            normalize = self.normalizes and not tokens
        return Finish(tokens, truncate_dim, normalize)

    def _adapters(self, task: Task, num_texts: int) -> list[int]:
        """The adapter of every text."""
        return adapter_numbers(read_tasks(task, num_texts, self)[0], num_texts, self.tasks, self.spec.tasks)

    def _checked_max_length(self, max_length: int | None, name: str = "max_length") -> int:
        if max_length is None:
            return self.max_length
        limit = checked_int(f"encode: {name}", max_length)
        least = self.tokenizer.num_special_tokens + 1
        if not least <= limit <= self.spec.max_tokens:
            raise ValueError(f"encode: {name} must be from {least} to {self.spec.max_tokens}, got {limit}")
        return limit


def _check_end(spec: ModelSpec, tokenizer: TextTokenizer, checkpoint: Checkpoint) -> None:
    """A warning where texts do not end in the token that the model was trained to read them at."""
    if spec.end_token is None or spec.static is not None:
        return
    [text] = tokenizer.encode(["a"])
    if text.ids[-1] != tokenizer.token_id(spec.end_token):
        warn_caller(
            f"{checkpoint.tokenizer_file}: texts do not end in {spec.end_token!r}, whose state is the vector; "
            f"take a newer tokenizer.json of the model, whose template adds it",
            UserWarning,
        )


def _similarity_name(checkpoint: Checkpoint) -> str:
    name = checkpoint.similarity_fn_name or "cosine"
    if name not in SIMILARITIES:
        known = ", ".join(SIMILARITIES)
        raise CheckpointError(f"{checkpoint.folder}: similarity_fn_name must be one of {known}, got {name!r}")
    return name
