"""Steps of the commands for rented GPU time: what hangs, traps or fills the disk costs itself alone."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from bench.gpu import steps
from bench.gpu.steps import Step, add_line, marked, run_step

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")  # each write to it finds no room


def run(command: str, limit: float, log: Path) -> dict[str, object]:
    return run_step(Step("a step", command, limit), command, limit, log, dict(os.environ), ROOT)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux alone tells of processes' environments")
@pytest.mark.parametrize("last", ["sleep 100", "exit 3"])
def test_what_a_step_has_started_ends_with_it(last: str, tmp_path: Path) -> None:
    """In its process group, in a session of its own, and one whose parent has ended."""
    pids = tmp_path / "pids"
    start = f"sleep 100 & echo $! >> {pids}; setsid sleep 100 & echo $! >> {pids};"
    orphan = f"(setsid bash -c 'echo $$ >> {pids}; exec sleep 100' &) ; sleep 0.3;"
    started = time.monotonic()
    line = run(f"{start} {orphan} echo told; {last}", 3 if last == "sleep 100" else 20, tmp_path / "log.txt")
    assert time.monotonic() - started < 20
    assert line["timed_out"] is (last == "sleep 100") and line["status"] == (-9 if line["timed_out"] else 3)
    assert line["tail"] == "told\n"
    numbers = [int(number) for number in pids.read_text().split()]
    assert len(numbers) == 3 and not any(map(lives, numbers))
    assert marked("nobody") == []


def test_what_is_printed_is_in_the_log_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.txt"
    # Read whole before it is printed: what is printed goes into that log, and `cat` would follow it.
    seen = run(f'echo first; sleep 0.3; seen=$(cat {log}); echo "seen: $seen"', 20, log)
    assert "seen: == a step: echo first" in str(seen["tail"]) and str(seen["tail"]).endswith("\nfirst\n")
    assert log.read_text().startswith("== a step: ")
    assert run("kill -SEGV $$", 5, log)["status"] == -11
    monkeypatch.setattr(steps, "MOST_LOG", 1000)
    long = tmp_path / "long.txt"
    line = run("for i in $(seq 5000); do echo $i; done; echo the end", 20, long)
    assert str(line["tail"]).endswith("5000\nthe end\n") and len(str(line["tail"])) == steps.TAIL
    assert long.read_text().endswith("the end\n") and long.stat().st_size < 10_000


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_costs_the_files_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.txt").symlink_to(FULL)
    line = run("echo still; exit 4", 5, tmp_path / "log.txt")
    assert line["status"] == 4 and line["tail"] == "still\n"
    (tmp_path / "steps.jsonl").symlink_to(FULL)
    add_line(tmp_path / "steps.jsonl", line)
    assert "No space left" in capfd.readouterr().err
    add_line(tmp_path / "lines.jsonl", {"a": 1})
    add_line(tmp_path / "lines.jsonl", {"a": 2})
    assert [json.loads(text)["a"] for text in (tmp_path / "lines.jsonl").read_text().splitlines()] == [1, 2]
    add_line(None, line)
    no_folder = run("echo still", 5, tmp_path / "nowhere" / "log.txt")
    assert no_folder["status"] == 0 and no_folder["tail"] == "still\n"


def test_a_step_that_does_not_read_the_time(tmp_path: Path) -> None:
    """One that ignores every signal that can be ignored."""
    code = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15, 1)]; print(1, flush=True)"
    line = run(f'{sys.executable} -c "{code}; time.sleep(60)"', 1.0, tmp_path / "log.txt")
    assert line["timed_out"] and float(str(line["seconds"])) < 10
