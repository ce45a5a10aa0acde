"""Vectors and codes in the layouts that vector databases take, or one sentence where they do not fit.

    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(code_rows(codes, dim=encoder.dim))

Bits are packed most significant first, set where a value is above zero. FAISS and usearch want uint8; "binary" codes
are int8, the same bytes minus 128, and next to "ubinary" ones give wrong distances without an error. PostgreSQL wants
exactly dim bits, as text; so does every client of it.

Sparse vectors: Milvus takes `SparseVectors.to_dicts()` or `to_scipy()` as they are; for the others see
`index_value_lists` (Qdrant), `sparse_strings` (pgvector's sparsevec) and `token_features` (Elasticsearch, OpenSearch).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypedDict

import numpy as np

from longspan.vectors.sparse import SparseInput, SparseVectors

DOT: Final = "__"  # in a token's name in the place of a dot, as Elasticsearch's own pipeline has it
LEAST_WEIGHT: Final = 2.0**-126  # that Lucene takes
LEVELS: Final = 127  # of an int8 on either side of zero; -128 is left out, so that a negated vector has a code too


class ScaledBytes(NamedTuple):
    """Vectors as signed bytes: vectors are about codes * scale."""

    codes: np.ndarray  # (n, dim) int8, from -127 to 127
    scale: float

    @property
    def unsigned(self) -> np.ndarray:
        """(n, dim) uint8, each 128 more, for engines without signed bytes. Euclidean distances stay what they were;
        dot products and cosines do not, so compare by distance."""
        shifted: np.ndarray = (self.codes.view(np.uint8)) ^ np.uint8(128)
        return shifted


def float_rows(vectors: np.ndarray, *, dim: int | None = None) -> np.ndarray:
    """(n, dim) float32, C-contiguous and finite, as FAISS and usearch take them; without a copy where they are so.

    Args:
        vectors: (n, dim) or (dim,) of floats.
        dim: that of the index; None takes any.
    Raises: TypeError, no array of floats; ValueError, another shape or dim, or a value that is not finite.
    """
    if not isinstance(vectors, np.ndarray) or vectors.dtype.kind != "f":
        got = vectors.dtype if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise TypeError(f"float_rows: vectors must be a NumPy array of floats, got {got}")
    rows = np.atleast_2d(vectors)
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        wanted = "dim" if dim is None else f"{dim}, as the index has"
        raise ValueError(f"float_rows: vectors must be (n, {wanted}), got {vectors.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"float_rows: vectors[{int(np.nonzero(~np.isfinite(rows))[0][0])}] is not finite")
    return np.ascontiguousarray(rows, np.float32)


def code_rows(codes: np.ndarray, *, dim: int) -> np.ndarray:
    """(n, ceil(dim / 8)) uint8, as FAISS's binary indexes and usearch's "b1" take them.

    The index has 8 * ceil(dim / 8) bits: those after dim are zero in every code, and no distance sees them.

    Args:
        codes: of `encode(precision="ubinary")` or "binary", one axis or two.
        dim: of the vectors that the codes come from.
    Raises: TypeError, the codes are no bytes; ValueError, they are of another dim, or a bit after dim is set.
    """
    if not isinstance(codes, np.ndarray) or codes.dtype not in (np.uint8, np.int8):
        got = codes.dtype if isinstance(codes, np.ndarray) else type(codes).__name__
        raise TypeError(f"code_rows: codes must be a NumPy array of uint8 (ubinary) or int8 (binary), got {got}")
    rows = np.atleast_2d(codes)
    width = -(-dim // 8)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"code_rows: codes must be (n, {width}) for dim {dim}, got {codes.shape}")
    if rows.dtype == np.int8:
        rows = rows.view(np.uint8) ^ np.uint8(128)
    if dim % 8 and (rows[:, -1] & (0xFF >> dim % 8)).any():
        raise ValueError(f"code_rows: codes have bits set after the first {dim}; they are of another dim")
    return np.ascontiguousarray(rows)


def scaled_bytes(vectors: np.ndarray, *, scale: float | None = None) -> ScaledBytes:
    """int8 of one scale for all dimensions, so that dot products of codes are those of the vectors, divided by scale^2:
    what usearch's "i8", FAISS's QT_8bit_direct_signed and Qdrant's UINT8 compare.

    `encode(precision="int8")` stretches each dimension over its own range: closer to each value, but its codes must be
    decoded before they are compared, which these engines do not do.

    Args:
        vectors: as `float_rows`.
        scale: that of the codes already in the index; None makes the largest value 127. Values beyond are clipped.
    Raises: as `float_rows`; ValueError, `scale` is not above zero.
    """
    rows = float_rows(vectors)
    if scale is None:
        scale = float(np.abs(rows).max(initial=0.0)) / LEVELS or 1.0
    if not scale > 0:
        raise ValueError(f"scaled_bytes: scale must be above 0, got {scale}")
    return ScaledBytes(np.clip(np.rint(rows / np.float32(scale)), -LEVELS, LEVELS).astype(np.int8), scale)


def bit_strings(codes: np.ndarray, *, dim: int) -> list[str]:
    """For each code its `dim` bits as "0110...", first dimension first: PostgreSQL's text form of bit(dim).

    Args and Raises: as `code_rows`.
    """
    bits = np.unpackbits(code_rows(codes, dim=dim), axis=1, count=dim) + np.uint8(ord("0"))
    return [row.tobytes().decode("ascii") for row in bits]


def vector_strings(vectors: np.ndarray, *, dim: int | None = None) -> list[str]:
    """For each vector "[0.25,-1.5,...]", pgvector's text form of vector and halfvec, in which no bit is lost.

    Args and Raises: as `float_rows`; float16 vectors give float16's digits.
    """
    float_rows(vectors, dim=dim)
    return ["[" + ",".join(map(str, row)) + "]" for row in np.atleast_2d(vectors)]


class IndexValues(TypedDict):
    """A sparse vector as Qdrant's `SparseVector(**...)` and its REST API take it."""

    indices: list[int]
    values: list[float]


