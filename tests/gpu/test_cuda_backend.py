"""The CUDA backends' Python: what they refuse, and torch tensors in and out, with the emulator in the GPU's place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

import inputs
from emulated import Emulated
from fake_cuda import array_of, capsule_of, torch
from longspan import BackendError, ops, reference
from longspan.ops.dispatch import unless_plain_cuda
from longspan.ops.hamming import HAMMING_TOPK


def test_tensors_of_a_device_that_is_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Tensor.__dlpack__` refuses them; the module's own guard makes their device the current one."""
    monkeypatch.setitem(sys.modules, "longspan._cuda", ModuleType("longspan._cuda"))
    monkeypatch.setattr("longspan._cuda", sys.modules["longspan._cuda"], raising=False)
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda", raising=False)
    capsule = importlib.import_module("longspan.ops.cuda").capsule

    def refuses(self: torch.Tensor, **options: object) -> object:
        raise BufferError("Can't export tensors on a different CUDA device index")

    monkeypatch.setattr(torch.Tensor, "__dlpack__", refuses)
    for rows in (
        torch.arange(6.0).view(2, 3),
        torch.arange(12.0).view(2, 6)[:, ::2],
        torch.ones(2, requires_grad=True),
    ):
        np.testing.assert_array_equal(array_of(capsule(rows)), rows.detach().numpy())
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda")


class FakeModule(ModuleType):
    """longspan._cuda's functions on CPU tensors, by the emulator."""

    MAX_SORTED = 16

    def __init__(self, emulated: Emulated) -> None:
        super().__init__("longspan._cuda")
        self._emulated = emulated
        self.sorted_outside: list[bool] = []

    def binarize(self, x: object, thresholds: object, codes: object, stream: int) -> None:
        limits = None if thresholds is None else array_of(thresholds)
        array_of(codes)[:] = self._emulated.binarize(array_of(x), limits)

    def span_mean(self, hidden: object, spans: object, normalize: bool, out: object, stream: int) -> None:
        means = array_of(out)
        means[:] = self._emulated.span_mean(array_of(hidden), array_of(spans), means.shape[1], normalize)

    def hamming(self, q: object, codes: object, out: object, stream: int) -> None:
        array_of(out)[:] = self._emulated.hamming(array_of(q), array_of(codes))

    def hamming_topk_workspace(self, q: object, codes: object, k: int) -> int:
        return 256

    def hamming_topk(
        self, q: object, codes: object, filter: object, keys: object, workspace: object, stream: int
    ) -> None:
        assert array_of(workspace).shape == (256,)
        found = array_of(keys)
        bits = None if filter is None else array_of(filter)
        distances, rows, _ = self._emulated.hamming_topk(array_of(q), array_of(codes), found.shape[1], bits)
        found[:] = np.where(rows < 0, 2**63 - 1, distances.astype(np.int64) << 32 | rows)[:, ::-1]  # in no order

    def hamming_results(self, keys: object, is_sorted: bool, distances: object, rows: object, stream: int) -> None:
        self.sorted_outside.append(is_sorted)
        given = array_of(keys)
        found = given if is_sorted else np.sort(given, axis=1)
        is_one = found != 2**63 - 1
        array_of(distances)[:] = np.where(is_one, found >> 32, 2**31 - 1)
        array_of(rows)[:] = np.where(is_one, found & 0xFFFFFFFF, -1)


@pytest.fixture
def fake(emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModule]:
    """longspan.ops.cuda, loaded with a fake module below it."""
    module = FakeModule(emulated)
    monkeypatch.setitem(sys.modules, "longspan._cuda", module)
    monkeypatch.setattr("longspan._cuda", module, raising=False)
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda", raising=False)
    monkeypatch.setattr(importlib.import_module("longspan.ops.cuda"), "stream_of", lambda tensor: 0)
    yield module
    sys.modules.pop("longspan.ops.cuda", None)


def backend() -> ModuleType:
    """longspan.ops.cuda as it is loaded now."""
    return importlib.import_module("longspan.ops.cuda")


