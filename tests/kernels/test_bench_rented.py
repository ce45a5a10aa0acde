"""The commands for rented GPU time: a step that hangs or traps costs itself alone, and all is written as it comes."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernel_cases import ON_GPU, torch  # isort: skip  # skips where torch or triton is not installed
from bench.gpu import __main__ as bench_gpu
from bench.gpu import rented, smoke, smoke_cases
from bench.gpu.contest import Setting
from bench.gpu.rented import PLANS, Step
from bench.gpu.smoke_names import NAMES
from bench.results import read_report

pytestmark = pytest.mark.skipif(ON_GPU, reason="dry runs need the interpreter, which a process with a GPU lacks")


def lines_of(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_dry_run(tmp_path: Path) -> None:
    """Facts, modules, some kernels, a figure: the first command's kinds of steps."""
    assert torch.get_num_threads() > 0
    for step in ("facts", "modules", "build", "smoke"):
        assert rented.main(["prove", "--dry", "--out", str(tmp_path), "--only", step]) == 0
    found = lines_of(tmp_path / "steps.jsonl")
    assert [line["step"] for line in found] == ["facts", "modules", "build", "smoke"]
    assert all(line["status"] == 0 and line["plan"] == "prove" for line in found)
    kernels = lines_of(tmp_path / "smoke.jsonl")
    assert {line["kernel"] for line in kernels} == {"layer_norm", "rms_norm"}
    assert all(line["outcome"] == "right" for line in kernels)
    log = (tmp_path / "log.txt").read_text()
    assert '"triton"' in log and log.count("== ") >= 4


def test_a_step_that_fails_or_hangs_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (
        Step("modules", "false", 5),
        Step("build", "echo built", 5, unless=("modules",)),
        Step("traps", "echo before; kill -SEGV $$", 5),
        Step("hangs", "sleep 60 & sleep 60", 1),
        Step("needless", "false", 5, unless=("nobody", "build")),
        Step("last", "echo {out} {failed}", 5),
    )
    monkeypatch.setattr(rented, "PLANS", {"prove": steps})
    started = time.monotonic()
    assert rented.main(["prove", "--out", str(tmp_path)]) == 1
    assert time.monotonic() - started < 20
    found = {str(line["step"]): line for line in lines_of(tmp_path / "steps.jsonl")}
    assert [*found] == ["modules", "build", "traps", "hangs", "last"]
    assert found["traps"]["status"] != 0 and "before" in str(found["traps"]["tail"])
    assert found["hangs"]["timed_out"] and float(str(found["hangs"]["seconds"])) < 10
    assert found["last"]["status"] == 0 and str(tmp_path) in str(found["last"]["tail"])


def test_the_whole_command_keeps_to_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (Step("first", "sleep 30", 60), Step("second", "echo", 60))
    monkeypatch.setattr(rented, "PLANS", {"test": steps})
    rented.main(["test", "--out", str(tmp_path), "--minutes", "0.1"])
    first, second = lines_of(tmp_path / "steps.jsonl")
    assert first["timed_out"] and second["status"] is None and second["why"] == "no time was left"


def test_plans_are_of_nine_minutes() -> None:
    """Their limits may add up to more: most steps end long before. What decides comes first, what may trap last."""
    assert rented.MINUTES <= 9
    for steps in PLANS.values():
        ready = [step.name for step in rented.READY]
        assert [step.name for step in steps if step.name in ready] == ready and len(ready) == 3
        assert all(0 < step.limit <= 400 for step in steps)
        if_built = sum(step.limit for step in steps if step.name not in ready[1:])
        assert if_built <= 14 * 60, "with modules taken along, what is usual must fit"
    names = [step.name for step in PLANS["prove"]]
    assert [name for name in names if name not in ready] == ["facts", "smoke", "goldens", "encode", *names[7:]]
    assert PLANS["test"][-1].name == "attention_sm90"


def test_what_a_bare_machine_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home, no name, none of this Python's tools on the path, little room for temporary files."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nothing")
    monkeypatch.setattr(rented, "ROOT", tmp_path)
    monkeypatch.setattr(rented, "CUDA", tmp_path)
    own, free = tmp_path / "build" / "tmp", {"roomy": 8 << 30}
    monkeypatch.setattr(
        rented.shutil, "disk_usage", lambda path: SimpleNamespace(free=free["roomy"] if path != own else 2 << 30)
    )
    found = rented.of_a_bare_machine()
    path = found["PATH"].split(":")
    assert path[0] == "/nothing" and path[-1] == str(tmp_path) and sysconfig.get_path("scripts") in path
    assert found["HOME"] == found["TMPDIR"] == tempfile.gettempdir() and found["USER"]
    free["roomy"] = 1 << 30
    assert rented.of_a_bare_machine()["TMPDIR"] == str(own) and own.is_dir()
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert "HOME" not in rented.of_a_bare_machine()


