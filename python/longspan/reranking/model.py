"""A reranker's checkpoint, loaded: the encoder, its head, and how pairs become rows."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from longspan.checkpoint import hub
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights
from longspan.models.peft import read_peft
from longspan.models.spec import ModelSpec, WeightMap
from longspan.models.weights import add_adapters, load_weights
from longspan.pipeline.options import check_choice
from longspan.pipeline.pipeline import Pipeline
from longspan.reranking.activation import ActivationName, default_activation
from longspan.reranking.formats import PairFormat, RowFormat
from longspan.reranking.head import Head, finite, load_head, row_head
from longspan.reranking.head_map import find_head
from longspan.reranking.listwise import FIRST, SECOND, ListScorer, MarkerHead
from longspan.reranking.prompts import MxbaiFormat, YesNoFormat
from longspan.reranking.request import Scorer
from longspan.reranking.scorer import PairScorer
from longspan.text.tasks import check_new_task
from longspan.text.tokenizer import TextTokenizer

PairFormatName = Literal["pair", "qwen3", "mxbai"]
# Of a decoder: the format of its pairs, the tokens whose logits are compared, and what its published code makes of the
# difference.
JUDGES: Final[dict[str, tuple[PairFormatName, tuple[str, str], ActivationName]]] = {
    "qwen3": ("qwen3", ("yes", "no"), "sigmoid"),
    "qwen2": ("mxbai", ("1", "0"), "identity"),
}


class RerankModel:
    """What `Reranker` loads; its docstring says what the arguments mean."""

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str | None = None,
        dtype: str = "auto",
        *,
        pair_format: PairFormatName | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        num_threads: int | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        check_choice("Reranker", "pair_format", pair_format, (None, *get_args(PairFormatName)))
        engine = engine_for("Reranker", device, dtype, num_threads, cuda_graphs)
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
        self.prompts: Final = dict(checkpoint.prompts)
        self.default_prompt_name: Final = checkpoint.default_prompt_name
        longest = min(checkpoint.max_seq_length or spec.max_tokens, spec.max_tokens)
        self.tokenizer: Final = TextTokenizer.load(checkpoint, max_length=longest, vocab_size=spec.vocab_size)
        self._weight_map: Final = names
        self._loading_adapter = threading.Lock()
        loader = _Loader(checkpoint, spec, names, engine, self.tokenizer, pair_format)
        self._encoder = TextEncoder(spec, loader.weights, engine)
        self._pipeline = Pipeline(self._encoder, (), "cls", num_threads)
        self.default_activation: Final = loader.activation
        self.max_length: Final = min(longest, loader.longest or longest)
        self._scorer: Scorer
        if isinstance(loader.head, MarkerHead):
            self._scorer = ListScorer(self._pipeline, loader.head, self.tokenizer, longest)
        else:
            assert loader.row_format is not None
            limits = {"default_length": self.max_length, "max_length": spec.max_tokens}
            self._scorer = PairScorer(self._pipeline, loader.head, loader.row_format, **limits)
        checkpoint.close()

    @property
    def is_listwise(self) -> bool:
        """Whether the documents of a query are scored together, so that their number and order matter."""
        return isinstance(self._scorer, ListScorer)

    @property
    def num_labels(self) -> int:
        """Numbers that the model gives for a pair; rankings need 1."""
        return self._scorer.num_labels

    @property
    def tasks(self) -> tuple[str, ...]:
        """The adapters that are loaded, by name."""
        return self._encoder.weights.tasks

    def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load an adapter of the encoder's products; see `Encoder.load_adapter`. The head stays as it is."""
        with self._loading_adapter:
            check_new_task(name, self.tasks)
            adapter = read_peft(Path(path).expanduser(), name)
            self._encoder.weights = add_adapters(
                self._encoder.weights, self.spec, self._weight_map, [adapter], self._encoder.engine
            )

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipeline.explain()


