"""The subcommands of `longspan search` and their options."""

from __future__ import annotations

import argparse
import math

from longspan.cli.embedding.options import add_folder_options, add_format_options, add_model_options, positive
from longspan.cli.search.delete import DESCRIPTION as DELETE_DESCRIPTION
from longspan.cli.search.delete import EPILOG as DELETE_EPILOG
from longspan.cli.search.hybrid import FUSIONS
from longspan.cli.search.sources import FILE_CHUNK_TOKENS, VECTORS_COLUMN
from longspan.documents.kinds import FORMATS

DESCRIPTION = """\
Build an index of texts or vectors in a folder, and ask it questions.

The index holds sign bits, which are searched exactly by Hamming distance, and what the best candidates are scored with
again (--store). Of a late-interaction model it holds token vectors, which are all scored by MaxSim. `longspan info
INDEX` says what is in it. From Python, BinaryIndex.load(INDEX) or MultiVectorStore.load(INDEX) opens it too.
"""
EPILOG = """\
examples:
  longspan search build notes.index *.md --model sentence-transformers/all-MiniLM-L6-v2
  longspan search query notes.index how do I reset my password
  longspan search query notes.index                             # asks for questions, or reads them from a pipe
  longspan search build notes.index --append more.md --sparse naver/splade-v3    # words and meaning
  longspan search build notes.index --sync                      # what is new, changed and gone since

`longspan search build --help`, `... delete --help` and `... query --help` explain each.
"""
BUILD_DESCRIPTION = f"""\
Add documents to an index.

Texts, with --model: files and folders of them. Text, Markdown, HTML and source code (.txt .md .rst .html .py and many
others) are cut into passages of at most {FILE_CHUNK_TOKENS} tokens, along their structure; rows of .jsonl, .json,
.csv, .tsv and .parquet stay whole. (`embed` takes .txt as a text a line; here it is a document a file.) Blank texts
are left out. All of these may be zipped (.gz, .zst). `-` is standard input.

Of a folder all files below it are read, but hidden ones and what a .gitignore names; what cannot be used in it
(unknown, binary, not readable) is counted and named at the end.

Images (.png .jpg .webp and others), pages of .pdf, sounds (.wav .mp3 .flac ...) and videos (.mp4 .webm .mov ...), by a
model that reads them: each is a document. Of a PDF file a model that reads texts alone gets the text of each page.

Vectors, with --vectors: .npy (n, dim) of floats, or of uint8 codes; or .parquet with a column {VECTORS_COLUMN!r}, as
`longspan embed` writes them, and the texts in its column --field.

The index is saved every few seconds. A run that is stopped goes on with --resume.

A document has a key, by which it is known again: its path from the folder that holds the index, and its line or page;
or, of rows, the field --key. --append adds documents that are new and replaces those that have changed; --sync also
deletes those that are no longer among the inputs. What has not changed is not embedded again, and a run that is
stopped goes on where it was by the same command.
"""
BUILD_EPILOG = """\
examples:
  longspan search build notes.index notes/*.md --model sentence-transformers/all-MiniLM-L6-v2
  longspan search build corpus.index corpus.jsonl.gz --field body --keep id --model BAAI/bge-small-en-v1.5
  longspan search build notes.index notes/ --sync --model sentence-transformers/all-MiniLM-L6-v2
  longspan search build notes.index --sync
  longspan search build notes.index more.md --append
  longspan search build papers.index papers/*.pdf figures/*.png --model jinaai/jina-embeddings-v4 --token-vectors
  longspan search build big.index vectors.npy --vectors --texts texts.jsonl --model BAAI/bge-small-en-v1.5
"""
QUERY_DESCRIPTION = """\
Ask an index: by words; by --file, a question a line or row, or a picture, a sound, a video or pages, where the model
reads them; by --vectors; or, without any, by what is typed or piped into standard input, a question a line.
"""
QUERY_EPILOG = """\
examples:
  longspan search query notes.index how do I reset my password
  longspan search query notes.index --file questions.txt --top-k 5 --json > answers.jsonl
  longspan search query notes.index opening hours --rerank BAAI/bge-reranker-base --candidates 100
  longspan search query papers.index which curve falls first --show answers.html
  longspan search query photos.index --file chair.jpg --show alike.html
  echo "opening hours" | longspan search query notes.index
"""


