"""The tasks: whose values, which labels or numbers, which pairs. Nodes are numbered as the plan numbers them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.relations import Plan

SEEDS: Final = 10
PENALTIES: Final = np.logspace(-3, 3, 13)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Nodes in the order of their text, and what each is to be told to be: class numbers, or float values."""

    nodes: np.ndarray
    targets: np.ndarray


def classes(plan: Plan, column: str, rows: Iterable[tuple[str, str]], least: int) -> Labelled:
    """Texts with exactly one label, of classes with `least` of them."""
    found: dict[str, set[str]] = defaultdict(set)
    for text, label in rows:
        if text is not None and label is not None and text.strip():
            found[text].add(label)
    one = {text: next(iter(labels)) for text, labels in found.items() if len(labels) == 1}
    names, counts = np.unique(list(one.values()), return_counts=True)
    numbers = {str(name): number for number, name in enumerate(names[counts >= least])}
    texts = sorted(text for text, label in one.items() if label in numbers)
    return Labelled(_nodes(plan, column, texts), np.array([numbers[one[text]] for text in texts]))


def values(plan: Plan, column: str, rows: Iterable[tuple[str, float]]) -> Labelled:
    """log10 of the number of texts that have exactly one, above 0."""
    found: dict[str, set[float]] = defaultdict(set)
    for text, value in rows:
        if text is not None and text.strip() and value is not None and value > 0:
            found[text].add(value)
    texts = sorted(text for text, numbers in found.items() if len(numbers) == 1)
    return Labelled(_nodes(plan, column, texts), np.log10([next(iter(found[text])) for text in texts]))


def accuracy(task: Labelled, vectors: np.ndarray, train: int) -> list[float]:
    """Share of 400 test entities told right, a seed."""
    from sklearn.linear_model import RidgeClassifierCV

    x, found = unit(vectors[task.nodes]), []
    for first, rest in _splits(len(x), train):
        model = RidgeClassifierCV(alphas=PENALTIES).fit(x[first], task.targets[first])
        found.append(float((model.predict(x[rest]) == task.targets[rest]).mean()))
    return found


def explained(task: Labelled, vectors: np.ndarray, train: int) -> list[float]:
    """R^2 on 400 test entities, a seed."""
    from sklearn.linear_model import RidgeCV

    x, found = unit(vectors[task.nodes]), []
    for first, rest in _splits(len(x), train):
        model = RidgeCV(alphas=PENALTIES).fit(x[first], task.targets[first])
        wrong = np.square(model.predict(x[rest]) - task.targets[rest]).mean()
        found.append(float(1 - wrong / task.targets[rest].var()))
    return found


def links(pairs: np.ndarray, vectors: np.ndarray, train: int, test: int) -> tuple[list[float], list[float]]:
    """AUC of a classifier and of the plain cosine on `test` pairs and as many non-pairs, a seed."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.metrics import roc_auc_score

    x = unit(vectors)
    true = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    known, targets = set(map(tuple, true.tolist())), np.unique(true[:, 1])
    learned, plain = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        chosen = true[rng.permutation(len(true))[: train // 2 + test]]
        false = np.array([[a, _other(a, known, targets, rng)] for a in chosen[:, 0].tolist()])
        first = np.concatenate([chosen[: train // 2], false[: train // 2]])
        rest = np.concatenate([chosen[train // 2 :], false[train // 2 :]])
        is_pair = np.repeat([1, 0], train // 2)
        model = RidgeClassifierCV(alphas=PENALTIES).fit(_features(x, first), is_pair)
        truth = np.repeat([1, 0], len(rest) // 2)
        learned.append(float(roc_auc_score(truth, model.decision_function(_features(x, rest)))))
        plain.append(float(roc_auc_score(truth, _cosines(x, rest))))
    return learned, plain


def hidden_pairs(pairs: np.ndarray, seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """(is_kept, hidden): `count` pairs to hide, each of whose targets keeps another one; and the generator."""
    rng = np.random.default_rng(seed)
    left = np.bincount(pairs[:, 1], minlength=int(pairs[:, 1].max()) + 1)
    is_kept, hidden = np.ones(len(pairs), bool), list[int]()
    for place in rng.permutation(len(pairs)).tolist():
        if len(hidden) == count:
            break
        if left[pairs[place, 1]] > 1:
            left[pairs[place, 1]] -= 1
            is_kept[place] = False
            hidden.append(place)
    return is_kept, pairs[hidden], rng


def hidden_scores(
    pairs: np.ndarray, hidden: np.ndarray, rng: np.random.Generator, vectors: np.ndarray, targets: np.ndarray
) -> tuple[float, float]:
    """AUC of the cosine against one random non-pair each, and hits@10 among all targets."""
    from sklearn.metrics import roc_auc_score

    x, known = unit(vectors), set(map(tuple, pairs.tolist()))
    false = np.array([[a, _other(a, known, targets, rng)] for a in hidden[:, 0].tolist()])
    scores = np.concatenate([_cosines(x, hidden), _cosines(x, false)])
    auc = float(roc_auc_score(np.repeat([1, 0], len(hidden)), scores))
    every = x[hidden[:, 0]] @ x[targets].T
    own = every[np.arange(len(hidden)), np.searchsorted(targets, hidden[:, 1])]
    return auc, float(((every > own[:, None]).sum(axis=1) < 10).mean())


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length in float64."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def both(*parts: np.ndarray) -> np.ndarray:
    """Representations side by side, each of unit length."""
    return unit(np.concatenate([unit(part) for part in parts], axis=1))


def _splits(count: int, train: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(count)
        yield order[:train], order[train : train + 400]


def _other(source: int, known: set[tuple[int, int]], targets: np.ndarray, rng: np.random.Generator) -> int:
    while True:
        target = int(targets[rng.integers(len(targets))])
        if (source, target) not in known:
            return target


def _features(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    a, b = x[pairs[:, 0]], x[pairs[:, 1]]
    return np.concatenate([a * b, np.abs(a - b)], axis=1)


def _cosines(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    found: np.ndarray = (x[pairs[:, 0]] * x[pairs[:, 1]]).sum(axis=1)
    return found


def _nodes(plan: Plan, column: str, texts: list[str]) -> np.ndarray:
    return np.array([plan.node(column, text) for text in texts])
