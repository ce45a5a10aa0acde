"""What is measured, as data: a case is a piece of work, and the contestants that do it on the same inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np

Numerics = Literal["float32", "float16", "bfloat16", "int8", "bits"]
# As longspan.ops.linear has them, by themselves: `compare` measures builds that know them by other names.
ComputeType = Literal["float32", "bfloat16", "int8"]
COMPUTE_TYPES: Final[tuple[ComputeType, ...]] = get_args(ComputeType)
OURS: Final = "longspan"

FLOAT32_UNIT: Final = 2.0**-24  # half a unit in the last place of a number, relative to it


@dataclass(frozen=True, slots=True)
class Work:
    """What a call must do whoever does it, and how the report counts it."""

    flops: float = 0.0  # a multiply-add counts two
    bytes: float = 0.0  # inputs read and outputs written once, in the formats of the case
    items: float = 0.0
    item: str = ""  # "tokens", "queries": speed is items a second; "" leaves FLOP/s or bytes a second


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that does the work."""

    name: str  # "longspan", "torch", "openvino bfloat16"; ours begin with OURS
    run: Callable[[], object]
    numerics: Numerics = "float32"  # what its products are computed in
    read: Callable[..., np.ndarray] = np.asarray  # of what `run` returns, what is held against the truth
    work: Work | None = None  # where its formats move other bytes than the case says
    note: str = ""  # how it was set up: "batches of 32"
    target: str = ""  # what it is to reach, in words

    @property
    def is_ours(self) -> bool:
        """Whether it is longspan, in whichever numerics."""
        return self.name.split()[0] == OURS


@dataclass(frozen=True, slots=True)
class Contest:
    """A case, built: inputs exist, contestants are loaded."""

    contestants: tuple[Contestant, ...]
    truth: np.ndarray  # float64, or integers that must be met exactly
    limits: Mapping[Numerics, float]  # the largest absolute error of a contestant that is timed
    absent: Mapping[str, str] = field(default_factory=dict)  # contestant that could not enter -> why
    own_limits: Mapping[str, float] = field(default_factory=dict)  # by name, where a way of computing loses more

    def limit(self, contestant: Contestant) -> float:
        """The largest error of this contestant that may be timed."""
        return self.own_limits.get(contestant.name, self.limits[contestant.numerics])


@dataclass(frozen=True, slots=True)
class Setting:
    """How to measure."""

    threads: int
    seconds: float = 0.3  # of calls, for each contestant at each case
    rounds: int = 5
    slow_round: float = 1.5  # seconds of a call of each contestant; from here on there are fewer rounds
    is_short: bool = True
    model: str | None = None  # a folder or a Hugging Face id, for benches of a whole model
    dtypes: tuple[ComputeType, ...] = (
        "float32",
    )  # of our encoder; the first is what peers without one like it are beside
    peers: tuple[str, ...] | None = None  # names of peers; None: all
    budget: float = math.inf  # seconds of a bench; from then on cases are left out by name
    only: str = ""  # a regular expression that is found in the names of the cases to measure

    def wants(self, case: Case) -> bool:
        """Whether the case is among those asked for."""
        return self.names(case.labels)

    def names(self, labels: Mapping[str, str | int]) -> bool:
        """Whether a case of these labels is."""
        return re.search(self.only, name_of(labels)) is not None


@dataclass(frozen=True, slots=True)
class Case:
    """A piece of work at one shape. Building it may take long, and is not measured."""

    bench: str  # the bench that it belongs to, "linear"
    labels: Mapping[str, str | int]  # its shape in words: {"model": "MiniLM", "rows": 8}
    work: Work
    build: Callable[[Setting], Contest]
    asks: str = ""  # the piece of work that peers are asked for, a name in `Peer.does`
    plot: str | None = None  # the label that runs along the x axis when cases that differ in it alone are plotted

    @property
    def name(self) -> str:
        """Such as `model=MiniLM rows=8`."""
        return name_of(self.labels)


def name_of(labels: Mapping[str, str | int]) -> str:
    """A case's name."""
    return " ".join(f"{label}={value}" for label, value in labels.items())


Cases = Callable[[Setting], Iterable[Case]]


def float32_limit(depth: int, scale: float = 1.0) -> float:
    """The largest error allowed of float32 sums of `depth` random products, where the sums' own size is `scale`.

    Each step of a sum rounds by up to a unit of its size, in random directions: sqrt(depth) units. The largest of some
    thousand results lies four to five sizes out, and so does the largest error.
    """
    return 5 * scale * (2 + depth**0.5) * FLOAT32_UNIT