def test_binarize(fake: FakeModule) -> None:
    x, thresholds = inputs.normal((6, 70), 1), inputs.normal((70,), 2)
    for given in (torch.from_numpy(x), torch.from_numpy(np.asfortranarray(x)), torch.from_numpy(x).requires_grad_()):
        codes = backend().binarize(given, thresholds=torch.from_numpy(thresholds).double())
        np.testing.assert_array_equal(codes.numpy(), reference.binarize(x, thresholds=thresholds))
    half = torch.from_numpy(x).bfloat16()
    np.testing.assert_array_equal(
        backend().binarize(half, thresholds=None).numpy(), reference.binarize(half.float().numpy())
    )


def test_span_mean(fake: FakeModule) -> None:
    hidden, spans = inputs.normal((50, 40), 1), np.array([(0, 5), (3, 50)], np.int32)
    options = {"truncate_dim": 30, "normalize": True}
    expected = reference.span_mean(hidden, spans, **options)
    column_major = torch.from_numpy(np.asfortranarray(np.zeros((2, 30), np.float32)))
    for out in (None, torch.zeros(2, 30), column_major):
        got = backend().span_mean(torch.from_numpy(hidden), torch.from_numpy(spans), **options, out=out)
        assert out is None or got is out
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


def test_hamming(fake: FakeModule) -> None:
    codes, q = (inputs.rng(seed).integers(0, 256, (n, 9), np.uint8) for seed, n in ((1, 300), (2, 4)))
    tensors = torch.from_numpy(q), torch.from_numpy(codes)
    np.testing.assert_array_equal(backend().hamming(*tensors).numpy(), reference.hamming(q, codes))
    assert backend().hamming(tensors[0][:0], tensors[1]).shape == (0, 300)
    wanted = inputs.rng(3).random(300) < 0.1
    bits = np.packbits(wanted)
    for k in (1, 16, 17, 300):
        for filter in (None, bits, torch.from_numpy(bits), torch.from_numpy(wanted)):
            distances, rows = backend().hamming_topk(*tensors, k, filter=filter, tie_ranks=None)
            mask = None if filter is None else wanted
            truth = reference.hamming_topk(q, codes, k, filter=mask)
            found = truth[0].shape[1]
            assert distances.shape == rows.shape == (4, k) and fake.sorted_outside[-1] == (k > 16)
            np.testing.assert_array_equal(distances.numpy()[:, :found], truth[0])
            np.testing.assert_array_equal(rows.numpy()[:, :found], truth[1])
            assert (distances[:, found:] == 2**31 - 1).all() and (rows[:, found:] == -1).all()
    assert backend().hamming_topk(*tensors, 0, filter=None, tie_ranks=None)[1].shape == (4, 0)


def test_a_build_without_cuda_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "longspan._cuda", None)
    monkeypatch.delattr("longspan._cuda", raising=False)
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda", raising=False)
    with pytest.raises(ImportError, match="this build has no CUDA kernels; .*LONGSPAN_CUDA=ON"):
        backend()


def test_arrays_elsewhere_are_refused() -> None:
    codes = np.zeros((3, 4), np.uint8)
    with pytest.raises(BackendError, match="hamming_topk: every backend refused; cuda: tensors are on cpu"):
        ops.hamming_topk(codes, codes, 1, backend="cuda")
    with pytest.raises(BackendError, match="binarize: every backend refused; cuda: tensors are on cpu"):
        ops.binarize(torch.zeros(2, 8), backend="cuda")


