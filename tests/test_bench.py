"""Timing in turn, the runner of benches, and what the startup bench says of its limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.models.bench_memory import LENGTHS, Case, Peak, growth, is_linear, measure
from bench.models.bench_startup import Figure, first_embedding, run_python
from bench.models.texts import TEXT_SETS, make_texts
from bench.record import write_json
from bench.run import find_benches, main, select
from bench.timing import Spread, interleave, speedup


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def takes(self, name: str, *seconds: float) -> Callable[[], None]:
        """A contestant that takes these times, one after the other, the last for ever."""
        left = list(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_contestants_take_turns_and_the_first_round_is_not_counted() -> None:
    clock = Clock()
    contestants = {"a": clock.takes("a", 100, 1, 2, 3), "b": clock.takes("b", 100, 10)}
    times = interleave(contestants, seconds=0, min_rounds=3, clock=lambda: clock.now)
    assert clock.calls == ["a", "b"] * 4
    assert times == {"a": [1, 2, 3], "b": [10, 10, 10]}


def test_rounds_go_on_until_the_time_is_over() -> None:
    clock = Clock()
    times = interleave({"a": clock.takes("a", 2)}, seconds=7, min_rounds=1, clock=lambda: clock.now)
    assert times == {"a": [2, 2, 2, 2]}
    assert interleave({}, seconds=1) == {}


def test_speedup_is_taken_round_by_round() -> None:
    assert speedup([1, 2, 4], over=[2, 4, 8]) == Spread(2, 2, 2)
    with pytest.raises(ValueError, match="the same rounds, got 1 and 2 times"):
        speedup([1], over=[1, 2])


def test_spread_is_median_and_percentiles() -> None:
    spread = Spread.of([5, 1, 2, 3, 4, 0])
    assert spread == Spread(1, 2.5, 4)
    assert spread.text(1) == "2.5 (1.0 .. 4.0)"
    with pytest.raises(ValueError, match="values is empty"):
        Spread.of([])


@pytest.mark.parametrize("name", TEXT_SETS)
def test_texts_have_the_lengths_that_the_set_promises(name: str) -> None:
    texts, lengths = make_texts(name), TEXT_SETS[name]
    counts = [len(text.split()) for text in texts]
    assert len(texts) == lengths.num_texts
    assert lengths.least <= min(counts) < max(counts) <= lengths.most
    assert texts == make_texts(name)


@pytest.fixture
def benches(tmp_path: Path) -> Path:
    root = tmp_path / "bench"
    for file in ("ops/bench_linear.py", "ops/bench_linear_int8.py", "models/bench_encode.py", "ops/notes.py"):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""What {path.stem} does.\n\nMore."""\n')
    return root


def test_benches_are_found_by_file_name(benches: Path) -> None:
    found = find_benches(benches)
    assert [bench.module for bench in found] == [
        "bench.ops.bench_linear",
        "bench.ops.bench_linear_int8",
        "bench.models.bench_encode",
    ]
    assert found[0].what == "What bench_linear does."


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


def test_a_limit_is_broken_by_the_median() -> None:
    kept = Figure("time", (0.1, 9.0, 0.2), "s", 0.5)
    assert kept.is_kept
    assert kept.text().split() == ["time", "0.200", "s", "(0.100", "..", "9.000)", "limit", "0.5:", "kept"]
    broken = Figure("memory", (400.0,), "MB", 350.0)
    assert not broken.is_kept
    assert broken.text().endswith("limit 350: BROKEN")
    assert Figure("time", (7.0,), "s").is_kept


def test_a_process_that_fails_says_why() -> None:
    assert run_python("print(6 * 7)") == "42"
    with pytest.raises(RuntimeError, match="AssertionError: torch was imported"):
        run_python("assert False, 'torch was imported'")
    with pytest.raises(RuntimeError, match="exit code 3 and said nothing"):
        run_python("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="FileNotFoundError: there is no folder 'no/such/folder'"):
        first_embedding("no/such/folder")


def test_a_new_process_embeds_in_little_memory(golden: Path) -> None:
    seconds, megabytes = first_embedding(str(golden / "bert-minilm"))
    assert 0 < seconds < 60
    assert 10 < megabytes < 350


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, "test", {"answer": 42})
    written = json.loads(path.read_text())
    assert written["bench"] == "test"
    assert written["answer"] == 42
    assert written["machine"]["isa"]
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, "test", {"answer": object()})
    assert json.loads(path.read_text()) == written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc: Linux only")
def test_memory_grows_with_the_length_not_its_square(golden: Path) -> None:
    """The short form of bench_memory: 32768 tokens of a causal model, in fresh processes."""
    cases = [Case("jina-code", "encode_ids", length) for length in LENGTHS]
    costs = growth([measure(golden / "jina-code" / "model", case) for case in cases])
    assert is_linear(costs), costs


def test_what_counts_as_linear() -> None:
    peaks = [Peak(Case("a", "encode_ids", tokens), 5000 + tokens * tokens) for tokens in (10, 20, 40, 80)]
    assert growth(peaks) == [30, 60, 120]
    assert not is_linear(growth(peaks)) and is_linear([30, 45]) and not is_linear([-1, -1])
