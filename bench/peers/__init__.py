"""Other people's runtimes and kernels, one small file each: what they can do, behind the suite's own words.

An adapter's module imports its library at the top and is itself imported only when its peer takes part, so that a peer
that is not installed costs nothing and is told by name. For each piece of work in `Peer.does` it defines a function of
that name: `(setting, ...) -> list[Contestant]`, with the arguments that the bench of that work gives (NumPy arrays,
never copies that the peer would not need). It may raise `AbsentError` where this machine is not for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Final

from ..case import Contestant, Setting


class AbsentError(Exception):
    """Why a peer cannot take part here, in a few words."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them."""

    name: str
    packages: tuple[str, ...]  # what to install; their versions are recorded
    does: tuple[str, ...]  # functions of its adapter

    @property
    def module(self) -> str:
        """The adapter, in this package."""
        return f"{__name__}.{self.name.replace('-', '_')}"


PEERS: Final = (
    Peer("numpy", ("numpy",), ("linear", "multi_lora", "span_mean", "hamming_topk")),
    Peer("torch", ("torch",), ("linear", "linear_lora", "attention", "maxsim", "span_mean", "look")),
    Peer("flex-attention", ("torch",), ("attention",)),
    Peer("peft", ("peft", "torch"), ("linear_lora", "multi_lora")),
    Peer("scipy", ("scipy",), ("retrofit_step", "sparse_topk")),
    Peer("seismic", ("pyseismic-lsr",), ("sparse_topk",)),
    Peer("faiss", ("faiss-cpu",), ("hamming_topk",)),
    Peer("usearch", ("usearch",), ("hamming_topk",)),
    Peer("numkong", ("numkong",), ("hamming_topk", "maxsim")),
    Peer("maxsim-cpu", ("maxsim-cpu",), ("maxsim",)),
    Peer("late-interaction-kernels", ("late-interaction-kernels", "torch"), ("maxsim",)),
    Peer("flash-maxsim", ("flash-maxsim", "torch"), ("maxsim",)),
    Peer("sentence-transformers", ("sentence-transformers", "torch"), ("encode", "rerank", "sparse_encode")),
    Peer("fastembed", ("fastembed", "onnx", "torch", "transformers"), ("sparse_encode",)),
    Peer("onnxruntime", ("onnxruntime", "onnx", "torch", "transformers"), ("encode", "rerank", "look")),
    Peer("openvino", ("openvino", "nncf", "onnx", "torch", "transformers"), ("encode", "rerank", "look")),
    Peer("ctranslate2", ("ctranslate2", "torch", "transformers"), ("encode",)),
)  # fmt: skip


def enter(work: str, setting: Setting, *inputs: Any) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants of every peer that does `work`, and of those that cannot take part, why.

    Args:
        work: a name in `Peer.does`.
        inputs: what the adapters' functions of that name take.
    """
    contestants: list[Contestant] = []
    absent: dict[str, str] = {}
    for peer in PEERS:
        if work not in peer.does or (setting.peers is not None and peer.name not in setting.peers):
            continue
        try:
            contestants += getattr(import_module(peer.module), work)(setting, *inputs)
        except ImportError as error:
            absent[peer.name] = f"{error.name or error} is not installed: pip install {' '.join(peer.packages)}"
        except AbsentError as error:
            absent[peer.name] = str(error)
    return contestants, absent


def check_names(names: Sequence[str]) -> None:
    """Raises: ValueError, a name is no peer's."""
    known = [peer.name for peer in PEERS]
    for name in names:
        if name not in known:
            raise ValueError(f"there is no peer {name!r}; there are {', '.join(known)}")


def versions() -> dict[str, str]:
    """Of every package that a peer needs, if it is installed."""
    found: dict[str, str] = {}
    for package in dict.fromkeys(package for peer in PEERS for package in peer.packages):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