def test_calls_that_the_kernels_do_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tensors that seem to be on a GPU."""
    monkeypatch.setattr("longspan.ops.dispatch.device_of", lambda array: "cuda")
    codes, ranks = torch.empty(3, 512, dtype=torch.uint8), torch.empty(3, dtype=torch.int64)
    refuses = HAMMING_TOPK.backends[HAMMING_TOPK.names.index("cuda")].refuses
    assert refuses(torch.empty(3, 513), torch.empty(3, 513), 1) == "codes must have at most 512 bytes, got 513"
    assert refuses(codes, codes, 1, filter=None, tie_ranks=ranks) == "takes no tie_ranks"
    assert refuses(codes, codes, 1, filter=np.zeros(1, np.uint8), tie_ranks=None) is None
    rule = unless_plain_cuda(dtypes=("float32",))
    assert rule(torch.zeros(3)) is None
    assert rule(torch.zeros(3, dtype=torch.float64)) == "dtype must be float32, got float64"
    assert rule(torch.zeros(3).as_subclass(type("Other", (torch.Tensor,), {}))) == "cannot be traced"
    with_gradient = torch.zeros(3, requires_grad=True)
    assert rule(with_gradient) == "has no gradient"
    with torch.no_grad():
        assert rule(with_gradient) is None


def test_a_filter_of_another_kind() -> None:
    codes = torch.zeros(3, 4, dtype=torch.uint8)
    message = r"hamming_topk: filter must be \(3,\) bool or \(1,\) uint8 bits, got \(3,\) int64"
    with pytest.raises(ValueError, match=message):
        ops.hamming_topk(codes, codes, 1, filter=torch.zeros(3, dtype=torch.int64))


def test_the_module_itself_refuses_what_it_cannot_read() -> None:
    """Where it is built; a GPU is not needed for that."""
    _cuda = pytest.importorskip("longspan._cuda", reason="longspan._cuda is not built", exc_type=ImportError)
    make, f32, i32, i64 = capsule_of, torch.float32, torch.int32, torch.int64
    codes = torch.zeros(3, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="hamming: q must be on a CUDA device"):
        _cuda.hamming(*(codes.__dlpack__() for _ in range(3)), 0)
    with pytest.raises(ValueError, match="binarize: x must be on a CUDA device"):
        _cuda.binarize(codes.float().__dlpack__(), None, codes.__dlpack__(), 0)
    used = codes.__dlpack__()
    torch.utils.dlpack.from_dlpack(used)
    with pytest.raises(ValueError, match="span_mean: hidden must be a DLPack capsule that nobody has taken yet"):
        _cuda.span_mean(used, used, False, used, 0)
    calls = [
        ("binarize", (make(2, 9, dtype=f32), None, make(2, 1)), r"binarize: codes must be \(2, 2\), got \(2, 1\)"),
        ("binarize", (make(2, 9, dtype=f32), make(8, dtype=f32), make(2, 2)), r"thresholds must be \(9\), got \(8\)"),
        ("binarize", (make(2, 9, dtype=i64), None, make(2, 2)), "binarize: x must be float32, float16 or bfloat16"),
        ("binarize", (make(9, dtype=f32), None, make(2, 2)), "binarize: x must have 2 axes, got 1"),
        ("binarize", (make(2, 9, dtype=f32, column_stride=2), None, make(2, 2)), "x must have a contiguous last axis"),
        ("binarize", (make(2, 9, dtype=f32), None, make(2, 2, gpu=1)), "on one device, got cuda:0 and cuda:1"),
        (
            "span_mean",
            (make(4, 8, dtype=f32), make(2, 3, dtype=i32), True, make(2, 8, dtype=f32)),
            r"spans must be \(2, 2",
        ),
        ("span_mean", (make(4, 8, dtype=f32), make(2, 2, dtype=i64), True, make(2, 8, dtype=f32)), "type 0 of 32 bits"),
        ("span_mean", (make(4, 8, dtype=f32), make(2, 2, dtype=i32), True, make(2, 9, dtype=f32)), "8 columns at most"),
        ("hamming", (make(2, 5), make(9, 4), make(2, 9, dtype=i32)), r"q must have 4 bytes \(as codes\), got 5"),
        (
            "hamming",
            (make(2, 513), make(9, 513), make(2, 9, dtype=i32)),
            "codes must have from 1 to 512 bytes on a GPU",
        ),
        ("hamming", (make(2, 4), make(9, 4), make(2, 8, dtype=i32)), r"hamming: out must be \(2, 9\), got \(2, 8\)"),
        ("hamming_topk", (make(2, 4), make(9, 4), make(1), make(2, 3, dtype=i64), make(0)), r"filter must be \(2\)"),
        ("hamming_topk", (make(2, 4), make(9, 4), None, make(1, 3, dtype=i64), make(0)), r"keys must be \(2, 3\)"),
        (
            "hamming_results",
            (make(2, 2049, dtype=i64), False, make(2, 2049, dtype=i32), make(2, 2049, dtype=i64)),
            "sorted",
        ),
    ]
    for name, arguments, message in calls:
        with pytest.raises(ValueError, match=message):
            getattr(_cuda, name)(*arguments, 0)
