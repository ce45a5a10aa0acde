"""`longspan chunk`: its options, how it makes rows of documents, and what it says when it is done."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from longspan.cli.console.terminal import count
from longspan.cli.embedding.options import (
    add_files,
    add_meaning_options,
    add_model_options,
    add_reading_options,
    add_vector_options,
    add_writing_options,
    not_negative,
    positive,
)
from longspan.cli.embedding.plan import Layout, RowsRequest
from longspan.cli.embedding.provenance import provenance
from longspan.cli.embedding.rows import Done, RowsCommand, Work, place_of
from longspan.cli.files.records import Record
from longspan.cli.files.stage import Vectors
from longspan.documents.kinds import unit_of
from longspan.late_chunking.chunking import ChunkUnit, check_chunk_size
from longspan.late_chunking.document_chunks import MODES, ChunkMode
from longspan.late_chunking.windows import STRATEGIES, Chunks, Strategy
from longspan.vectors.quantize import Precision

if TYPE_CHECKING:
    from longspan.encoder import Encoder

DESCRIPTION = """\
Cut documents into chunks and give each chunk a vector: by late chunking, from token vectors that have seen the whole
document; or, to compare, from the chunk's text alone (--mode naive), or one vector a document (--mode whole).

Inputs are files, folders, or `-` for standard input. The suffix tells what they are, or --format. Here plain text is a
document a file; `embed` takes it as a text a line.
  text      .txt .log         a document a file; with --lines, a document a line
  markdown  .md .rst .html    a document a file, as are source code (.py .c .js and others), README, Makefile, .pdf
  jsonl     .jsonl .json      an object a line, the document in --field; or an array of objects
  csv, tsv  .csv .tsv         a header line, quotes as spreadsheets write them
  parquet   .parquet .pq      needs pip install 'longspan[parquet]'
All of them may be zipped (.gz, .zst), PDF apart. Texts are UTF-8, unless a mark or --encoding says otherwise.

Of a folder all files below it are read, but hidden ones and what a .gitignore names; what cannot be used in it is
counted and named at the end. Markdown, HTML and code are cut along their structure, so that no table's row, fence or
function is cut that fits.

A row a chunk, written aside and renamed when all are there: an error, Ctrl-C or a full disk leaves none.
  .jsonl    {"index": 0, "document": 0, "chunk": 0, "start": 0, "end": 120, "token_start": 0, "token_end": 31,
            "text": "...", "embedding": [...]}, with the fields of --keep before the text
  .parquet  columns of these names
  .npy      the vectors, (chunks, dim); the rest in a file beside it, .jsonl
What made the vectors (model, revision, fingerprint, dtype, prompt) is said in the metadata of a .parquet file, and
beside a .npy file in .npy.json.
`document` counts from 0 and `chunk` within its document; start and end are characters of the document, token_start and
token_end the tokens whose vectors are averaged, special ones and the prompt counted.
`file` names a document that is a file.
"""
EPILOG = """\
examples:
  longspan chunk jinaai/jina-embeddings-v2-small-en book.txt notes.md -o chunks.parquet
  longspan chunk ./my-model corpus.jsonl.gz --field body --keep id -o chunks.jsonl --resume
  longspan chunk ./my-model report.txt --chunks tokens --chunk-tokens 128 --chunk-overlap 16 -o report.npy
  longspan chunk ./my-model report.txt --mode naive -o - | head -1

