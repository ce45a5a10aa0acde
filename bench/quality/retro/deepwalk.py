"""DeepWalk on a plan's graph, the walk-based peer: meaning plays no part in it. Needs gensim."""

from __future__ import annotations

import numpy as np

from longspan.relations import Plan

WALKS, STEPS, DIM = 10, 20, 128


def deepwalk(plan: Plan) -> np.ndarray:
    """(n, 128): skip-grams of random walks over all relations, with one node more a column, joined to its values."""
    from gensim.models import Word2Vec

    size = len(plan.nodes)
    near: list[set[int]] = [set() for _ in range(size + len(plan.columns))]
    for relation in plan.relations:
        for a, b in relation.pairs.tolist():
            if a != b:
                near[a].add(b)
                near[b].add(a)
    for number, column in enumerate(plan.columns, size):
        for node in range(column.start, column.stop):
            near[node].add(number)
            near[number].add(node)
    neighbors = [np.array(sorted(each)) for each in near]
    rng = np.random.default_rng(0)
    walks = []
    for _ in range(WALKS):
        for start in rng.permutation(len(near)).tolist():
            walk, at = [str(start)], start
            for _ in range(STEPS - 1):
                if not len(neighbors[at]):
                    break
                at = int(neighbors[at][rng.integers(len(neighbors[at]))])
                walk.append(str(at))
            walks.append(walk)
    model = Word2Vec(walks, vector_size=DIM, window=5, min_count=0, sg=1, negative=5, epochs=3, workers=1, seed=0)
    return np.stack([model.wv[str(node)] for node in range(size)])
