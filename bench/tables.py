"""The tables that stand for whole parts of longspan: figure, target, reached, share of the limit; one command each.

python -m bench.tables cpu-engine                     measures what the table needs, then prints it
python -m bench.tables retrieval a.json b.json        from runs that are there
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .command import add_options, setting_of
from .results import Report, joined_reports, write_report
from .run import find_benches, run_benches, select
from .table_lines import TABLES
from .table_parts import table_text


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """The options of `longspan bench table`."""
    parser.add_argument("name", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("results", type=Path, nargs="*", metavar="RESULTS.json", help="measure nothing, read these")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write TABLE.md and TABLE.json there")
    add_options(parser)


def make_table(options: argparse.Namespace) -> int:
    """What `longspan bench table` does. Returns: 0, or 1 where a bench failed. Raises: ValueError, OSError."""
    table = TABLES[options.name]
    setting = setting_of(options)
    failed: list[str] = []
    report: Report | None = None
    if options.results:
        report = joined_reports(options.results)
    else:
        for part in table.parts:
            measured, broken = run_benches(select(find_benches(), part.bench), part.setting(setting))
            failed += broken
            report = measured if report is None or measured is None else report.joined(measured)
    if report is None:
        raise ValueError(f"nothing that the table {options.name} needs could be measured")
    text = table_text(options.name, table, report)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{options.name}.md").write_text(f"{text}\n", encoding="utf-8")
        write_report(options.out / f"{options.name}.json", report)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a bench failed; 2 where an option is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=(__doc__ or "").partition("\n")[0])
    add_table_options(parser)
    try:
        return make_table(parser.parse_args(argv))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