class _Loader:
    """What of a checkpoint makes it a reranker.

    Attributes:
        weights: the encoder's.
        head: what scores.
        row_format: of models that score a pair by itself.
        activation: of the scores.
        longest: tokens of a row by the family's convention; None where it has none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        spec: ModelSpec,
        names: WeightMap,
        engine: OpsEngine,
        tokenizer: TextTokenizer,
        pair_format: PairFormatName | None,
    ) -> None:
        self._checkpoint, self._spec, self._engine, self._tokenizer = checkpoint, spec, engine, tokenizer
        self._names = names
        self._kind = checkpoint.config.get_str("model_type", "")
        self.row_format: RowFormat | None = None
        self.longest: int | None = None
        self.activation: ActivationName = "identity"
        self.head: Head | MarkerHead
        _check_modules(checkpoint)
        head_map = find_head(checkpoint, spec)
        if FIRST in checkpoint.tensor_names and head_map is None:
            self.weights = self._load((FIRST, SECOND))
            self.head = MarkerHead.load(checkpoint, spec.hidden_size, engine)
            return
        if head_map is not None:
            self.weights = self._load(head_map.names)
            self.head = load_head(checkpoint, head_map, spec.hidden_size, engine)
            _check_labels(checkpoint, self.head.num_labels)
            self.activation = default_activation(checkpoint, self.head.num_labels)
        else:
            judge = self._judge()
            self.weights = self._load(())
            self.head = self._row_head(judge)
            self.activation = judge[2] if checkpoint.activation_fn is None else default_activation(checkpoint, 1)
        self.row_format = self._format(pair_format)
        self.longest = self.row_format.max_length

    def _load(self, beside: tuple[str, ...]) -> EncoderWeights:
        return load_weights(self._checkpoint, self._spec, self._names, self._engine, beside=beside)

    def _judge(self) -> tuple[PairFormatName, tuple[str, str], ActivationName]:
        checkpoint = self._checkpoint
        architectures = checkpoint.config.get_list("architectures", [])
        is_decoder = any(isinstance(name, str) and name.endswith("ForCausalLM") for name in architectures)
        if self._kind not in JUDGES or not is_decoder or checkpoint.pooling is not None:
            raise CheckpointError(
                f"{checkpoint.folder} is no reranker: it has neither a sequence classifier's head nor a projector, nor "
                f"is it a language model of a known one; longspan.Encoder loads what makes vectors"
            )
        return JUDGES[self._kind]

    def _row_head(self, judge: tuple[PairFormatName, tuple[str, str], ActivationName]) -> Head:
        """h_last . (E_yes - E_no): two rows of the output table, never the whole vocabulary."""
        ids: list[int] = []
        for token in judge[1]:
            number = self._tokenizer.token_id(token)
            if number is None or number >= self._spec.vocab_size:
                raise CheckpointError(f"{self._tokenizer.source} has no token {token!r}, whose logit is the score")
            ids.append(number)
        for module in self._checkpoint.modules:
            asked = [module.config.get_int(f"{key}_token_id", None) for key in ("true", "false")]
            if module.kind == "LogitScore" and asked != ids:
                raise CheckpointError(
                    f"{module.config.source}: the score is of the tokens {asked}, but {judge[0]}'s prompt asks for "
                    f"{ids}; prompts of other models are templates, which are not run"
                )
        checkpoint, table = self._checkpoint, "lm_head.weight"
        if table in checkpoint.tensor_names and not checkpoint.config.get_bool("tie_word_embeddings", False):
            shape = (self._spec.vocab_size, self._spec.hidden_size)
            if checkpoint.shape(table) != shape:
                raise CheckpointError(
                    f"{checkpoint.folder}: tensor {table} must be {shape}, got {checkpoint.shape(table)}"
                )
            rows = finite(checkpoint, table)[ids]
        else:
            rows = self._engine.to_host(self.weights.word_embeddings[ids])
        yes, no = np.asarray(rows, np.float64)
        return row_head((yes - no).astype(np.float32), self._engine)

    def _format(self, chosen: PairFormatName | None) -> RowFormat:
        name = chosen or (JUDGES[self._kind][0] if self._kind in JUDGES else "pair")
        if name == "qwen3":
            return YesNoFormat.of(self._tokenizer)
        if name == "mxbai":
            return MxbaiFormat.of(self._tokenizer)
        return PairFormat.of(self._checkpoint, self._spec, self._tokenizer)


def _check_modules(checkpoint: Checkpoint) -> None:
    kinds = [module.kind for module in checkpoint.modules]
    if any(kind not in ("Transformer", "LogitScore") for kind in kinds):
        raise CheckpointError(
            f"{checkpoint.folder}: a reranker's modules.json may list a Transformer and a LogitScore, got "
            f"{', '.join(kinds)}; longspan.Encoder loads what makes vectors"
        )


def _check_labels(checkpoint: Checkpoint, num_labels: int) -> None:
    """CheckpointError if config.json says another number of labels than the head has."""
    config = checkpoint.config
    names = config.get_object("id2label", None)
    said = config.get_int("num_labels", None if names is None else len(names))
    if said is not None and said != num_labels:
        raise CheckpointError(f"{config.source} says {said} labels, but the head's weights have {num_labels}")
