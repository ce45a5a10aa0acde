"""What each framework's adapter costs over calling Encoder, and sentence-transformers' own backend, in turn.

    python -m bench.integrations.bench_adapters --model FOLDER --threads 2 --texts short

LangChain's, LlamaIndex's and Haystack's own local models call SentenceTransformer.encode: one peer stands for all. An
adapter whose framework is not installed is left out. Before any timing each one's vectors are compared with Encoder's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import numpy as np

from bench.encoders import load_sentence_transformers
from bench.models.texts import TEXT_SETS, make_texts
from bench.record import busy_warning, model_name, write_json
from bench.timing import Spread, interleave, speedup
from longspan import Encoder

DIRECT: Final = "Encoder.encode_document"
MAX_DIFFERENCE: Final = 2e-5  # as bench_encode: two float32 runtimes, each 1e-5 from the truth
LIMIT: Final = 0.03  # what an adapter may cost
PAUSE: Final = 0.05

Embed = Callable[[list[str]], object]


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


def _own_backend(encoder: Encoder) -> Embed:
    return partial(load_sentence_transformers(str(encoder.folder), encoder.num_threads).embed, kind="document")


ADAPTERS: Final[dict[str, Callable[[Encoder], Embed]]] = {
    "sentence-transformers": _sentence_transformers,
    "mteb": _mteb,
    "langchain": _langchain,
    "llama-index": _llama_index,
    "haystack": _haystack,
    "ray (the callable)": _ray,
}
PEER: Final = "sentence-transformers' own"


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant on one set of texts."""

    contestant: str
    difference: float  # largest, from Encoder's vectors
    tokens_per_second: Spread
    over_direct: Spread  # its time by Encoder's, round by round


def load(encoder: Encoder) -> dict[str, Embed]:
    """Encoder itself, the adapters that are installed, and the peer."""
    found: dict[str, Embed] = {DIRECT: partial(encoder.encode_document, on_truncate="ignore", show_progress_bar=False)}
    for name, make in {**ADAPTERS, PEER: _own_backend}.items():
        try:
            found[name] = make(encoder)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def measure(texts: list[str], num_tokens: int, contestants: dict[str, Embed], seconds: float) -> list[Row]:
    """Compares, then times in turn. Raises: ValueError, vectors differ by more than MAX_DIFFERENCE."""
    wanted = np.asarray(contestants[DIRECT](texts))
    differences = {name: float(np.abs(np.asarray(run(texts)) - wanted).max()) for name, run in contestants.items()}
    wrong = [name for name, difference in differences.items() if not difference <= MAX_DIFFERENCE]
    if wrong:
        raise ValueError(f"vectors of {', '.join(wrong)} differ from Encoder's by more than {MAX_DIFFERENCE:g}")
    times = interleave({name: partial(run, texts) for name, run in contestants.items()}, seconds=seconds, pause=PAUSE)
    return [
        Row(
            name,
            differences[name],
            Spread.of([num_tokens / one for one in times[name]]),
            speedup(times[DIRECT], times[name]),
        )
        for name in contestants
    ]


def describe(row: Row) -> str:
    """A line of the table."""
    cost = "" if row.contestant in (DIRECT, PEER) else f"   cost {row.over_direct.median - 1:+.1%}"
    ratio = f"   takes {row.over_direct.text()} times as long" if row.contestant == PEER else ""
    return f"{row.contestant:<28}{row.difference:>9.1e}   {row.tokens_per_second.text(0):<26}{cost}{ratio}".rstrip()


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0; 1 where an adapter costs more than LIMIT; 2 where there is no model, or it differs."""
    from longspan.demo import find_demo_model

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="a folder or a Hugging Face id; the installed MiniLM weights if not given")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="for each set of texts (%(default)s)")
    parser.add_argument("--texts", nargs="+", choices=TEXT_SETS, default=["short", "passage"], help="sets of texts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    warning = busy_warning()
    sets: dict[str, object] = {}
    worst = 0.0
    try:
        model = options.model or str(find_demo_model())
        encoder = Encoder(model, num_threads=options.threads)
        contestants = load(encoder)
        for name in options.texts:
            texts = make_texts(name)
            num_tokens = sum(len(text.ids) for text in encoder.tokenize(texts))
            rows = measure(texts, num_tokens, contestants, options.seconds)
            print(f"{name}: {len(texts)} texts, {num_tokens} tokens; difference, tokens/s median (p20 .. p80)")
            print("\n".join(map(describe, rows)), flush=True)
            sets[name] = {"tokens": num_tokens, "rows": [asdict(row) for row in rows]}
            worst = max([worst, *(row.over_direct.median - 1 for row in rows if row.contestant in ADAPTERS)])
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if warning:
        print(warning)
    if options.json is not None:
        body = {"model": model_name(model), "threads": options.threads, "limit": LIMIT, "sets": sets}
        write_json(options.json, "integrations.adapters", body)
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
