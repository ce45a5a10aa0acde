"""Precisions: fixed expectations, and sentence-transformers to the bit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import inputs
from longspan.vectors.quantize import PRECISIONS, quantize_embeddings

INTEGERS = ("int8", "uint8")


def normals(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)


# fixed expectations


def test_binary_packs_the_first_dimension_into_the_top_bit_and_fills_with_zeros() -> None:
    embeddings = np.array([[1, -1, 0, 2, -3, -0.0, 1e-45, 5, 1, -1]], np.float32)
    assert quantize_embeddings(embeddings, "ubinary").tolist() == [[0b10010011, 0b10000000]]
    assert quantize_embeddings(embeddings, "binary").tolist() == [[0b10010011 - 128, 0]]
    assert quantize_embeddings(-np.ones((1, 8), np.float32), "binary").tolist() == [[-128]]


def test_integers_are_steps_of_the_range() -> None:
    ranges = np.array([[0, -1], [510, 254]], np.float32)
    embeddings = np.array([[0, -1], [510, 254], [3.5, 0], [-9, -9], [999, 999]], np.float32)
    want = [[0, 0], [255, 255], [1, 1], [0, 0], [255, 255]]
    assert quantize_embeddings(embeddings, "uint8", ranges=ranges).tolist() == want
    assert quantize_embeddings(embeddings, "int8", ranges=ranges).tolist() == (np.array(want) - 128).tolist()


def test_ranges_win_over_calibration_and_calibration_over_the_embeddings() -> None:
    embeddings = np.array([[0.0], [510.0]], np.float32)
    calibration = np.array([[0.0], [1020.0]], np.float32)
    ranges = np.array([[0.0], [2040.0]], np.float32)
    both = {"ranges": ranges, "calibration_embeddings": calibration}
    assert quantize_embeddings(embeddings, "uint8", **both).tolist() == [[0], [63]]
    assert quantize_embeddings(embeddings, "uint8", calibration_embeddings=calibration).tolist() == [[0], [127]]
    with pytest.warns(UserWarning, match="uint8 ranges come from 2 embeddings only"):
        assert quantize_embeddings(embeddings, "uint8").tolist() == [[0], [255]]


def test_a_constant_dimension_becomes_the_lowest_step() -> None:
    embeddings = np.concatenate([np.full((200, 1), 0.25, np.float32), normals(200, 1)], axis=1)
    assert set(quantize_embeddings(embeddings, "uint8")[:, 0].tolist()) == {0}
    assert set(quantize_embeddings(embeddings, "int8")[:, 0].tolist()) == {-128}


def test_values_far_outside_a_narrow_range_are_clipped() -> None:
    ranges = np.array([[0.0], [1e-38]], np.float32)
    embeddings = np.array([[3e38], [-3e38]], np.float32)
    assert quantize_embeddings(embeddings, "uint8", ranges=ranges).tolist() == [[255], [0]]


def test_a_hundred_embeddings_are_enough_to_stay_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quantize_embeddings(normals(100, 3), "int8")


def test_floats_round_to_nearest() -> None:
    embeddings = np.array([[1.0, 1 / 3, 65504]], np.float32)
    half = quantize_embeddings(embeddings, "float16")
    assert half.dtype == np.float16
    assert half.tolist() == [[1.0, 0.333251953125, 65504.0]]
    assert quantize_embeddings(embeddings.astype(np.float64), "float32").dtype == np.float32


@pytest.mark.parametrize("precision", PRECISIONS)
def test_shapes_and_dtypes(precision: str) -> None:
    dtype = {"binary": "int8", "ubinary": "uint8"}.get(precision, precision)
    width = 3 if "binary" in precision else 20
    some = normals(5, 20)
    for embeddings in [some[:0], some[:1], some, some[0], some[:, ::-1]]:
        got = quantize_embeddings(embeddings, precision, calibration_embeddings=normals(100, 20, seed=1))
        assert got.shape == (*embeddings.shape[:-1], width)
        assert got.dtype == dtype


# sentence-transformers


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda dtype: dtype.__name__)
def test_agrees_with_sentence_transformers_to_the_bit(precision: str, dtype: type[np.floating]) -> None:
    theirs = pytest.importorskip("sentence_transformers").quantize_embeddings
    embeddings = normals(150, 20).astype(dtype)
    embeddings[:, 3] = 0.5
    embeddings[::7, 5] = 0
    sample = normals(120, 20, seed=1).astype(dtype) / 2  # narrower: many values are clipped
    ranges = np.stack([sample.min(axis=0), sample.max(axis=0)])
    for options in [{}, {"calibration_embeddings": sample}, {"ranges": ranges}]:
        for part in [embeddings, embeddings[:0], embeddings[:40], embeddings[7:8] if options else embeddings]:
            want = theirs(part, precision, **options)
            got = quantize_embeddings(part, precision, **options)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


# bad input


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(precision: str, value: float) -> None:
    embeddings = normals(3, 4)
    embeddings[1, 2] = value
    with pytest.raises(ValueError, match=rf"embeddings must be finite, got {value} at \[1, 2\]"):
        quantize_embeddings(embeddings, precision)
    if precision in INTEGERS:
        with pytest.raises(ValueError, match="calibration_embeddings must be finite"):
            quantize_embeddings(normals(3, 4), precision, calibration_embeddings=embeddings)
        with pytest.raises(ValueError, match="ranges must be finite"):
            quantize_embeddings(normals(3, 4), precision, ranges=embeddings[:2])


@pytest.mark.parametrize("embeddings", [[[1.0]], np.ones((2, 2), np.int8), np.ones((2, 2), bool)], ids=repr)
def test_embeddings_are_arrays_of_floats(embeddings: object) -> None:
    with pytest.raises(TypeError, match=r"embeddings must be a NumPy array of floats, got (list|int8|bool)"):
        quantize_embeddings(embeddings, "uint8")


def test_embeddings_have_one_axis_or_two() -> None:
    with pytest.raises(ValueError, match=r"embeddings must be \(rows, dim\), got \(1, 2, 3\)"):
        quantize_embeddings(np.zeros((1, 2, 3), np.float32), "ubinary")


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"precision must be one of float32, float16, int8, .* got 'int4'"):
        quantize_embeddings(normals(2, 2), "int4")


@pytest.mark.parametrize("precision", INTEGERS)
@pytest.mark.parametrize("embeddings", [normals(1, 4), normals(1, 4)[0]], ids=["row", "vector"])
def test_one_embedding_has_no_ranges(precision: str, embeddings: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"{precision} cannot take ranges from one embedding; give ranges or"):
        quantize_embeddings(embeddings, precision)


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        (np.zeros((2, 3), np.float32), r"ranges must be \(rows, 4\), got \(2, 3\)"),
        (np.zeros((3, 4), np.float32), r"ranges must be \(2, 4\), least values first, got \(3, 4\)"),
        (np.array([[0, 0, 1, 0], [1, 1, 0, 1]], np.float32), "or a range that falls"),
        (np.array([[-3e38] * 4, [3e38] * 4], np.float32), "ranges must each span at most 3.40282e"),
    ],
)
def test_bad_ranges_are_refused(ranges: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        quantize_embeddings(normals(3, 4), "int8", ranges=ranges)


def test_bad_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match=r"calibration_embeddings must be \(rows, 4\), got \(9, 5\)"):
        quantize_embeddings(normals(3, 4), "int8", calibration_embeddings=normals(9, 5))
    with pytest.raises(ValueError, match="calibration_embeddings must have at least one row, got none"):
        quantize_embeddings(normals(3, 4), "int8", calibration_embeddings=normals(0, 4))


def test_float16_does_not_overflow_in_silence() -> None:
    with pytest.raises(ValueError, match=r"embeddings must lie within \+-65504 for float16, got 65520"):
        quantize_embeddings(np.array([[1, -65520]], np.float32), "float16")
    with pytest.raises(ValueError, match=r"for float32, got 1e\+300; normalise them"):
        quantize_embeddings(np.array([[1e300]]), "float32")


def test_a_masked_array_is_its_values() -> None:
    values = inputs.normal((3, 16), 1)
    masked = np.ma.masked_array(values, mask=True)
    np.testing.assert_array_equal(quantize_embeddings(masked, "ubinary"), quantize_embeddings(values, "ubinary"))
