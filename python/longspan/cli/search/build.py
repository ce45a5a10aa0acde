"""The work of `longspan search build`: files to an index that can be asked, saved as it grows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from longspan.cli.console.failures import CommandError, end_with
from longspan.cli.console.terminal import count
from longspan.cli.embedding.options import ModelOptions
from longspan.cli.embedding.stream import Tally, embedded, encode_with, good_records
from longspan.cli.files.inputs import Input, find_inputs
from longspan.cli.files.passed_over import PassedOver
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection
from longspan.cli.files.stage import Vectors
from longspan.cli.search.plan import (
    BuildRequest,
    Encoding,
    checked_inputs,
    describe_run,
    document_encoding,
    find_present,
    make_settings,
    recalled,
    remembered,
    working_folder,
)
from longspan.cli.search.sources import DocumentBlock, Keys, text_records, vector_blocks
from longspan.cli.search.tokens import (
    TokenRows,
    check_build,
    check_kind,
    encode_either,
    has_tokens,
    is_late_interaction,
)
from longspan.documents.alone import alone
from longspan.documents.create import SAMPLE, new_index, new_store
from longspan.documents.folder import IndexWriter, Settings, load_index
from longspan.documents.ledger import Ledger, how_made, key_of_path
from longspan.documents.sparse import follow
from longspan.vectors.origin import check_added

if TYPE_CHECKING:
    from longspan.cli.search.tokens import AnyEncoder
    from longspan.documents.folder import SearchIndex
    from longspan.encoder import Encoder
    from longspan.late_chunking.chunking import ChunkUnit

_MOST_SAMPLE_QUERIES = 4096


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a finished run did, as `--json` prints it."""

    index: str
    documents: int  # passages in the index now
    added: int  # passages
    deleted: int
    resumed: int  # of `added`, those of an earlier run that was stopped
    new: int  # documents, each of one passage or more
    changed: int
    unchanged: int
    gone: int
    skipped: int  # bad rows, with --skip-bad
    passed_over: dict[str, object]  # files of folders, by reason
    seconds: float
    is_centered: bool  # a mean is taken off before signs become bits
    advice: str | None  # what is wrong with the codes and what to do


def build(request: BuildRequest, options: ModelOptions) -> BuildSummary:
    """Make or extend the index; no other process may build the same one meanwhile.

    Raises: CommandError, FileNotFoundError: what stopped it, and what became of the index; Stopped, on Ctrl-C.
    """
    passed = PassedOver()
    request = recalled(request)
    inputs = checked_inputs(request, passed)
    with alone(Path(os.path.realpath(request.index)), request.index):
        return _build(request, options, inputs, Tally(passed=passed))


def _build(request: BuildRequest, options: ModelOptions, inputs: list[Input], tally: Tally) -> BuildSummary:
    started = time.perf_counter()
    folder, target = working_folder(request)
    texts = find_inputs([request.texts], format=request.format) if request.texts else []
    settings, about = make_settings(request, folder, options), describe_run(request, inputs)
    index, first = find_present(request, folder, about)
    encoder = _encoder(request, options, settings, index)
    # At once, though it runs last: a name that is none is told before hours of work.
    sparse = None if settings.sparse is None else options.open_sparse(settings.sparse)
    if encoder is not None and index is None and not is_late_interaction(encoder):
        # Documents are ranked by the dot product, which is the cosine then.
        settings = replace(settings, normalize=None if encoder.similarity_fn_name == "dot" else True)
    origin = None if encoder is None else encoder.origin
    if index is None and folder.exists():
        shutil.rmtree(folder)
    ledger = Ledger.read(folder, index)
    for name in tally.passed.unreadable:
        ledger.keep_file(key_of_path(name, target))
    keys = Keys(
        target,
        request.key,
        request.key in request.keep,
        how_made(request.task, request.prompt_name, request.prompt, request.max_length),
        ledger,
    )
    about = remembered(request, folder, about)
    writer = IndexWriter(folder, settings, about, index, first=first, target=target, origin=origin, ledger=ledger)
    resumed = max(len(index) - first, 0) if index is not None and request.resume else 0
    with closing(writer):
        try:
            if encoder is None:
                blocks = vector_blocks(request, inputs, texts, keys)
            else:
                blocks = _text_blocks(request, settings, encoder, inputs, tally, keys)
            if index is None:
                blocks = _begin(writer, request, settings, blocks, encoder)
            for vectors, lines in blocks:
                writer.append(_fitting(vectors, writer.index), lines)
            finished = _settled(writer, ledger, request)
            if sparse is not None:
                follow(writer.folder, sparse, request.max_length, finished.ids)
            writer.finish()
        except BaseException as error:
            _give_up(error, writer, request)
    tally.report("; --chunk-tokens N cuts them into passages instead")
    return _summary(request.index, finished, writer, ledger, tally, resumed, time.perf_counter() - started)


def _summary(
    name: str, index: SearchIndex, writer: IndexWriter, ledger: Ledger, tally: Tally, resumed: int, seconds: float
) -> BuildSummary:
    from longspan.search import IndexInfo

    info = index.info()
    return BuildSummary(
        index=name,
        documents=len(index),
        added=writer.added + resumed,
        deleted=writer.deleted,
        resumed=resumed,
        **asdict(ledger.changes()),
        skipped=tally.skipped,
        passed_over=tally.passed.as_json(),
        seconds=round(seconds, 3),
        is_centered=isinstance(info, IndexInfo) and info.has_center_documents,
        advice=info.advice if isinstance(info, IndexInfo) else None,
    )


