"""What `longspan search build` is asked for, checked as far as it can be before a model is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.options import ModelOptions, reading_of
from longspan.cli.files.inputs import STDIN, Input, find_inputs
from longspan.cli.files.passed_over import PassedOver
from longspan.documents.folder import Settings, is_unborn, load_index, read_settings
from longspan.documents.kinds import SETTINGS, Format

if TYPE_CHECKING:
    from longspan.documents.create import Center
    from longspan.documents.folder import SearchIndex
    from longspan.pipeline.options import OnTruncate
    from longspan.search.rows import Store
    from longspan.search.token_rows import TokenStore
    from longspan.text.tasks import Role

# Options of a run that change no row of the index, so that they may differ when it is resumed.
_FREE_OPTIONS = {
    "index",
    "inputs",
    "batch_tokens",
    "append",
    "sync",
    "force",
    "resume",
    "model",
    "sparse",
    "texts",
    "query_sample",
}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What `longspan search build` was asked for; each field is an option of that name."""

    index: str
    inputs: tuple[str, ...]
    model: str | None
    sparse: str | None
    vectors: bool
    texts: str | None
    format: Format | None
    field: str
    encoding: str | None
    delimiter: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    hidden: bool
    no_ignore: bool
    lines: bool
    whole_file: bool
    chunk_tokens: int | None
    keep: tuple[str, ...]
    limit: int | None
    skip_bad: bool
    task: str | None
    prompt_name: str | None
    prompt: str | None
    truncate_dim: int | None
    max_length: int | None
    on_truncate: OnTruncate
    batch_tokens: int | None
    token_vectors: bool
    store: Store | TokenStore
    center: Center
    query_sample: str | None
    key: str | None
    append: bool
    sync: bool
    force: bool
    resume: bool


def checked_inputs(request: BuildRequest, passed: PassedOver) -> list[Input]:
    """The inputs, after what can be said before any work. Raises: CommandError, FileNotFoundError."""
    folder = Path(os.path.realpath(request.index))
    conflicts = {
        "--append, --sync, --resume and --force exclude each other": (
            request.append + request.sync + request.resume + request.force > 1
        ),
        "--sync needs all documents; --limit leaves some out": request.sync and request.limit,
        "--sync reads standard input only with --key, which tells its rows apart": (
            request.sync and STDIN in request.inputs and request.key is None
        ),
        "--resume needs input files; standard input cannot be read again": request.resume and STDIN in request.inputs,
        "--texts is for --vectors; without it the inputs are the texts": request.texts and not request.vectors,
        "--lines and --whole-file exclude each other": request.lines and request.whole_file,
        "--model is missing: texts need one; inputs that hold vectors need --vectors": (
            not (request.vectors or request.model or (folder.exists() and not request.force))
        ),
        "--query-sample needs --model, which embeds it": request.query_sample and request.vectors,
    }
    for sentence, holds in conflicts.items():
        if holds:
            raise CommandError(sentence)
    if not folder.parent.is_dir():
        raise CommandError(f"{request.index}: the folder {folder.parent} does not exist")
    if request.query_sample and not Path(request.query_sample).is_file():
        raise FileNotFoundError(f"--query-sample: {request.query_sample}: no such file")
    if not request.vectors:
        if (array := next((name for name in request.inputs if name.endswith(".npy")), None)) is not None:
            raise CommandError(f"{array} holds vectors; give --vectors")
        return find_inputs(request.inputs, reading=reading_of(request), takes_media=True, passed=passed)
    for name in request.inputs:
        if not name.endswith((".npy", ".parquet", ".pq")):
            raise CommandError(f"{name}: vectors are read from .npy and .parquet files")
    return find_inputs(request.inputs, format="parquet")


def working_folder(request: BuildRequest) -> tuple[Path, Path]:
    """Where the run writes, and where the index is to be: one folder, unless the run replaces an index, which then
    stays as it is until the new one beside it is whole."""
    target = Path(os.path.realpath(request.index))
    beside = target.with_name(f"{target.name}.new")
    replaces = target.exists() if request.force else request.resume and beside.exists()
    return (beside if replaces else target), target


def make_settings(request: BuildRequest, folder: Path, options: ModelOptions) -> Settings:
    """Those of the index that is there, or new ones. Raises: CommandError, the request contradicts the former."""
    model = _absolute(request.model)
    begins = not (request.append or request.resume or (request.sync and folder.exists()))
    if begins or is_unborn(folder):
        return Settings(model, options.revision, request.truncate_dim, normalize=None, sparse=_absolute(request.sparse))
    settings, _ = read_settings(folder)
    if model is not None and settings.model is not None and model != settings.model:
        raise CommandError(f"{request.index} was built with the model {settings.model}, not {model}")
    if model is None and settings.model is None and not request.vectors:
        raise CommandError(f"{request.index} was built from vectors, and no model is known; give --model")
    sparse = _absolute(request.sparse)
    if sparse is not None and settings.sparse is not None and sparse != settings.sparse:
        raise CommandError(f"{request.index} has the sparse model {settings.sparse}, not {sparse}")
    return replace(settings, model=settings.model or model, sparse=settings.sparse or sparse)