def test_a_tree_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(rented, "PARTS", tmp_path / "file" / "parts")
    step = Step("one", "echo '{}' > {parts}/gpu-a.json", 9)
    monkeypatch.setattr(rented, "PLANS", {"prove": (step,)})
    assert rented.main(["prove", "--out", str(tmp_path / "out")]) == 0
    with pytest.raises(SystemExit):
        rented.main(["prove", "--out", str(tmp_path / "file" / "out")])
    assert "name a folder that can be written to" in capsys.readouterr().err


def test_failed_tests_are_looked_at_again(tmp_path: Path) -> None:
    assert "-k" in rented.failed_tests(tmp_path / "tests.jsonl")
    lines = [{"test": "a.py::b[1 2]", "outcome": "failed"}, {"test": "a.py::c", "outcome": "passed"}]
    (tmp_path / "tests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert rented.failed_tests(tmp_path / "tests.jsonl") == "'a.py::b[1 2]'"


def test_commands_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No word in braces is left, plugins of pytest are asked for where they are, and few files are written."""
    for found in (True, False):
        monkeypatch.setattr(rented, "find_spec", lambda name, found=found: object() if found else None)
        asked = {**rented.words(tmp_path, dry=False), "failed": "a.py"}
        written = set()
        for steps in PLANS.values():
            for step in steps:
                command = step.command
                for name, word in asked.items():
                    command = command.replace(f"{{{name}}}", word)
                tests = found and " -m pytest " in command
                assert "{" not in command and ("--timeout" in command) is tests, command
                assert ("-n 12" in command) is (tests and "compute-sanitizer" not in command)
                written |= {word.rpartition("/")[2] for word in command.split() if word.startswith(str(tmp_path))}
                assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command
        # Beside steps.jsonl, log.txt, tests.jsonl, and one of the three gpu-PLAN.json.
        assert written == {"smoke.jsonl", "rows.jsonl", "profile.jsonl", "ncu.csv"}


def test_smoke_is_told_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs holds up nobody's line."""
    waits = threading.Event()

    def apart(name: str, dry: bool) -> dict[str, object]:
        if name == "layer_norm":
            assert waits.wait(20)
        elif name == "embed":
            waits.set()
        return {"kernel": name, "outcome": "right"}

    monkeypatch.setattr(smoke, "run_apart", apart)
    file = tmp_path / "smoke.jsonl"
    assert smoke.main(["--json", str(file), "--jobs", "2"]) == 0
    told = [line["kernel"] for line in lines_of(file)]
    assert sorted(map(str, told)) == sorted(NAMES) and told.index("layer_norm") > told.index("embed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_costs_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("steps.jsonl", "log.txt", "gpu-prove.json"):
        (tmp_path / name).symlink_to("/dev/full")
    ran = tmp_path / "ran"
    monkeypatch.setattr(rented, "PLANS", {"prove": (Step("one", f"echo 1 >> {ran}", 9), Step("two", f"cat {ran}", 9))})
    assert rented.main(["prove", "--out", str(tmp_path)]) == 0
    assert ran.read_text() == "1\n"


def test_every_kernel_has_its_smoke() -> None:
    assert set(smoke_cases.cases(Setting("cpu", dry=True))) == set(NAMES) and NAMES[-1] == "attention_sm90"
    assert {*rented.PROFILED.split()} <= set(NAMES)


@pytest.mark.parametrize("name", ["embed", "attention_groups", "linear_adapters"])
def test_smoke_tells_wrong_from_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke.run_one(name, dry=True)["outcome"] == "right"
    plain = smoke_cases.cases

    def off(setting: Setting) -> dict[str, object]:
        call, truth, limit = plain(setting)[name]()
        turns = iter(range(100))
        return {
            name: lambda: (call, truth * 1.5, limit),
            "changes": lambda: (lambda: call() * (1 + 1e-3 * (next(turns) % 2)), truth, limit),
            "nan": lambda: (lambda: call() * torch.nan, truth, limit),
        }

    monkeypatch.setattr(smoke_cases, "cases", off)
    assert smoke.run_one(name, dry=True)["outcome"] == "wrong"
    assert smoke.run_one("nan", dry=True)["outcome"] == "wrong"
    assert smoke.run_one("changes", dry=True)["outcome"] == "differs"


def test_a_kernel_that_breaks_its_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke.run_apart("nobody", dry=True)["outcome"] == "failed"
    monkeypatch.setattr(smoke, "LIMIT", 0.001)
    assert smoke.run_apart("layer_norm", dry=True)["outcome"] == "hangs"


def test_parts_of_the_bench_are_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "PARTS", {"streams": 20, "adapters": 30})
    file = tmp_path / "gpu.json"
    commands: list[list[str]] = []
    plain = bench_gpu.run_limited

    def noted(command: list[str], seconds: float | None) -> int:
        commands.append([*command])
        return 1 if "adapters" in command else plain(command, seconds)

    monkeypatch.setattr(bench_gpu, "run_limited", noted)
    assert bench_gpu.main(["--dry", "--json", str(file)]) == 1, "a part that fails is told"
    assert [command[command.index("--only") + 1] for command in commands] == ["streams", "adapters"]
    report = read_report(file)
    assert report.results and "layer_norm" in report.results[0].key
    assert report.command == "python -m bench.gpu --dry"
    assert plain(["sleep", "30"], 0.2) == 124
