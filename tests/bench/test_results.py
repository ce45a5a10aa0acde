"""Records: written whole, read back as they were, refused where they are not ours; two of them compared."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bench.case import OURS
from bench.compare import compare, comparison_text, ratios_agree
from bench.results import SCHEMA, Entry, Report, Result, joined_reports, read_report, write_report
from bench.timing import Spread
from longspan.cli import main


def entry(name: str, median: float, ratio: float | None = None) -> Entry:
    spread = Spread(median * 0.99, median, median * 1.01)
    kept = {"ratio": Spread(ratio, ratio, ratio), "against": OURS} if ratio else {}
    return Entry(name, "float32", value=spread, rounds=(median, median), error=1e-7, limit=1e-5, **kept)  # type: ignore[arg-type]


def report(ours: float = 1.0, peer: float = 2.0) -> Report:
    result = Result("linear", {"rows": 8}, (entry(OURS, ours), entry("peer", peer, peer / ours)), "GFLOP/s", "rows")
    return Report({"cpu": "test", "threads": 2}, (result,), {"fma": 100.0}, {"gone": "why"}, ("busy",), "cmd", "now")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    write_report(tmp_path / "a.json", report())
    assert read_report(tmp_path / "a.json") == report()
    assert json.loads((tmp_path / "a.json").read_text())["schema"] == SCHEMA
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_keys_of_newer_writers_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_report(path, report())
    body = json.loads(path.read_text())
    body["results"][0]["entries"][0]["new"] = body["new"] = 1
    path.write_text(json.dumps(body))
    assert read_report(path) == report()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no results file: "),
        ("[]", '"kind" must be "longspan-bench"'),
        ('{"kind": "longspan-bench", "schema": 1}', "has schema 1, this version reads 2; measure again"),
        ('{"kind": "longspan-bench", "schema": 2}', "is no results file: 'results'"),
        ('{"kind": "longspan-bench", "schema": 2, "results": [{}], "warnings": []}', "is no results file: 'entries'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_report(path)
    with pytest.raises(FileNotFoundError, match="there is no results file"):
        read_report(tmp_path / "none.json")


def test_runs_are_joined(tmp_path: Path) -> None:
    other = replace(report(), ceilings={"fma": 90.0, "dpbf16": 7.0}, absent={"also": "why"})
    for name, each in (("a", report()), ("b", other)):
        write_report(tmp_path / name, each)
    joined = joined_reports([tmp_path / "a", tmp_path / "b"])
    assert len(joined.results) == 2
    assert joined.ceilings == {"fma": 100.0, "dpbf16": 7.0}
    assert joined.absent == {"gone": "why", "also": "why"} and joined.warnings == ("busy",)


def test_runs_of_two_machines_are_not_joined(tmp_path: Path) -> None:
    for name, cpu in (("a", "one"), ("b", "another")):
        write_report(tmp_path / name, replace(report(), machine={"cpu": cpu}))
    with pytest.raises(ValueError, match="b was not measured on what .*a was: cpu is one there and another here"):
        joined_reports([tmp_path / "a", tmp_path / "b"])


def test_what_became_slower_is_told() -> None:
    rows = compare(report(ours=1.0), report(ours=1.5))
    assert [(row.contestant, row.verdict, row.is_regression) for row in rows] == [
        (OURS, "slower", True),
        ("peer", "same", False),
    ]
    text = comparison_text(report(ours=1.0), report(ours=1.5), rows)
    assert "slower   linear rows=8  longspan  1.00 s -> 1.50 s  +50%" in text
    assert "ratios to ours: 0 of 1 agree within 10%; the largest change is 33% (linear rows=8, peer)" in text
    assert text.endswith("2 compared, 1 of ours worse")


def test_two_runs_agree_or_do_not() -> None:
    first = report()
    with_latency = [replace(each, latency={"p50": 1.0}, least_ratio=2.0) for each in first.results[0].entries]
    second = replace(first, results=(replace(first.results[0], entries=tuple(with_latency)),))
    rows = compare(second, second)
    assert ratios_agree(rows)
    assert "ratios of the least times to ours: 2 of 2 agree" in comparison_text(second, second, rows)
    assert not ratios_agree(compare(report(ours=1.0), report(ours=1.5)))


def test_changes_within_the_spread_or_the_threshold_are_none() -> None:
    assert {row.verdict for row in compare(report(1.0), report(1.05))} == {"same"}
    wide = replace(entry(OURS, 1.5), value=Spread(0.9, 1.5, 2.0))
    noisy = replace(report(), results=(replace(report().results[0], entries=(wide,)),))
    assert [row.verdict for row in compare(report(), noisy)] == ["same", "gone"]
    assert {row.verdict for row in compare(report(2.0, 4.0), report())} == {"faster"}
    with pytest.raises(ValueError, match="the threshold must be above 0, got 0"):
        compare(report(), report(), 0)


def test_ours_that_is_wrong_or_gone_is_a_regression() -> None:
    refused = replace(report(), results=(Result("linear", {"rows": 8}, (Entry(OURS, "float32", refused="wrong"),)),))
    assert [(row.verdict, row.is_regression) for row in compare(report(), refused)] == [
        ("refused", True),
        ("gone", False),
    ]
    nothing = replace(report(), results=())
    assert compare(report(), nothing)[0].is_regression
    assert [row.verdict for row in compare(nothing, report())] == ["new", "new"]


def test_other_machines_and_other_ceilings_are_noted() -> None:
    other = replace(report(), machine={"cpu": "other", "threads": 2}, ceilings={"fma": 50.0})
    text = comparison_text(report(), other, compare(report(), other))
    assert "note: cpu was test and is other: times cannot be compared" in text
    assert "note: the machine's own fma ceiling changed by -50%" in text


def test_the_command_compares_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for path, ours in zip(paths, (1.0, 1.5), strict=True):
        write_report(Path(path), report(ours))
    assert main(["bench", "compare", paths[0], paths[0]]) == 0
    assert "2 compared, 0 of ours worse" in capsys.readouterr().out
    assert main(["bench", "compare", *paths]) == 1
    assert "1 of ours became worse by more than 10%" in capsys.readouterr().err
    assert main(["bench", "report", *paths, "-o", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert main(["bench", "list"]) == 0
    assert "linear" in capsys.readouterr().out
    assert main(["bench", "compare", paths[0], "none.json"]) == 1
    assert "there is no results file none.json" in capsys.readouterr().err
    assert main(["bench", "run", "no-such-bench"]) == 1
    assert "no bench is called 'no-such-bench'" in capsys.readouterr().err


def test_the_readme_says_what_every_file_is_of() -> None:
    folder = Path(__file__).parents[2] / "bench"
    _, _, section = (folder / "README.md").read_text(encoding="utf-8").partition("## Results\n")
    named = re.findall(r"`([\w*-]+)`", section.partition("\n## ")[0])
    stems = {path.stem for path in (folder / "results").iterdir()}
    assert not [stem for stem in sorted(stems) if not any(fnmatch(stem, name) for name in named)]
    assert not [name for name in named if name.endswith("-cpu") and name not in stems]
