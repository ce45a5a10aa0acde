"""Dispatch: the first backend that does not refuse runs; one that is named runs or raises."""

from __future__ import annotations

import numpy as np
import pytest

from longspan import BackendError
from longspan.ops.dispatch import Backend, Op, explain, only_on_request, unless

ONE, TWO = np.ones(3, np.float32), np.ones(3, np.float64)


@pytest.fixture
def op() -> Op:
    """f32 goes to "fast", everything to "plain" on request, and "gone" cannot be imported."""
    return Op(
        "twice",
        (
            Backend("gone", "no_such_module:twice", lambda *_: None),
            Backend("fast", "ops.arrays:dtype_of", unless(device="cpu", dtypes=("float32",))),
            Backend("plain", "ops.arrays:device_of", only_on_request),
        ),
    )


def test_auto_takes_the_first_that_does_not_refuse(op: Op) -> None:
    assert op(ONE) == "float32"


def test_one_that_is_not_automatic_must_be_named() -> None:
    choosy = unless(device="cpu", dtypes=("float32",))
    op = Op("twice", (Backend("asked", "ops.arrays:dtype_of", choosy, is_automatic=False),))
    assert op(ONE, backend="asked") == "float32"
    with pytest.raises(BackendError, match="twice: every backend refused; asked: only on request"):
        op(ONE)
    with pytest.raises(BackendError, match="asked: dtype must be float32"):
        op(TWO, backend="asked")


def test_all_refusals_are_given(op: Op) -> None:
    reasons = r"twice: every backend refused; gone: cannot be loaded \(No module .*\); fast: dtype must be float32, "
    with pytest.raises(BackendError, match=reasons + "got float64; plain: only on request"):
        op(TWO)


def test_a_named_backend_runs_or_raises(op: Op) -> None:
    assert op(TWO, backend="plain") == "cpu"
    with pytest.raises(BackendError, match="twice: every backend refused; fast: dtype"):
        op(TWO, backend="fast")
    with pytest.raises(ValueError, match="twice: backend must be one of auto, gone, fast, plain, got 'quick'"):
        op(ONE, backend="quick")


def test_the_environment_names_one_for_the_process(op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSPAN_BACKEND", "plain")
    assert op(ONE) == "cpu"
    assert op(ONE, backend="fast") == "float32"
    monkeypatch.setenv("LONGSPAN_BACKEND", "nonsense")
    with pytest.raises(ValueError, match="twice: LONGSPAN_BACKEND must be one of auto, .*, got 'nonsense'"):
        op(ONE)
    monkeypatch.setenv("LONGSPAN_BACKEND", "")
    assert op(ONE) == "float32"


def test_explain(op: Op) -> None:
    lines = explain(op, ONE).splitlines()
    assert lines[1:] == ["fast: takes it", "plain: only on request"]
