"""What a process of GPU tests does after each: it waits for the device, says how the test ended, sees a lost device.

LONGSPAN_TEST_LINES names a file that gets one JSON line a test as soon as it has ended: `test`, `outcome`, `seconds`,
`margin` (the largest error / bound of its comparisons; absent where it compared nothing) and `why` where it did not
pass. So a run that is stopped leaves what it has found.
"""

from __future__ import annotations

import json
import os
import sys

import pytest

# Of the test that is running: each comparison's largest error, in proportion to what is allowed.
MARGINS: list[float] = []
_LINES: dict[str, dict[str, object]] = {}  # of the tests that have begun and not ended
_FAILED: set[str] = set()


def settle(item: pytest.Item) -> None:
    """Wait for the device, if the process has used it, and hand the margins to the test's report."""
    if MARGINS:
        item.user_properties.append(("margin", max(MARGINS)))
        MARGINS.clear()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def write_line(report: pytest.TestReport) -> None:
    """The report into LONGSPAN_TEST_LINES. Of pytest-xdist's processes, the one that hears all of them writes."""
    if report.failed:
        _FAILED.add(report.nodeid)
    path = os.environ.get("LONGSPAN_TEST_LINES")
    if path is None or "PYTEST_XDIST_WORKER" in os.environ:
        return
    line = _LINES.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "seconds": 0.0})
    line["seconds"] = round(float(str(line["seconds"])) + report.duration, 2)
    line |= {name: value for name, value in report.user_properties if name == "margin"}
    if report.outcome != "passed" and line["outcome"] != "failed":
        line |= {"outcome": report.outcome, "when": report.when, "why": _reason(report)}
    if report.when not in {"setup", "call"}:  # the last one, or a worker's that died in it
        text = json.dumps(_LINES.pop(report.nodeid))
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:  # a full disk is no test's failure
            print(f"not written to {path}: {error.strerror}: {text}", file=sys.stderr)


def _reason(report: pytest.TestReport) -> str:
    """The first line of a failure, or why a test was skipped."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])[:300]
    lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
    return " ".join((lines or [str(report.longrepr)])[0].split())[:300]


def device_is_lost(nodeid: str) -> bool:
    """Whether the test has failed and left a CUDA error that no later call gets past."""
    torch = sys.modules.get("torch")
    if nodeid not in _FAILED or torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except RuntimeError:
        return True
    return False
