"""A misspelt argument is answered with the one that was meant, by every public class and function."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pytest

import longspan
from longspan import BinaryIndex, Encoder, MultiVectorStore, Reranker, SparseIndex, SparseVectors
from longspan.arguments import names_arguments, nearest

if TYPE_CHECKING:
    from typing_extensions import Unpack

CLASSES = [one for name in longspan.__all__ if inspect.isclass(one := getattr(longspan, name))]
OURS = [one for one in CLASSES if not issubclass(one, Exception | dict) and not hasattr(one, "__dataclass_fields__")]


class Options(TypedDict, total=False):
    """Those of `Example.run`."""

    colour: str


@names_arguments
class Example:
    """One of each kind of method."""

    def __init__(self, size: int = 1, *, depth: int = 2) -> None:
        self.size = size + depth

    def run(self, text: str, *, times: int = 1, **options: Unpack[Options]) -> str:
        return text * times + options.get("colour", "")

    def take(self, **anything: object) -> int:
        return len(anything)

    @classmethod
    def load(cls, folder: str, *, verify: bool = False) -> bool:
        return verify

    @staticmethod
    def twice(value: int) -> int:
        return 2 * value


def test_what_is_known_passes() -> None:
    example = Example(size=1, depth=3)
    assert example.size == 4 and example.run(text="a", times=2, colour="red") == "aared"
    assert (
        example.take(anything=1, goes=2) == 2 and Example.load(folder="x", verify=True) and Example.twice(value=2) == 4
    )
    assert list(inspect.signature(Example).parameters) == ["size", "depth"]


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: Example(dept=1), "Example: there is no argument 'dept'; did you mean 'depth'?"),
        (lambda: Example().run("a", time=2), "Example.run: there is no argument 'time'; did you mean 'times'?"),
        (lambda: Example().run("a", color="b"), "Example.run: there is no argument 'color'; did you mean 'colour'?"),
        (lambda: Example.load("x", Verify=True), "Example.load: there is no argument 'Verify'; did you mean 'verify'?"),
        (lambda: Example.twice(valeu=1), "Example.twice: there is no argument 'valeu'; did you mean 'value'?"),
        (lambda: Example(zzz=1), "Example: there is no argument 'zzz'; there are depth, size"),
    ],
)
def test_what_is_not_is_said(call: object, said: str) -> None:
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value) == said


def test_nearest() -> None:
    assert nearest("promt", ["prompt", "task"]) == "prompt" and nearest("qqqq", ["prompt"]) is None


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_method_of_every_public_class(kind: type) -> None:
    """No method takes a name in silence, none is left to Python's own message."""
    methods = {name: one for name, one in inspect.getmembers(kind, callable) if not name.startswith("_")}
    methods["__init__"] = kind.__init__
    for name, method in methods.items():
        takes = inspect.signature(method).parameters if name != "__init__" else ()
        with pytest.raises(TypeError, match=r"there is no argument 'no_such_argument'; (there are|did you mean) "):
            method(*([None] if name == "__init__" or "self" in takes else []), no_such_argument=1)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: BinaryIndex(8, stor="int8"), "BinaryIndex: .* 'store'"),
        (lambda: BinaryIndex(8).search(np.ones(8, "f4"), 1, over_sample=2), "BinaryIndex.search: .* 'oversample'"),
        (lambda: SparseIndex(8).search([{1: 1.0}], k=1, filtre=None), "SparseIndex.search: .* 'filter'"),
        (lambda: MultiVectorStore.load("x", nmap=False), "MultiVectorStore.load: .* 'mmap'"),
        (lambda: SparseVectors.of([{1: 1.0}], dims=3), "SparseVectors.of: .* 'dim'"),
    ],
)
def test_indexes(call: object, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        call()


def test_models(golden: Path) -> None:
    encoder = Encoder(golden / "bert-minilm")
    with pytest.raises(TypeError, match="Encoder.encode_chunks: .* 'chunk_token'; did you mean 'chunk_tokens'"):
        encoder.encode_chunks("a", chunk_token=3)
    with pytest.raises(TypeError, match="there is no argument 'batchsize'; did you mean 'batch_size'"):
        encoder.encode(["a"], batchsize=3)
    with pytest.raises(TypeError, match="encode_query: there is no argument 'promt_name'; did you mean 'prompt_name'"):
        encoder.encode_query("a", promt_name="query")
    with pytest.raises(TypeError, match="Encoder: there is no argument 'devise'; did you mean 'device'"):
        Encoder(golden / "bert-minilm", devise="cpu")
    reranker = Reranker(golden / "rerank-bert" / "model")
    with pytest.raises(TypeError, match="Reranker.rank: there is no argument 'max_lenght'; did you mean 'max_length'"):
        reranker.rank("a", ["b"], max_lenght=3)  # which was passed over in silence
    with pytest.raises(TypeError, match="Reranker.predict: there is no argument 'top_k'"):
        reranker.predict([("a", "b")], top_k=3)
