"""Which backend runs an op: a table of backends, each of which may refuse a call and say why.

`LONGSPAN_BACKEND` names one backend for a whole process. This is the only file that reads it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from longspan.errors import BackendError
from longspan.ops.arrays import device_of, dtype_of, is_array, is_torch

R = TypeVar("R")

GPU_FLOATS = ("float32", "float16", "bfloat16")  # what the Triton kernels take

# Gives the reason for which a backend will not take these arguments; None means that it will.
Refusal = Callable[..., "str | None"]


def backend_of_process() -> str:
    """What LONGSPAN_BACKEND names; "auto" where it is empty or not there."""
    return os.environ.get("LONGSPAN_BACKEND") or "auto"


def only_on_request(*_args: object, **_kwargs: object) -> str | None:
    """Refuses every call of backend="auto"; `Op` does not ask a backend that was named by this rule."""
    return "only on request"


def unless(*, device: str, dtypes: Sequence[str] = ()) -> Refusal:
    """Refuses calls with an array that lies elsewhere than on `device`, or a floating one not of `dtypes`."""

    def refuses(*args: object, **kwargs: object) -> str | None:
        for value in (*args, *kwargs.values()):
            if value is None or not is_array(value):
                continue
            if (where := device_of(value)) != device:
                return f"tensors are on {where}"
            if dtypes and (name := dtype_of(value)) not in dtypes and "float" in name:
                return f"dtype must be {' or '.join(dtypes)}, got {name}"
        return None

    return refuses


def unless_torch(*, dtypes: Sequence[str]) -> Refusal:
    """Refuses calls with an array that is no torch tensor on a CUDA device, or a floating one not of `dtypes`.

    With TRITON_INTERPRET=1 the kernels run in Triton's interpreter, and the tensors must be on the CPU.
    """

    def refuses(*args: object, **kwargs: object) -> str | None:
        device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
        if any(is_array(value) and not is_torch(value) for value in (*args, *kwargs.values())):
            return "takes torch tensors only"
        return unless(device=device, dtypes=dtypes)(*args, **kwargs)

    return refuses


def unless_plain_cuda(*, dtypes: Sequence[str]) -> Refusal:
    """Refuses what `unless(device="cuda", dtypes=dtypes)` does, and calls that torch must see: where it traces a graph,
    where a gradient is asked for, and tensors of other kinds than its own."""

    def refuses(*args: object, **kwargs: object) -> str | None:
        reason = unless(device="cuda", dtypes=dtypes)(*args, **kwargs)
        tensors = [value for value in (*args, *kwargs.values()) if is_torch(value)]
        if reason is not None or not tensors:
            return reason
        torch = sys.modules["torch"]
        if torch.compiler.is_compiling() or any(type(x) not in (torch.Tensor, torch.nn.Parameter) for x in tensors):
            return "cannot be traced"
        if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
            return "has no gradient"
        return None

    return refuses


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run an op.

    Args:
        name: what `backend=` calls it.
        target: "module:function" below longspan; loaded when first chosen.
        refuses: gives a reason not to take a call, or None.
        is_automatic: whether backend="auto" may choose it; else only who names it gets it.
    """

    name: str
    target: str
    refuses: Refusal
    is_automatic: bool = True


@dataclass(slots=True)
class Op(Generic[R]):
    """An op's backends, best first. Calling it runs the first that does not refuse; all return what R says."""

    name: str
    backends: tuple[Backend, ...]
    _loaded: dict[str, Callable[..., R]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What `backend=` may be, beside "auto"."""
        return tuple(backend.name for backend in self.backends)

    def __call__(self, *args: object, backend: str = "auto", **kwargs: object) -> R:
        """Run the chosen backend on these arguments. BackendError if it refuses, or if all do."""
        return self.choose(backend, *args, **kwargs)(*args, **kwargs)

    def choose(self, backend: str, *args: object, **kwargs: object) -> Callable[..., R]:
        """The function that a call with these arguments runs."""
        asked = "backend"
        if backend == "auto":
            backend, asked = backend_of_process(), "LONGSPAN_BACKEND"
        if backend != "auto" and backend not in self.names:
            raise ValueError(f"{self.name}: {asked} must be one of auto, {', '.join(self.names)}, got {backend!r}")
        reasons = []
        for candidate in self.backends:
            if backend not in ("auto", candidate.name):
                continue
            reason = self._reason(candidate, backend, args, kwargs)
            if reason is None:
                return self._loaded[candidate.name]
            reasons.append(f"{candidate.name}: {reason}")
        raise BackendError(f"{self.name}: every backend refused; " + "; ".join(reasons))

    def _reason(
        self, candidate: Backend, asked: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> str | None:
        """Why `candidate` will not run this call; None once it is loaded and willing."""
        if candidate.refuses is not only_on_request or asked == "auto":
            reason = candidate.refuses(*args, **kwargs)
            if reason is not None:
                return reason
        if asked == "auto" and not candidate.is_automatic:
            return "only on request"
        if candidate.name not in self._loaded:
            try:
                self._loaded[candidate.name] = self._load(candidate)
            except ImportError as error:
                return f"cannot be loaded ({error})"
        return None

    @staticmethod
    def _load(backend: Backend) -> Callable[..., R]:
        """Its function, imported now. ImportError where its module needs what is not installed."""
        module, _, function = backend.target.partition(":")
        loaded: Callable[..., R] = getattr(importlib.import_module(f"longspan.{module}"), function)
        return loaded


def explain(op: Op[R], *args: object, **kwargs: object) -> str:
    """One line a backend: whether it would take this call, and if not, why."""
    lines = []
    for candidate in op.backends:
        reason = op._reason(candidate, "auto", args, kwargs)
        lines.append(f"{candidate.name}: {'takes it' if reason is None else reason}")
    return "\n".join(lines)
