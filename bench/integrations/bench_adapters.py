"""What each framework's adapter costs over calling Encoder, and sentence-transformers' own backend, in turn.

    python -m bench.integrations.bench_adapters [--model FOLDER] [--full] [--json FILE]

LangChain's, LlamaIndex's and Haystack's own local models call SentenceTransformer.encode: one peer stands for all. An
adapter whose framework is not installed is told by name. Vectors are held against float64 as in bench encode.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import numpy as np

from ..case import OURS, Case, Contest, Contestant, Setting
from ..command import main
from ..models.encoding import encode_case, load_ours
from ..models.texts import make_texts

if TYPE_CHECKING:
    from longspan import Encoder

BUDGET: Final = 28  # seconds of the short form, about
TEXTS: Final = ("short", "passage")
SHORT_TEXTS: Final = ("short",)
MIN_SECONDS: Final = 1.0  # a contestant: what is looked for are hundredths
PEER: Final = "sentence-transformers"
TARGET: Final = "<= 1.03x Encoder's time"

Embed = Callable[[list[str]], object]


def cases(setting: Setting) -> Iterator[Case]:
    """One a set of texts; float32, and of peers sentence-transformers alone."""
    alone = () if setting.peers is not None and PEER not in setting.peers else (PEER,)
    plain = replace(setting, dtypes=("float32",), peers=alone)
    for name in SHORT_TEXTS if setting.is_short else TEXTS:
        texts = make_texts(name)
        case = encode_case("adapters", {"texts": name}, texts, plain)
        yield replace(case, build=partial(_contest, case, texts, plain))


def _contest(case: Case, texts: list[str], plain: Setting, _: Setting) -> Contest:
    encoder = load_ours(plain.model, "float32", plain.threads)
    made = case.build(plain)
    ours, *peers = made.contestants
    found, absent = [], dict(made.absent)
    for name, make in ADAPTERS.items():
        try:
            run = partial(make(encoder), texts)
        except ImportError as error:
            absent[name] = f"{error.name} is not installed" if error.name else str(error)
        else:
            found.append(Contestant(f"{OURS} by {name}", run, read=ours.read, target=TARGET))
    # As the adapters do it: a document's prompt, if the model has one, is then in all of them alike.
    direct = replace(ours, run=partial(encoder.encode_document, texts, on_truncate="ignore", show_progress_bar=False))
    return replace(made, contestants=(direct, *found, *peers), absent=absent)


def _sentence_transformers(encoder: Encoder) -> Embed:
    from longspan.integrations.sentence_transformers import as_sentence_transformer

    return partial(as_sentence_transformer(encoder, on_truncate="ignore").encode_document, show_progress_bar=False)


def _mteb(encoder: Encoder) -> Embed:
    from mteb.types import PromptType

    from longspan.integrations.mteb import MtebEncoder

    adapter, task = MtebEncoder(encoder), SimpleNamespace(name="bench", type="Retrieval")
    where = {"task_metadata": task, "hf_split": "test", "hf_subset": "default", "prompt_type": PromptType.document}

    def embed(texts: list[str]) -> object:
        batches = ({"text": texts[start : start + 32]} for start in range(0, len(texts), 32))
        return adapter.encode(batches, **where)

    return embed


def _langchain(encoder: Encoder) -> Embed:
    from longspan.integrations.langchain import LongspanEmbeddings

    return LongspanEmbeddings(encoder, on_truncate="ignore").embed_documents


def _llama_index(encoder: Encoder) -> Embed:
    from longspan.integrations.llama_index import LongspanEmbedding

    return LongspanEmbedding(encoder, on_truncate="ignore").get_text_embedding_batch


def _haystack(encoder: Encoder) -> Embed:
    from haystack import Document

    from longspan.integrations.haystack import LongspanDocumentEmbedder

    embedder = LongspanDocumentEmbedder(encoder, on_truncate="ignore")

    def embed(texts: list[str]) -> object:
        return [one.embedding for one in embedder.run([Document(content=text) for text in texts])["documents"]]

    return embed


def _ray(encoder: Encoder) -> Embed:
    from longspan.integrations.ray import EncodeBatches

    encode = EncodeBatches(encoder.folder, num_threads=encoder.num_threads)
    return lambda texts: encode({"text": np.array(texts, object)})["embedding"]


ADAPTERS: Final[dict[str, Callable[[Encoder], Embed]]] = {
    "sentence-transformers": _sentence_transformers,
    "mteb": _mteb,
    "langchain": _langchain,
    "llama-index": _llama_index,
    "haystack": _haystack,
    "ray": _ray,
}


if __name__ == "__main__":
    sys.exit(main("bench.integrations.bench_adapters", __doc__, cases, min_seconds=MIN_SECONDS))
