"""A reranker's checkpoint, loaded: the encoder, its head, and how pairs become rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, get_args

from longspan.arguments import names_arguments
from longspan.errors import CheckpointError
from longspan.models.weights import read_adapters
from longspan.pipeline.loaded_model import LoadedModel, open_model
from longspan.pipeline.options import check_choice
from longspan.pipeline.pipeline import Pipeline
from longspan.reranking.activation import ActivationName
from longspan.reranking.head import Head, ModulesHead
from longspan.reranking.listwise import ListScorer, MarkerHead
from longspan.reranking.request import Scorer
from longspan.reranking.scorer import PairScorer
from longspan.reranking.scoring import PairFormatName, Scoring, read_scoring
from longspan.text.prompts import resolve_prompt
from longspan.text.tokenizer import TextTokenizer


@names_arguments
class RerankModel(LoadedModel):
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
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        num_threads: int | None = None,
        cuda_graphs: bool = True,
        trust_remote_code: bool = False,
    ) -> None:
        """Open the checkpoint and load it; the class says what the arguments mean."""
        check_choice("Reranker", "pair_format", pair_format, (None, *get_args(PairFormatName)))
        opened = open_model(
            "Reranker",
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
        )
        checkpoint, spec = opened.checkpoint, opened.spec
        longest = min(checkpoint.max_seq_length or spec.max_tokens, spec.max_tokens)
        self.tokenizer: Final = TextTokenizer.load(checkpoint, max_length=longest, vocab_size=spec.vocab_size)
        scoring = read_scoring(opened, self.tokenizer, pair_format)
        self.default_prompt_name: Final = checkpoint.default_prompt_name
        self.default_activation: Final[ActivationName] = scoring.activation
        self.max_length: Final = min(longest, scoring.longest or longest)
        _check_room(scoring, self.max_length, spec.max_tokens, checkpoint.folder)
        super().__init__(
            opened,
            opened.names,
            read_adapters(opened.names),
            {"reranker": True, "max length": self.max_length, "activation": self.default_activation},
            beside=scoring.tensors,
        )
        self._again["pair_format"] = pair_format
        self._pipeline: Final = Pipeline(self._encoder, (), "cls", num_threads)
        self._scorer: Final[Scorer] = self._scorer_for(scoring, longest)

    def _scorer_for(self, scoring: Scoring, longest: int) -> Scorer:
        if scoring.row_format is None:
            assert isinstance(scoring.head, MarkerHead)
            return ListScorer(self._pipeline, scoring.head, self.tokenizer, longest)
        assert isinstance(scoring.head, Head | ModulesHead)
        return PairScorer(
            self._pipeline,
            scoring.head,
            scoring.row_format,
            default_length=self.max_length,
            max_length=self.spec.max_tokens,
        )

    @property
    def is_listwise(self) -> bool:
        """Whether the documents of a query are scored together, so that their number and order matter."""
        return isinstance(self._scorer, ListScorer)

    @property
    def cuts_left(self) -> bool:
        """Whether `truncation_side="left"` is taken: models whose tokenizer has a template for pairs cut either end."""
        return isinstance(self._scorer, PairScorer) and self._scorer.cuts_left

    def beside_document(self, query: str) -> int:
        """Tokens of a pair that are not its document's, with the model's default prompt, as `max_length` counts them;
        of a listwise model 0, as its limit is the document's own."""
        if not isinstance(self._scorer, PairScorer):
            return 0
        prompt = resolve_prompt(
            self.prompts, prompt_name=None, prompt=None, default_prompt_name=self.default_prompt_name
        )
        return self._scorer.beside_document(query, prompt)

    @property
    def num_labels(self) -> int:
        """Numbers that the model gives for a pair; rankings need 1."""
        return self._scorer.num_labels

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipeline.explain()


def _check_room(scoring: Scoring, max_length: int, max_tokens: int, folder: Path) -> None:
    """CheckpointError if what a row has beside its texts leaves them nothing."""
    if scoring.row_format is None:
        return
    beside, fixed = scoring.row_format.num_beside, scoring.row_format.num_fixed
    if min(max_length + beside, max_tokens) <= beside + fixed:
        longest = min(max_length + beside, max_tokens)
        raise CheckpointError(
            f"{folder}: rows have at most {longest} tokens, and {beside + fixed} belong to neither query nor document"
        )