def _absolute(model: str | None) -> str | None:
    """A folder's whole path: queries may be asked from another one."""
    is_folder = model is not None and Path(model).expanduser().is_dir()
    return str(Path(model).expanduser().resolve()) if model is not None and is_folder else model


def find_present(request: BuildRequest, folder: Path, about: Mapping[str, object]) -> tuple[SearchIndex | None, int]:
    """What the run goes on from, and how many documents were there before it began. Raises: CommandError."""
    if not folder.exists() or is_unborn(folder) or request.force:
        for present in {folder, Path(os.path.realpath(request.index))}:
            if present.exists() and not is_unborn(present):
                read_settings(present)  # nothing else is deleted
        return None, 0
    if not (request.append or request.resume or request.sync):
        raise CommandError(
            f"{request.index} exists; give --append to add to it, --sync to bring it in step with the inputs, or "
            "--force to replace it"
        )
    _, run = read_settings(folder)
    index = load_index(folder)
    if request.append or request.sync:
        if not (run.is_done or request.sync):
            raise CommandError(f"the last run on {request.index} was stopped; go on with it by --resume")
        return index, len(index) if index is not None else 0
    if run.is_done:
        raise CommandError(f"the last run on {request.index} is done; there is nothing to resume")
    now = json.loads(json.dumps(about))
    other = next((name for name in now if run.about.get(name) != now[name]), None)
    if other is not None:
        raise CommandError(
            f"{request.index} holds a run of another kind ({other} differs); give the same inputs and options"
        )
    return index, run.first


def describe_run(request: BuildRequest, inputs: list[Input]) -> dict[str, object]:
    """What must be the same for a run to go on where another one stopped."""
    files = [source.path for source in inputs if source.path is not None]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    options = {name: value for name, value in asdict(request).items() if name not in _FREE_OPTIONS}
    given = [name if name == STDIN else os.path.abspath(name) for name in request.inputs]
    resolved = [os.fsencode(path.resolve()).decode("utf-8", "backslashreplace") for path in files]
    texts = None if request.texts is None else os.path.abspath(request.texts)
    return {"inputs": resolved, "state of the inputs": states, "given": given, "given texts": texts, **options}


def remembered(request: BuildRequest, folder: Path, about: Mapping[str, object]) -> dict[str, object]:
    """What the folder is to say of the run, with all inputs of it and those before, for --sync without inputs."""
    own = {"given": about["given"], "files": about["inputs"]}
    if (request.append or request.resume) and (folder / SETTINGS).is_file():
        before = read_settings(folder)[1].about.get("everything")
        for name, found in own.items():
            known = before.get(name) if isinstance(before, dict) else None
            if isinstance(known, list) and isinstance(found, list):
                own[name] = list(dict.fromkeys([*known, *found]))
            else:
                own[name] = None  # an index that does not say what it was built from
    return {**about, "everything": own}


def recalled(request: BuildRequest) -> BuildRequest:
    """The request; for --sync without inputs with those of the last run, and its options.

    Raises: CommandError, none are known.
    """
    if request.inputs:
        return request
    if not request.sync:
        raise CommandError("name an input: a file, a folder, or - for standard input")
    _, run = read_settings(Path(os.path.realpath(request.index)))
    everything = run.about.get("everything")
    given = everything.get("given") if isinstance(everything, dict) else None
    if not isinstance(everything, dict) or not isinstance(given, list) or not given or STDIN in given:
        raise CommandError(f"{request.index} does not say what it was built from; name the inputs")
    known = {field.name for field in fields(BuildRequest)} - _FREE_OPTIONS
    options = {name: value for name, value in run.about.items() if name in known}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    texts = run.about.get("given texts")
    request = replace(request, texts=texts if isinstance(texts, str) else None)
    files = everything.get("files")
    was_file = set(files) if isinstance(files, list) else set()
    # A file that is no longer there is gone; a folder that is not there is a mistake, or a disk that is not mounted.
    inputs = tuple(name for name in map(str, given) if os.path.exists(name) or os.path.realpath(name) not in was_file)
    if not inputs:
        raise CommandError(f"none of the files that {request.index} was built from is there; nothing was deleted")
    return replace(request, inputs=tuple(map(_from_here, inputs)), **options)  # type: ignore[arg-type]  # as `asdict` gave them


def _from_here(path: str) -> str:
    """A path as it would be typed here, relative where it lies below: hits and warnings then name files as before."""
    below = os.path.relpath(path)
    return path if below == os.pardir or below.startswith((os.pardir + os.sep, STDIN)) else below


@dataclass(frozen=True, slots=True)
class Encoding:
    """How texts become vectors: as `stream.EncodeOptions`."""

    role: Role
    truncate_dim: int | None
    normalize: bool | None
    task: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    max_length: int | None = None
    on_truncate: OnTruncate = "warn"
    batch_tokens: int | None = None


def document_encoding(request: BuildRequest, settings: Settings) -> Encoding:
    """Of the index's documents."""
    return Encoding(
        role="document",
        truncate_dim=settings.truncate_dim,
        normalize=settings.normalize,
        task=request.task,
        prompt_name=request.prompt_name,
        prompt=request.prompt,
        max_length=request.max_length,
        on_truncate=request.on_truncate,
        batch_tokens=request.batch_tokens,
    )