def _encoder(
    request: BuildRequest, options: ModelOptions, settings: Settings, index: SearchIndex | None
) -> AnyEncoder | None:
    """What makes vectors of the inputs; None where they are vectors. Raises: CommandError, it does not fit."""
    if request.vectors:
        if request.token_vectors:
            raise CommandError("--token-vectors is for models that make them; these are vectors of whole texts")
        return None
    wants_tokens = request.token_vectors or (index is not None and has_tokens(index))
    encoder = options.open_either(settings.model or "", prefers_tokens=wants_tokens)
    if request.token_vectors and not is_late_interaction(encoder):
        raise CommandError("--token-vectors is for models that make them; this one makes one vector a text")
    if is_late_interaction(encoder):
        check_build(request)
    if index is not None:
        check_kind(request.index, index, is_late_interaction(encoder))
        check_added(request.index, index.origin, encoder.origin)
    return encoder


def _settled(writer: IndexWriter, ledger: Ledger, request: BuildRequest) -> SearchIndex:
    """The index, saved, without what is outdated, and with --sync without what is gone.

    Raises: CommandError, the inputs hold nothing.
    """
    index = writer.index
    if index is None or not len(index) or (request.sync and not ledger.has_met_any):
        raise CommandError(f"there is no {'vector' if request.vectors else 'text'} in the inputs")
    writer.delete(ledger.leftovers())
    if request.sync:
        writer.delete(ledger.gone())
    writer.save()
    return index


def _text_blocks(
    request: BuildRequest, settings: Settings, encoder: AnyEncoder, inputs: list[Input], tally: Tally, keys: Keys
) -> Iterator[DocumentBlock]:
    from longspan.late_chunking.chunking import split_document

    def split(text: str, most: int, unit: ChunkUnit) -> list[tuple[int, int]]:
        return split_document(text, encoder.tokenizer, most, unit=unit)

    encode_inputs = encode_either(encoder, document_encoding(request, settings))

    def encode(block: Sequence[Record]) -> Vectors | TokenRows:
        return encode_inputs([record.input for record in block])

    records = text_records(request, inputs, split, tally, encoder=encoder, keys=keys)
    for vectors, block in embedded(records, encode, tally, inputs=inputs, limit=request.limit):
        yield vectors, [record.kept for record in block]


def _begin(
    writer: IndexWriter,
    request: BuildRequest,
    settings: Settings,
    blocks: Iterator[DocumentBlock],
    encoder: AnyEncoder | None,
) -> Iterator[DocumentBlock]:
    """Make the index of what the first rows say; all rows again."""
    if encoder is not None and is_late_interaction(encoder):
        writer.index = new_store(settings.truncate_dim or encoder.dim, request.store)
        return blocks
    head: list[DocumentBlock] = []
    while sum(len(lines) for _, lines in head) < SAMPLE and (block := next(blocks, None)) is not None:
        head.append(block)
    arrays = [vectors for vectors, _ in head if isinstance(vectors, np.ndarray)]
    if arrays:
        kind = arrays[0].dtype, arrays[0].shape[1]  # another one is refused when it is added
        sample = np.concatenate([vectors for vectors in arrays if (vectors.dtype, vectors.shape[1]) == kind])
        queries = None
        if request.query_sample and encoder is not None and request.center != "no":
            queries = _query_sample(request, settings, encoder)
        writer.index = new_index(sample, queries, store=request.store, center=request.center)
    return chain(head, blocks)


def _query_sample(request: BuildRequest, settings: Settings, encoder: Encoder) -> Vectors:
    assert request.query_sample is not None
    sources = find_inputs([request.query_sample])
    rows = read_records(sources, Selection(request.field))
    texts = [record.text for record in good_records(rows, Tally(), keep=(), skip_bad=None) if record.text.strip()]
    if not texts:
        raise CommandError(f"--query-sample: {request.query_sample} holds no text")
    return encode_with(encoder, Encoding("query", settings.truncate_dim, settings.normalize, on_truncate="ignore"))(
        texts[:_MOST_SAMPLE_QUERIES]
    )


def _fitting(vectors: Vectors | TokenRows, index: SearchIndex | None) -> Vectors | TokenRows:
    """The vectors as the index takes them. Raises: CommandError, they are of another shape."""
    assert index is not None, "made of the first rows"
    check_kind("the index", index, isinstance(vectors, list))
    if isinstance(vectors, list):
        return vectors
    dim = vectors.shape[1] * (8 if vectors.dtype == np.uint8 else 1)
    if dim != index.dim:
        raise CommandError(f"the vectors have {dim} dimensions, but the index has {index.dim}")
    return vectors


def _give_up(error: BaseException, writer: IndexWriter, request: BuildRequest) -> NoReturn:
    """Leave nothing behind, or what a resumed run can use, and say which; then the error goes on."""
    is_replacing = writer.folder != writer.target
    saved = load_index(writer.folder)
    if saved is None:
        shutil.rmtree(writer.folder, ignore_errors=True)
        end_with(error, f"{writer.target} is as it was" if is_replacing else f"nothing was written to {writer.target}")
    kept = count(len(saved), "document")
    if is_replacing:
        kept = f"{writer.target} is as it was; {kept} of the new one"
    how = " with --resume in place of --force" if is_replacing else "" if request.sync else " with --resume"
    end_with(error, f"{kept} kept, and the same command{how} goes on from there")
