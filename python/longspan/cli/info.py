"""`longspan info`: what is installed here; `model_info.py` and `search/info.py` describe what it is given."""

from __future__ import annotations

import argparse
import platform
from dataclasses import asdict, dataclass
from importlib import metadata

from longspan import __version__
from longspan.cli.console import terminal
from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.options import ModelOptions, add_model_options, from_args
from longspan.cli.model_info import ModelInfo, RerankerInfo, describe_model, model_rows, reranker_rows
from longspan.cli.search.info import describe_index, index_as_json, index_rows, is_index

DESCRIPTION = """\
Show this installation; or, of MODEL, its shape, prompts and files, and which kernels would run it; or, of the folder of
an index, what it holds, and whether its vectors lie in a narrow cone, where sign bits cannot tell them apart.
"""
EPILOG = """\
examples:
  longspan info
  longspan info sentence-transformers/all-MiniLM-L6-v2
  longspan info ./my-model --json
  longspan info notes.index
"""
OPTIONAL_PACKAGES = ("pyarrow", "torch", "triton")


@dataclass(frozen=True, slots=True)
class InstallationInfo:
    """What longspan runs on."""

    longspan: str
    isa: str
    available_isas: list[str]
    multiplies_bf16: bool  # else bfloat16 is widened to float32 on the way: half the memory, and no faster
    threads: int
    python: str
    platform: str
    numpy: str
    tokenizers: str
    optional: dict[str, str | None]  # version of each optional package; None: not installed


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `info`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("model", metavar="MODEL|INDEX", nargs="?", help="a folder, or org/name on the Hugging Face hub")
    parser.add_argument("--model", dest="named", metavar="MODEL", help="the same, as the other commands have it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    """Print what is known; nothing is computed."""
    if args.named is not None:
        if args.model is not None:
            raise CommandError(f"{args.model} and --model {args.named}: one at a time")
        args.model = args.named
    if args.model is not None and is_index(args.model):
        index = describe_index(args.model)
        print(terminal.json_line(index_as_json(index)) if args.json else _titled(index.index, index_rows(index)))
        return
    info = installation() if args.model is None else describe_model(args.model, from_args(ModelOptions, args))
    if args.json:
        print(terminal.json_line(asdict(info)))
    elif isinstance(info, ModelInfo):
        print(_titled(info.model, model_rows(info)))
    elif isinstance(info, RerankerInfo):
        print(_titled(info.model, reranker_rows(info)))
    else:
        print(_titled(f"longspan {info.longspan}", _installation_rows(info)))


def _titled(title: str, rows: list[tuple[str, str]]) -> str:
    return f"{terminal.style(title, 'bold')}\n{terminal.table(rows)}"


def installation() -> InstallationInfo:
    """What `longspan info` prints. Raises: ImportError, the compiled module is not there."""
    from longspan import _core

    return InstallationInfo(
        longspan=__version__,
        isa=_core.isa(),
        available_isas=_core.available_isas(),
        multiplies_bf16=_core.multiplies_bf16(),
        threads=_core.num_threads(),
        python=platform.python_version(),
        platform=platform.platform(),
        numpy=metadata.version("numpy"),
        tokenizers=metadata.version("tokenizers"),
        optional={name: _version(name) for name in OPTIONAL_PACKAGES},
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _installation_rows(info: InstallationInfo) -> list[tuple[str, str]]:
    return [
        ("instruction set", f"{info.isa} (there are {', '.join(info.available_isas)}; LONGSPAN_ISA=... takes another)"),
        ("bfloat16", "multiplied as it is" if info.multiplies_bf16 else "half the memory, no faster than float32 here"),
        ("threads", str(info.threads)),
        ("python", f"{info.python} on {info.platform}"),
        ("numpy", info.numpy),
        ("tokenizers", info.tokenizers),
        *((name, version or "not installed (optional)") for name, version in info.optional.items()),
    ]
