"""Which benches there are, how they are chosen, and how their records are joined."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

import pytest

from bench.case import Setting
from bench.command import add_options, arguments_of, command_of, setting_of
from bench.run import (
    LIMIT,
    ROOT,
    UNKNOWN,
    Bench,
    add_run_options,
    allotted,
    find_benches,
    main,
    plan_text,
    run_benches,
    select,
    select_all,
)


@pytest.fixture
def benches(tmp_path: Path) -> Path:
    root = tmp_path / "bench"
    for file in ("ops/bench_linear.py", "ops/bench_linear_int8.py", "models/bench_encode.py", "ops/notes.py"):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""What {path.stem} does.\n\nMore."""\n')
    says = '"""What bench_linear does."""\nfrom ..command import main\nBUDGET: Final = 70\n'
    (root / "ops" / "bench_linear.py").write_text(says)
    return root


def test_benches_are_found_by_file_name(benches: Path) -> None:
    found = find_benches(benches)
    assert [bench.module for bench in found] == [
        "bench.ops.bench_linear",
        "bench.ops.bench_linear_int8",
        "bench.models.bench_encode",
    ]
    assert found[0].what == "What bench_linear does."
    assert [bench.is_recorded for bench in found] == [True, False, False]
    assert [bench.budget for bench in found] == [70, UNKNOWN, UNKNOWN]


def test_the_plan_is_told_and_spare_time_goes_to_whoever_runs(benches: Path) -> None:
    found = find_benches(benches)
    assert plan_text(found, Setting(1)) == "3 benches, about 2 minutes on two cores"
    assert plan_text(found[1:2], Setting(1)) == "1 bench, about 30 seconds on two cores"
    assert plan_text(found, Setting(1, is_short=False)) == "3 benches, every shape: up to hours"
    assert allotted(found[0], found[1:], elapsed=0, limit=200) == 70 + 70
    assert allotted(found[1], found[2:], elapsed=190, limit=200) == UNKNOWN  # no less, however late it is


def test_the_short_form_of_all_benches_fits_a_quarter_of_an_hour() -> None:
    assert sum(bench.budget for bench in find_benches()) < LIMIT < 900


def test_the_readme_has_every_bench_and_the_plan_of_all() -> None:
    readme = (Path(__file__).parents[2] / "bench" / "README.md").read_text(encoding="utf-8")
    _, _, table = readme.partition("## What it measures\n")
    table = table.partition("\n## ")[0]
    assert [bench.name for bench in find_benches() if f"`{bench.name}`" not in table] == []
    assert f'"{plan_text(find_benches(), Setting(1))}"' in readme


def test_a_bench_that_fails_does_not_end_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = """if __name__ == "__main__":
    from pathlib import Path
    from bench.results import Entry, Report, Result, write_report
    from bench.timing import Spread
    import sys
    entry = Entry("longspan", "float32", value=Spread(1, 1, 1))
    write_report(Path(sys.argv[-1]), Report({}, (Result("NAME", {}, (entry,)),)))
"""
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "bench_a.py").write_text("raise SystemExit(3)\n")
    for name in ("b", "c"):
        (folder / f"bench_{name}.py").write_text(code.replace("NAME", name))
    found = [Bench(f"trial.bench_{name}", f"what {name} does") for name in ("a", "b", "c")]
    kept: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT.parent / "python")]))
        report, failed = run_benches(found, Setting(1), lambda report: kept.append(len(report.results)))
    assert failed == ["a"] and kept == [1, 2] and report is not None
    assert [result.bench for result in report.results] == ["b", "c"]
    assert "== 3 of 3, at 0:0" in capfd.readouterr().out


def test_a_bench_is_selected_by_name_or_part_of_it(benches: Path) -> None:
    found = find_benches(benches)
    assert select(found, None) == found
    assert [bench.name for bench in select(found, "linear")] == ["linear"]
    assert [bench.name for bench in select(found, "lin")] == ["linear", "linear_int8"]
    with pytest.raises(ValueError, match="no bench is called 'maxsim'; there are linear, linear_int8, encode"):
        select(found, "maxsim")


def test_the_list_names_the_benches_of_this_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"encode", "startup"} <= {line.split()[0] for line in lines}
    assert all(line.endswith(".") for line in lines[:-1]), "what a bench measures is told in one whole line"
    assert main(["no-such-bench"]) == 2
    assert "no bench is called 'no-such-bench'" in capsys.readouterr().err


def test_names_select_each_bench_once(benches: Path) -> None:
    found = find_benches(benches)
    assert select_all(found, []) == found
    assert [bench.name for bench in select_all(found, ["encode", "lin", "linear"])] == [
        "encode",
        "linear",
        "linear_int8",
    ]


def test_benches_are_named_for_the_package_that_holds_them(benches: Path) -> None:
    assert find_benches(benches, "longspan.bench")[0].module == "longspan.bench.ops.bench_linear"


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "words",
    [
        ["--threads", "1"],
        ["--full", "--seconds", "0.5", "--rounds", "3", "--model", "a b"],
        ["--dtype", "bfloat16", "--dtype", "float32", "--peers", "torch", "numpy"],
        ["--peers"],
        ["--cases", "rows=(1|8)$", "--budget", "30"],
    ],
)
def test_another_process_gets_the_same_setting(words: list[str]) -> None:
    setting = setting_of(options(*words))
    assert setting_of(options(*arguments_of(setting))) == setting


def test_the_command_that_is_kept_runs_the_same_again() -> None:
    setting = setting_of(options("--dtype", "int8", "--peers", "torch", "--model", "a b"))
    words = shlex.split(command_of(["linear"], setting))
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    parsed = parser.parse_args(words[3:])
    assert words[:3] == ["longspan", "bench", "run"]
    assert parsed.names == ["linear"] and setting_of(parsed) == setting


def test_no_peers_are_not_all_peers() -> None:
    assert setting_of(options("--peers")).peers == ()
    assert setting_of(options()).peers is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "0"], "--threads must be above 0, got 0"),
        (["--seconds", "-1"], "--seconds must be above 0, got -1"),
        (["--rounds", "0"], "--rounds must be above 0, got 0"),
        (["--dtype", "float8"], "--dtype must be one of float32, bfloat16, int8, got 'float8'"),
        (["--cases", "("], r"--cases must be a regular expression, got '\('"),
        (["--peers", "nobody"], "there is no peer 'nobody'; there are .*numpy, torch"),
    ],
)
def test_wrong_options_are_told(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setting_of(options(*words))
