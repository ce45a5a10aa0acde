"""What a file is, by its name: the one table from suffix to kind, for all commands."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal, get_args

from longspan.audio.suffixes import SUFFIXES as SOUNDS
from longspan.images.suffixes import SUFFIXES as IMAGES
from longspan.video.suffixes import SUFFIXES as VIDEOS

if TYPE_CHECKING:
    from longspan.late_chunking.structure import StructuredUnit

Format = Literal[
    "text", "markdown", "rst", "html", "code", "jsonl", "json", "csv", "tsv", "parquet",
    "image", "pdf", "audio", "video",
]  # fmt: skip
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

SETTINGS, DOCUMENTS = "search.json", "documents.jsonl"  # in the folder of an index; see `documents.folder`

ROWS: Final[frozenset[Format]] = frozenset(("jsonl", "json", "csv", "tsv", "parquet"))  # a text a row
PROSE: Final[frozenset[Format]] = frozenset(("markdown", "rst", "html", "code"))  # a text a file, in every command
# For models that read them; others read a PDF file's text.
MEDIA: Final[frozenset[Format]] = frozenset(("image", "pdf", "audio", "video"))
NOUNS: Final[dict[Format, str]] = {"image": "an image", "pdf": "a PDF file", "audio": "a sound", "video": "a video"}
PLURALS: Final[dict[Format, str]] = {"image": "images", "pdf": "PDF files", "audio": "sounds", "video": "videos"}
ZIPPED: Final = (".gz", ".zst")  # behind the suffix that tells what lies within

_SUFFIXES: Final[dict[Format, str]] = {
    "text": "txt text log",
    "markdown": "md markdown mkd mdx qmd rmd",
    "rst": "rst rest adoc asciidoc org tex",
    "html": "html htm xhtml",
    "jsonl": "jsonl ndjson",
    "json": "json",
    "csv": "csv",
    "tsv": "tsv tab",
    "parquet": "parquet pq",
    "pdf": "pdf",
    "code": (
        "py pyi pyx pxd js mjs cjs jsx ts tsx vue svelte java kt kts scala groovy gradle c h cc cpp cxx hh hpp hxx inl "
        "cu cuh cl m mm cs fs fsx vb go rs swift rb php pl pm t lua r jl sh bash zsh fish ps1 bat cmd sql proto thrift "
        "graphql gql ex exs erl hrl hs lhs ml mli clj cljs edn el lisp scm rkt dart zig nim d v sv vhd vhdl f f90 pas "
        "asm s cmake mk mak tf hcl nix bzl css scss sass less xml xsd xsl yaml yml toml ini cfg conf properties po awk "
        "sed tcl vim"
    ),
}
KINDS: Final[dict[str, Format]] = {
    **{f".{suffix}": kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()},
    **dict.fromkeys(sorted(IMAGES), "image"),
    **dict.fromkeys(sorted(SOUNDS), "audio"),
    **dict.fromkeys(sorted(VIDEOS), "video"),
}
# Files that are known by their name alone, or by its beginning: README, README.Debian, changelog.1.
_NAMES: Final = {
    "prose": "readme license licence copying copyright notice authors contributors contributing changelog changes "
    "history news todo install thanks maintainers hacking faq bugs credits acknowledgments acknowledgements security "
    "support description metadata",
    "code": "makefile gnumakefile dockerfile containerfile jenkinsfile vagrantfile gemfile rakefile procfile justfile "
    "build workspace sconstruct sconscript cmakelists.txt meson.build",
}
_PROSE_NAMES, _CODE_NAMES = frozenset(_NAMES["prose"].split()), frozenset(_NAMES["code"].split())


def kind_of(name: str) -> Format | None:
    """What a file of this name is; None where the name does not tell."""
    path = PurePath(name.lower())
    is_zipped = path.suffix in ZIPPED
    if is_zipped:
        path = path.with_suffix("")
    if path.name in _CODE_NAMES:
        return "code"
    found = KINDS.get(path.suffix)
    if is_zipped and found in MEDIA:
        return None
    return "markdown" if found is None and path.name.split(".")[0] in _PROSE_NAMES else found


def unit_of(kind: Format | None) -> StructuredUnit | None:
    """How a file's text is cut: along its structure; None for what has none that is known."""
    if kind in ("markdown", "rst", "html"):
        return "markdown"
    return "code" if kind == "code" else None


def is_zipped(name: str) -> bool:
    """Whether it is compressed, by its suffix."""
    return PurePath(name).suffix.lower() in ZIPPED