Whether late chunking ranks better than chunks by themselves depends on the model and the texts: compare the modes.
"""


@dataclass(frozen=True, slots=True)
class ChunkRequest(RowsRequest):
    """What `longspan chunk` was asked for; each field is an option of that name."""

    lines: bool
    chunks: ChunkUnit | Literal["auto"]
    chunk_tokens: int | None
    chunk_overlap: int
    window: int | None
    overlap: int | None
    mode: ChunkMode
    strategy: Strategy
    special_tokens: bool
    text: bool


@dataclass(frozen=True, slots=True)
class ChunkSummary:
    """What a finished run did, as `--json` prints it."""

    output: str
    documents: int
    chunks: int
    dim: int  # of a row of the output: a binary code has dim / 8
    precision: Precision
    mode: ChunkMode
    resumed_documents: int  # of `documents`, those that an earlier run had done
    skipped: int  # bad rows, with --skip-bad
    passed_over: dict[str, object]  # files of folders, by reason
    seconds: float
    documents_per_second: float


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `chunk`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "longspan chunk MODEL INPUT [INPUT ...] -o OUT [options]"
    add_files(parser)
    reading = parser.add_argument_group("reading")
    add_reading_options(reading, "document", "documents")
    reading.add_argument("--lines", action="store_true", help="of plain text, each line is a document")
    reading.add_argument(
        "--max-length", type=positive, metavar="N", help="tokens of a document that count (default: all)"
    )
    _add_cutting(parser.add_argument_group("cutting"))
    meaning = parser.add_argument_group("embedding")
    meaning.add_argument("--mode", choices=MODES, default="late", help="how a chunk gets its vector (default: late)")
    meaning.add_argument(
        "--window", type=positive, metavar="N", help="tokens that the model sees at once (default: its own limit)"
    )
    meaning.add_argument(
        "--overlap", type=not_negative, metavar="N",
        help="tokens that neighbouring windows share (default: a quarter of the window, 512 at most)",
    )  # fmt: skip
    meaning.add_argument(
        "--strategy", choices=STRATEGIES, default="context",
        help="which window a token's vector comes from: where it sees most on both sides, the earlier one, or what the "
        "authors' code does (default: context)",
    )  # fmt: skip
    meaning.add_argument(
        "--special-tokens", action=argparse.BooleanOptionalAction, default=True,
        help="count special tokens and prompt to the first and last chunk, or not (default: as published, count them)",
    )  # fmt: skip
    add_meaning_options(meaning, "document")
    add_vector_options(parser)
    writing = parser.add_argument_group("writing")
    add_writing_options(writing, "write this field of the document too, as often as wanted")
    writing.add_argument("--no-text", dest="text", action="store_false", help="leave the chunks' texts out")
    add_model_options(parser)


def _add_cutting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--chunks", choices=("auto", *get_args(ChunkUnit)), default="auto",
        help="what to cut into (default: auto, along the structure of Markdown, HTML and code, and sentences else)",
    )  # fmt: skip
    group.add_argument(
        "--chunk-tokens", type=_size, default=256, metavar="N",
        help="tokens of a chunk at most, to which sentences and paragraphs are joined; none leaves each alone "
        "(default: 256)",
    )  # fmt: skip
    group.add_argument(
        "--chunk-overlap", type=not_negative, default=0, metavar="N",
        help="tokens that neighbouring chunks of tokens share (default: 0)",
    )  # fmt: skip


def _size(text: str) -> int | None:
    """A whole number from 1 up, or "none", as an argparse type."""
    return None if text == "none" else positive(text)


def _work(encoder: Encoder, request: ChunkRequest) -> Work[Chunks]:
    """Rows of a document's chunks, with the request's options."""
    overlap = request.chunk_overlap

    def unit(record: Record) -> ChunkUnit:
        return (unit_of(record.form) or "sentence") if request.chunks == "auto" else request.chunks

    def chunked(records: Sequence[Record]) -> list[Chunks]:
        found = encoder.encode_chunks(
            [record.text for record in records],
            chunks=[unit(record) for record in records],
            chunk_tokens=request.chunk_tokens,
            chunk_overlap=overlap,
            window=request.window,
            overlap=request.overlap,
            task=request.task,
            mode=request.mode,
            strategy=request.strategy,
            special_tokens=request.special_tokens,
            prompt_name=request.prompt_name,
            prompt=request.prompt,
            truncate_dim=request.truncate_dim,
            normalize_embeddings=request.normalize,
            max_length=request.max_length,
            batch_tokens=request.batch_tokens,
            show_progress_bar=False,
        )
        assert isinstance(found, list), "encode_chunks of a list gives a list"
        return found

    def make(records: Sequence[Record]) -> tuple[Vectors, list[Chunks]]:
        found = chunked(records)
        return np.concatenate([np.empty((0, dim), np.float32), *(chunks.embeddings for chunks in found)]), found

    def kept(number: int, record: Record, chunks: Chunks) -> list[str]:
        return list(_rows(number, record, chunks, with_text=request.text))

    check_chunk_size("sentence" if request.chunks == "auto" else request.chunks, request.chunk_tokens, overlap)
    chunked([])  # refuses wrong options before anything is read
    dim = request.truncate_dim or encoder.dim
    return Work(
        make,
        kept,
        dim=dim,
        noun="document",
        fewest=1,
        fingerprint=lambda: encoder.fingerprint,
        about=lambda: provenance(encoder, request, "document"),
    )


def _rows(number: int, record: Record, chunks: Chunks, *, with_text: bool) -> Iterator[str]:
    """Each chunk's fields as JSON, but its vector."""
    kept = json.loads(record.kept)
    spans = zip(chunks.spans, chunks.token_spans.tolist(), chunks.texts, strict=True)
    for place, ((start, end), (token_start, token_end), text) in enumerate(spans):
        row = {"document": number, "chunk": place, "start": start, "end": end}
        row |= {"token_start": token_start, "token_end": token_end, **kept}
        yield json.dumps(row | {"text": text} if with_text else row, ensure_ascii=False)


def _summary(request: ChunkRequest, done: Done) -> tuple[ChunkSummary, str]:
    summary = ChunkSummary(
        output=request.output,
        documents=done.records,
        chunks=done.rows,
        dim=done.dim,
        precision=request.precision,
        mode=request.mode,
        resumed_documents=done.resumed_records,
        skipped=done.skipped,
        passed_over=done.passed_over,
        seconds=done.seconds,
        documents_per_second=done.records_per_second,
    )
    what = f"{count(summary.chunks, 'chunk')} of {count(summary.documents, 'document')}"
    speed = f"{summary.seconds:.1f} s, {summary.documents_per_second:,.1f} documents/s"
    return summary, f"{place_of(summary.output)}: {what}, {summary.dim} {summary.precision} each ({speed})"


def _layout(request: ChunkRequest) -> Layout:
    return Layout(
        whole="none" if request.lines else "text",
        before=("document", "chunk", "start", "end", "token_start", "token_end"),
        after=("text",) if request.text else (),
        has_file=True,
        is_beside=True,
    )


run = RowsCommand(ChunkRequest, _layout, _work, _summary).run
