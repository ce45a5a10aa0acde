"""What maxsim, maxsim_pairs and maxsim_topk refuse, in which words."""

from __future__ import annotations

import numpy as np
import pytest

from longspan import BackendError, ops

ONE, TWO = np.array([0, 3], np.int32), np.array([0, 2, 5], np.int32)
Q, D = np.ones((3, 8), np.float32), np.ones((5, 8), np.float32)
CODES = np.ones((5, 1), np.uint8)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q": Q[0]}, r"maxsim: q must be \(total_q, dim\), got \(8,\)"),
        ({"d": D[0]}, r"maxsim: d must be \(total_d, dim\), got \(8,\)"),
        ({"d": D[:, :7]}, "maxsim: d must have dim 8 \\(as q\\), got 7"),
        ({"d": np.ones((5, 2), np.uint8)}, "maxsim: d must have dim 8 \\(as q\\), got 16"),
        ({"q": Q[:, :0], "d": D[:, :0]}, "maxsim: dim must be at least 1, got 0"),
        ({"q": np.ones((3, 1), np.uint8)}, "maxsim: d must be uint8 sign codes, as q, got float32"),
        ({"cu_seqlens_q": TWO}, "maxsim: cu_seqlens_q must end at the number of rows, 3, got 5"),
        ({"cu_seqlens_d": TWO.astype(np.int64)}, "maxsim: cu_seqlens_d must be int32, got int64"),
        (
            {"cu_seqlens_d": np.array([0, 2, 2, 5], np.int32)},
            "maxsim: every document must have a token, document 1 has none; leave it out",
        ),
        ({"backend": "gpu"}, "maxsim: backend must be one of auto, cpu, triton, reference, got 'gpu'"),
        (
            {"q": np.ones((3, 70000), np.float32), "d": np.ones((5, 8750), np.uint8)},
            "maxsim: dim must be at most 65536 for codes, got 70000",
        ),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.maxsim(**{"q": Q, "d": D, "cu_seqlens_q": ONE, "cu_seqlens_d": TWO, **change})


def test_dtypes_that_are_refused() -> None:
    with pytest.raises(BackendError, match="cpu: q must be float32, or uint8 sign codes, got float64"):
        ops.maxsim(Q.astype(np.float64), D, ONE, TWO)
    for dtype in (np.float64, np.int8):
        with pytest.raises(BackendError, match="cpu: d must be float32, float16, bfloat16, Int8Tokens or uint8"):
            ops.maxsim(Q, D.astype(dtype), ONE, TWO)
    with pytest.raises(TypeError, match="maxsim: cu_seqlens_q must be a NumPy array or a torch tensor, got list"):
        ops.maxsim(Q, D, [0, 3], TWO)


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([[0, 2]], r"maxsim_pairs: pairs\[0\] is \(0, 2\) but there are 1 queries and 2 documents"),
        ([[0, 0], [1, 0]], r"maxsim_pairs: pairs\[1\] is \(1, 0\) but there are 1 queries and 2 documents"),
        ([[0, 0], [0, -1]], r"maxsim_pairs: pairs\[1\] is \(0, -1\) but there are"),
        ([[0, 0, 0]], r"maxsim_pairs: pairs must be \(num_pairs, 2\), got \(1, 3\)"),
    ],
)
def test_bad_pairs(pairs: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.maxsim_pairs(Q, D, ONE, TWO, np.array(pairs, np.int32))
    with pytest.raises(ValueError, match="maxsim_pairs: pairs must be int32, got int64"):
        ops.maxsim_pairs(Q, D, ONE, TWO, np.zeros((1, 2), np.int64))


@pytest.mark.parametrize("k", [0, 3, -1])
def test_bad_k(k: int) -> None:
    with pytest.raises(ValueError, match=f"maxsim_topk: k must be from 1 to the number of documents, 2, got {k}"):
        ops.maxsim_topk(Q, D, ONE, TWO, k)
