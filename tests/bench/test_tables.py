"""The tables of figures and targets: what is looked up, what is met, what was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.case import OURS, Numerics, Setting
from bench.results import Entry, Report, Result, write_report
from bench.run import find_benches, select
from bench.table_lines import TABLES
from bench.table_parts import Figures, Part, best_peers, over, table_text
from bench.tables import main
from bench.timing import Spread


def entry(name: str, numerics: Numerics, seconds: float, against: str | None = None, ratio: float = 1.0) -> Entry:
    value, compared = Spread(seconds, seconds, seconds), None if against is None else Spread(ratio, ratio, ratio)
    return Entry(name, numerics, value=value, rounds=(seconds,) * 3, ratio=compared, against=against, share=0.75)


def run() -> Report:
    """Of MiniLM on two sets of texts, adapters, and codes."""
    results = [
        Result(
            "encode",
            {"texts": texts},
            (
                entry(OURS, "float32", 1.0),
                entry("openvino", "float32", 1.0, OURS, ratio),
                entry("onnxruntime", "float32", 2.0, OURS, 2.0),
                entry("openvino int8", "int8", 0.5, OURS, 0.5),  # ours has none of its kind here
                Entry("sentence-transformers", "float32", refused="wrong"),
            ),
        )
        for texts, ratio in (("short", 1.4), ("ragged", 1.2))
    ]
    mixed = (entry(OURS, "float32", 1.04), entry(f"{OURS} without adapters", "float32", 1.0))
    results.append(Result("mixed_tasks", {"rank": 4, "layers": 4}, mixed))
    codes = (entry(OURS, "bits", 1.0), entry("faiss", "bits", 1.5, OURS, 1.5))
    results.append(Result("hamming", {"bits": 1024, "queries": 1}, codes))
    return Report({"cpu": "test", "threads": 2}, tuple(results), warnings=("busy",))


def test_the_best_peer_of_each_case_counts() -> None:
    found = Figures(run()).results("encode")
    assert best_peers(found, OURS, ("openvino", "onnxruntime")) == [(1.4, "openvino"), (1.2, "openvino")]
    assert best_peers(found, f"{OURS} int8", ("openvino int8",)) == []


def test_a_table_says_what_is_met_and_what_was_not_measured() -> None:
    lines = {line.figure: line for line in TABLES["cpu-engine"].lines(Figures(run()))}
    encode = lines["float32 over the best peer, short / ragged texts"]
    assert (encode.target, encode.reached, encode.is_met) == (">= 1.3x", "1.40 / 1.20 x (openvino)", False)
    mixed = lines["five tasks in a batch, float32, rank 4, 4 layers, over no adapters"]
    assert (mixed.target, mixed.reached, mixed.is_met) == ("<= 1.05x", "1.04x", True)
    assert lines["int8 over the best peer, short / ragged texts"].reached == "not measured"
    assert lines["attention with ALiBi at 8192, extra memory"].is_met is None
    text = table_text("retrieval", TABLES["retrieval"], run())
    assert "| Hamming top-100 of 1 M x 1024 bits, 1 query, over FAISS | >= 1x | 1.50 x (faiss) |" in text
    assert "75 %" in text and "**no**" in text and "warning: busy" in text


def test_the_cost_over_another_is_taken_round_by_round() -> None:
    first = Entry(OURS, "float32", rounds=(1.0, 2.0, 4.0))
    assert over(first, Entry(OURS, "float32", rounds=(1.0, 1.0, 1.0))) == 2.0


@pytest.mark.parametrize("name", TABLES)
def test_every_part_names_a_bench(name: str) -> None:
    for part in TABLES[name].parts:
        assert [bench.name for bench in select(find_benches(), part.bench)] == [part.bench]


def test_a_part_has_its_own_cases_and_otherwise_the_users_setting() -> None:
    users = Setting(2, seconds=0.5, rounds=9, peers=("torch",), only="x")
    made = Part("linear", False, "rows=512", rounds=3).setting(users)
    assert (made.is_short, made.only, made.rounds, made.seconds, made.peers) == (False, "rows=512", 3, 0.5, ("torch",))
    assert Part("scaling", peers=()).setting(users).peers == ()


def test_the_command_reads_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    write_report(file, run())
    assert main(["cpu-engine", str(file), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "cpu-engine.md").read_text() == printed
    assert (tmp_path / "out" / "cpu-engine.json").is_file()
    assert main(["cpu-engine", str(tmp_path / "none.json")]) == 2
    assert "error: there is no results file" in capsys.readouterr().err
