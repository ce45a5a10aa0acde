"""Running the steps of `row_steps`: one after the other by an engine's ops, or chained by the CPU's kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from longspan._core import RowChain
from longspan.models.engines.row_steps import BOUND, Add, Mlp, Multiply, Normalize, Route, Step, temporaries
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import Experts, Norm, Product
from longspan.models.spec import NormKind
from longspan.ops.activations import Activation


class RowWork(Protocol):
    """A list of steps, ready to run."""

    def run(self, bound: Mapping[str, np.ndarray], lora_ids: np.ndarray | None, workspace: Workspace) -> None:
        """Run the steps on the values of `BOUND`, (tokens, width) each; lora_ids as in `PackedBatch`."""
        ...


class StepOps(Protocol):
    """What of an engine runs single steps."""

    def take(self, workspace: Workspace, name: str, rows: int, columns: int) -> np.ndarray: ...

    def multiply(
        self,
        x: np.ndarray,
        product: Product,
        lora_ids: np.ndarray | None,
        *,
        out: np.ndarray,
        activation: Activation | None = None,
        residual: np.ndarray | None = None,
    ) -> None: ...

    def norm(
        self,
        x: np.ndarray,
        norm: Norm,
        kind: NormKind,
        eps: float,
        *,
        out: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> None: ...

    def add(self, x: np.ndarray, residual: np.ndarray, *, out: np.ndarray) -> None: ...

    def route(self, x: np.ndarray, experts: Experts, activation: Activation, *, out: np.ndarray) -> None: ...


class StepByStep:
    """Each step for all rows, then the next one. Temporaries lie in the workspace."""

    def __init__(self, ops: StepOps, steps: Sequence[Step], kind: NormKind, eps: float) -> None:
        self._ops, self._steps, self._norm = ops, tuple(steps), (kind, eps)
        self._temporaries = temporaries(steps)

    def run(self, bound: Mapping[str, np.ndarray], lora_ids: np.ndarray | None, workspace: Workspace) -> None:
        rows = bound["x"].shape[0]  # not len(), which costs microseconds of a torch tensor
        values = {**bound}
        for name, width in self._temporaries.items():
            values[name] = self._ops.take(workspace, name, rows, width)
        for step in self._steps:
            source, target = values[step.source], values[step.target]
            if isinstance(step, Route):
                self._ops.route(source, step.experts, step.activation, out=target)
                continue
            if isinstance(step, Add):
                self._ops.add(source, values[step.residual], out=target)
                continue
            residual = None if step.residual is None else values[step.residual]
            if isinstance(step, Normalize):
                if residual is not None:
                    residual = _groups(residual, step)
                source, target = _groups(source, step), _groups(target, step)
                self._ops.norm(source, step.norm, *self._norm, residual=residual, out=target)
                continue
            last, activation = (step.down, None) if isinstance(step, Mlp) else (step.product, step.activation)
            if isinstance(step, Mlp):
                inner = self._ops.take(workspace, "inner", rows, step.up.weight.out_features)
                self._ops.multiply(source, step.up, lora_ids, activation=step.activation, out=inner)
                source = inner
            self._ops.multiply(source, last, lora_ids, activation=activation, residual=residual, out=target)


def _groups(value: np.ndarray, step: Normalize) -> np.ndarray:
    """The columns that a norm works on: (rows, dim), or (rows, groups, dim) where there are several groups."""
    dim = step.norm.weight.shape[0]
    part = value if step.columns is None else value[:, slice(*step.columns)]
    return part if part.shape[1] == dim else part.reshape(part.shape[0], -1, dim)


class Chained:
    """Some rows through all steps while they are in a core's cache: `row_chain.h`. The bits are those of
    `StepByStep`."""

    def __init__(self, steps: Sequence[Step], kind: NormKind, eps: float) -> None:
        names = (*BOUND, *temporaries(steps))
        self._chain = RowChain(len(BOUND))
        for step in steps:
            assert not isinstance(step, Route)  # `CpuEngine.row_work` sees to it
            residual = None if step.residual is None else names.index(step.residual)
            source, target = names.index(step.source), names.index(step.target)
            if isinstance(step, Add):
                self._chain.add(source, names.index(step.residual), target)
                continue
            if isinstance(step, Multiply):
                product = step.product
                self._chain.multiply(source, product.weight, product.lora, residual, target, step.activation)
                continue
            if isinstance(step, Mlp):
                up, down = step.up, step.down
                parts = (up.weight, up.lora, step.activation, down.weight, down.lora)
                self._chain.mlp(source, *parts, residual, target)
                continue
            norm = step.norm
            first, end = (0, len(norm.weight)) if step.columns is None else step.columns
            is_centred = kind == "layer_norm"
            self._chain.norm(source, norm.weight, norm.bias, eps, is_centred, residual, target, first, end - first)

    def run(self, bound: Mapping[str, np.ndarray], lora_ids: np.ndarray | None, workspace: Workspace) -> None:
        self._chain.run([bound[name] for name in BOUND], lora_ids)
