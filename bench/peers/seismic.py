"""seismic: approximate search in inverted lists whose blocks have summaries (pyseismic-lsr)."""

from __future__ import annotations

import numpy as np
from seismic import SeismicDataset, SeismicIndex, get_seismic_string  # type: ignore[import-not-found]

from longspan import SparseVectors

from ..case import Contestant, Setting


def sparse_topk(setting: Setting, documents: SparseVectors, queries: SparseVectors, k: int) -> list[Contestant]:
    """With its own defaults for building, and a search that is close to exact."""
    kind = get_seismic_string()
    data = SeismicDataset()
    for place, row in enumerate(documents):
        data.add_document(str(place), row.indices.astype(kind), row.values)
    index = SeismicIndex.build_from_dataset(data)
    terms = [row.indices.astype(kind) for row in queries]
    values = [row.values for row in queries]
    names = np.array([str(place) for place in range(len(queries))], dtype=kind)

    def run() -> np.ndarray:
        found = index.batch_search(
            queries_ids=names,
            query_components=terms,
            query_values=values,
            k=k,
            query_cut=20,
            heap_factor=0.7,
            num_threads=setting.threads,
        )
        best = np.zeros((len(queries), k), np.float32)
        for row in found:
            for place, (query, score, _) in enumerate(row):
                best[int(query), place] = score
        return best

    return [Contestant("seismic", run, note="query_cut 20, heap_factor 0.7")]