def two_weights(text: str) -> tuple[float, float]:
    """Such as 0.7,0.3. Raises: argparse.ArgumentTypeError, it is something else."""
    try:
        dense, sparse = map(float, text.split(","))
    except ValueError:
        dense = sparse = -1.0
    if not (0 <= dense < math.inf and 0 <= sparse < math.inf and dense + sparse > 0):
        raise argparse.ArgumentTypeError(
            f"must be two numbers of 0 or above, not both 0, such as 0.7,0.3, got {text!r}"
        )
    return dense, sparse


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `search`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    subparsers = parser.add_subparsers(title="what to do", metavar="build|delete|query", required=True, dest="what")
    _configure_build(
        subparsers.add_parser(
            "build", help="add documents to an index", description=BUILD_DESCRIPTION, epilog=BUILD_EPILOG
        )
    )
    _configure_delete(
        subparsers.add_parser("delete", help="delete documents", description=DELETE_DESCRIPTION, epilog=DELETE_EPILOG)
    )
    _configure_query(
        subparsers.add_parser("query", help="find documents", description=QUERY_DESCRIPTION, epilog=QUERY_EPILOG)
    )


def _configure_build(parser: argparse.ArgumentParser) -> None:
    parser.usage = "longspan search build INDEX INPUT [INPUT ...] --model MODEL [options]"
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help="a file or folder to read, or - for standard input")
    parser.add_argument("--model", metavar="MODEL", help="a folder, or org/name on the hub; an index remembers its own")
    parser.add_argument(
        "--sparse", metavar="MODEL", help="a sparse model (SPLADE, bge-m3) to stand beside it; queries then ask both"
    )
    _add_reading(parser.add_argument_group("reading"))
    _add_embedding(parser.add_argument_group("embedding"))
    _add_index(parser.add_argument_group("index"))
    _add_present(parser.add_argument_group("an index that is there"))
    parser.add_argument("--json", action="store_true", help="print a summary on stdout as JSON")
    add_model_options(parser)


def _add_reading(group: argparse._ArgumentGroup) -> None:
    """Where documents are in the inputs, and which of them count."""
    group.add_argument("--vectors", action="store_true", help="the inputs hold vectors")
    group.add_argument("--texts", metavar="FILE", help="the texts of the vectors in .npy files, one each, in order")
    add_format_options(group)
    add_folder_options(group)
    group.add_argument("--lines", action="store_true", help="each line of a text file is a document")
    group.add_argument("--whole-file", action="store_true", help="each text file is one document")
    group.add_argument(
        "--chunk-tokens", type=positive, metavar="N", help="cut texts, rows too, into passages of at most N tokens"
    )
    group.add_argument("--keep", action="append", default=[], metavar="FIELD", help="show this field with a result")
    group.add_argument("--key", metavar="FIELD", help="where a row has a key of its own (default: its file and line)")
    group.add_argument("--limit", type=positive, metavar="N", help="stop after N documents")
    group.add_argument("--skip-bad", action="store_true", help="count rows that cannot be used, and go on")


def _add_embedding(group: argparse._ArgumentGroup) -> None:
    """What a document is embedded with."""
    group.add_argument("--task", metavar="NAME", help="one of the model's tasks (default: its own for documents)")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts (default: for documents)")
    prompt.add_argument("--prompt", metavar="TEXT", help="a prompt to put before every text")
    group.add_argument("--truncate-dim", type=positive, metavar="N", help="keep the first N dimensions")
    group.add_argument(
        "--max-length", type=positive, metavar="N", help="tokens of a text that count (default: the model's)"
    )
    group.add_argument(
        "--on-truncate", choices=("warn", "error", "ignore"), default="warn", help="for longer texts (default: warn)"
    )
    group.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens to compute on at a time")
    group.add_argument(
        "--token-vectors", action="store_true", help="a vector of each token, of a model that makes both kinds"
    )