def index_value_lists(vectors: SparseInput, *, dim: int | None = None) -> list[IndexValues]:
    """Each sparse vector as {"indices": [...], "values": [...]}, dimensions rising: Qdrant's form.

        rows = index_value_lists(encoder.encode_document(texts))
        points = [PointStruct(id=place, vector={"text": SparseVector(**row)}) for place, row in enumerate(rows)]

    Args: vectors: `SparseVectors`, a scipy CSR array, or dicts from dimension to weight, with `dim`.
    Raises: as `SparseVectors.of`.
    """
    rows = SparseVectors.of(vectors, dim)
    return [{"indices": row.indices.tolist(), "values": row.values.tolist()} for row in rows]


def sparse_strings(vectors: SparseInput, *, dim: int | None = None) -> list[str]:
    """For each sparse vector "{2:0.5,31:1.25}/30522", pgvector's text form of sparsevec, whose dimensions count from 1.

    No bit is lost. pgvector stores 16,000 entries at most, and indexes 1,000: `SparseVectors.top` keeps the largest.

    Args and Raises: as `index_value_lists`.
    """
    rows = SparseVectors.of(vectors, dim)
    return [
        "{" + ",".join(f"{place + 1}:{value!s}" for place, value in zip(row.indices, row.values, strict=True)) + "}"
        f"/{rows.dim}"
        for row in rows
    ]


def token_features(decoded: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Token -> weight as Elasticsearch's `sparse_vector` and `rank_features` and OpenSearch's `rank_features` take it.

        documents = token_features(encoder.decode(encoder.encode_document(texts)))
        query = {"sparse_vector": {"field": "text", "query_vector": token_features(encoder.decode(of_query))[0]}}

    Names must have no dot: "." becomes "__"; of tokens that then have one name the larger weight counts. Weights must
    be above zero, so others are left out, as is what is too small for Lucene. Give queries the same treatment.

    Raises: TypeError, a weight is no number; ValueError, it is not finite.
    """
    found: list[dict[str, float]] = []
    for row, weights in enumerate(decoded):
        features: dict[str, float] = {}
        for token, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float, np.floating)):
                raise TypeError(f"token_features: decoded[{row}][{token!r}] must be a number, got {weight!r}")
            if not np.isfinite(weight):
                raise ValueError(f"token_features: decoded[{row}][{token!r}] is not finite")
            name = token.replace(".", DOT)
            if weight >= LEAST_WEIGHT and name:
                features[name] = max(float(weight), features.get(name, 0.0))
        found.append(features)
    return found
