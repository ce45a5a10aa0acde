"""Which benches there are, how they are chosen, and how their records are joined."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from bench.command import add_options, arguments_of, command_of, setting_of
from bench.run import add_run_options, find_benches, main, select, select_all


@pytest.fixture
def benches(tmp_path: Path) -> Path:
    root = tmp_path / "bench"
    for file in ("ops/bench_linear.py", "ops/bench_linear_int8.py", "models/bench_encode.py", "ops/notes.py"):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""What {path.stem} does.\n\nMore."""\n')
    (root / "ops" / "bench_linear.py").write_text('"""What bench_linear does."""\nfrom ..command import main\n')
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


def test_a_bench_is_selected_by_name_or_part_of_it(benches: Path) -> None:
    found = find_benches(benches)
    assert select(found, None) == found
    assert [bench.name for bench in select(found, "linear")] == ["linear"]
    assert [bench.name for bench in select(found, "lin")] == ["linear", "linear_int8"]
    with pytest.raises(ValueError, match="no bench is called 'maxsim'; there are linear, linear_int8, encode"):
        select(found, "maxsim")


def test_the_list_names_the_benches_of_this_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"encode", "startup"} <= set(names)
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
        (["--peers", "nobody"], "there is no peer 'nobody'; there are numpy, torch"),
    ],
)
def test_wrong_options_are_told(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        setting_of(options(*words))