def _add_index(group: argparse._ArgumentGroup) -> None:
    """What the index keeps of a vector."""
    group.add_argument(
        "--store", choices=("codes", "int8", "float32", "float16", "binary"), default="int8",
        help="what candidates are scored with again: the bits alone (codes), int8 or float32; or how token vectors are "
        "kept: int8, float16 or binary (default: int8)",
    )  # fmt: skip
    group.add_argument(
        "--center", choices=("auto", "yes", "no"), default="auto",
        help="take the first documents' mean off before the signs become bits (default: where bits would fail without)",
    )  # fmt: skip
    group.add_argument("--query-sample", metavar="FILE", help="typical questions, whose own mean is taken off queries")


def _add_present(group: argparse._ArgumentGroup) -> None:
    """What becomes of an index that is there."""
    group.add_argument("--append", action="store_true", help="add documents that are new or have changed")
    group.add_argument(
        "--sync", action="store_true",
        help="bring it in step with the inputs: add what is new, replace what has changed, delete what is gone; "
        "without INPUT, with those of the last run",
    )  # fmt: skip
    group.add_argument("--resume", action="store_true", help="go on with the run that was stopped")
    group.add_argument("--force", action="store_true", help="replace it, once the new one is whole")


def _configure_delete(parser: argparse.ArgumentParser) -> None:
    parser.usage = "longspan search delete INDEX KEY [KEY ...] [options]"
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument("patterns", metavar="KEY", nargs="+", help="a key, a file, a folder or a glob")
    parser.add_argument("--dry-run", action="store_true", help="delete nothing, name what would go")
    parser.add_argument("--json", action="store_true", help="print a summary on stdout as JSON")


def _configure_query(parser: argparse.ArgumentParser) -> None:
    parser.usage = "longspan search query INDEX [WORD ...] [options]"
    parser.add_argument("index", metavar="INDEX", help="the folder of the index")
    parser.add_argument("words", metavar="WORD", nargs="*", help="the question")
    _add_asking(parser.add_argument_group("asking"))
    _add_finding(parser.add_argument_group("finding"))
    parser.add_argument(
        "--show",
        metavar="FILE.html",
        help="write a page instead: hits with pictures and, of token vectors, which word of the question matched where",
    )
    parser.add_argument("--full", action="store_true", help="print whole documents, not the sentence that matched")
    parser.add_argument(
        "--best", action=argparse.BooleanOptionalAction,
        help="find the sentence of each hit that answers best, which a terminal shows in bold (default: yes; with "
        "--json only if asked for)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON object a question")
    add_model_options(parser)


def _add_asking(group: argparse._ArgumentGroup) -> None:
    """What the questions are, and what embeds them."""
    group.add_argument("--file", metavar="FILE", help="questions: lines, rows of .jsonl, .csv, ..., or a picture")
    group.add_argument("--vectors", metavar="FILE.npy", help="vectors of questions, floats or uint8 codes")
    group.add_argument("--format", choices=FORMATS, metavar="KIND", help="what --file is (default: by suffix)")
    group.add_argument("--field", "--column", default="text", metavar="NAME", help="where a row has it (default: text)")
    group.add_argument("--model", metavar="MODEL", help="what embeds questions (default: the index's own)")
    group.add_argument("--task", metavar="NAME", help="one of the model's tasks (default: its own for queries)")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts (default: for queries)")
    prompt.add_argument("--prompt", metavar="TEXT", help="a prompt to put before every question")


def _add_finding(group: argparse._ArgumentGroup) -> None:
    """What is found, and in which order."""
    group.add_argument(
        "--top-k", "-k", type=positive, default=10, metavar="K", help="documents of an answer (default: 10)"
    )
    group.add_argument(
        "--oversample", type=positive, default=4, metavar="N", help="candidates for each of them (default: 4)"
    )
    group.add_argument(
        "--no-rescore", dest="rescore", action="store_false", help="order by the bits alone; scores are -distances"
    )
    group.add_argument(
        "--fusion", choices=FUSIONS,
        help="with a sparse model beside the dense one: by both's ranks (reciprocal rank fusion), by the sum of their "
        "scores, each brought to 0 to 1, or by one of them alone (default: ranks)",
    )  # fmt: skip
    group.add_argument(
        "--weights", type=two_weights, metavar="D,S", help="what the dense and the sparse list count (default: 1,1)"
    )
    group.add_argument("--rerank", metavar="MODEL", help="a reranker, which orders the candidates by reading them")
    group.add_argument(
        "--candidates", type=positive, default=50, metavar="N", help="documents that --rerank reads (default: 50)"
    )
