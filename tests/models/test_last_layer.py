"""Where one token a row is wanted the last layer computes nothing else, and the bits are those of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, _core
from longspan.packing.batch import pack

FIRST = {"bert-minilm": "cls", "xlmr-absolute": "cls", "distilbert": "cls"}
LAST = {"jina-code/model": "lasttoken", "jina-v5-text-small/model-merged-retrieval": "lasttoken"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name, pooling", [*FIRST.items(), *LAST.items()])
def test_the_bits_are_those_of_all_tokens(isa: str, name: str, pooling: str, dtype: str, golden: Path) -> None:
    encoder = Encoder(golden / name, dtype=dtype)
    encoder._pipeline._pooling = pooling  # type: ignore[assignment]  # whatever the files say
    place = 0 if pooling == "cls" else -1
    rng = np.random.default_rng(4)
    ids = [rng.integers(0, encoder.spec.vocab_size, size) for size in (1, 2, 7, 64, 65, 200)]
    [batch] = pack(ids, batch_tokens=9999)
    assert encoder._encoder.needs_one_token(batch, "first" if pooling == "cls" else "last")
    states = encoder.encode_ids(ids, output_value="token_embeddings")
    found = encoder.encode_ids(ids, normalize_embeddings=False)
    np.testing.assert_array_equal(found, [own[place] for own in states])
    assert _core.isa() == isa


@pytest.mark.parametrize("name", ["modernbert", "jina-v2-en", "mpnet", "gte-new/model"])
def test_a_first_token_that_minds_its_place_gets_the_whole(name: str, golden: Path) -> None:
    [batch] = pack([np.arange(5)], batch_tokens=9)
    assert not Encoder(golden / name)._encoder.needs_one_token(batch, "first")
