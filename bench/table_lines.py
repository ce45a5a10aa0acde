"""What each table says: its figures, their targets, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .case import OURS
from .contest import our_name
from .results import Entry, Result
from .table import number, quantity
from .table_parts import Figures, Line, Part, Table, at_least, at_most, best_peers, missing, over, shares

DTYPES: Final = ("float32", "bfloat16", "int8")
# The peers of issue and note: whoever runs the model in that compute type.
ENCODERS: Final = {
    "float32": (1.3, ("sentence-transformers", "onnxruntime", "openvino", "ctranslate2")),
    "bfloat16": (1.3, ("openvino bfloat16", "ctranslate2 bfloat16")),
    "int8": (1.3, ("openvino int8", "onnxruntime int8", "ctranslate2 int8")),
}
LATENCY: Final = 0.7
LINEAR_SHARE: Final = 0.8
ATTENTION: Final = 1.5
BIAS_COST: Final = 1.1
ATTENTION_MB: Final = 64.0
MIXED: Final = 1.05
LOAD_SECONDS: Final = 0.05
ADD_RATE: Final = 1.0  # GB/s


def cpu_engine(found: Figures) -> Iterator[Line]:
    """Whole models, their kernels, adapters, growth."""
    for dtype, (target, peers) in ENCODERS.items():
        results, ours = found.results("encode"), our_name(dtype)
        texts = " / ".join(str(result.labels["texts"]) for result in results)
        figure = f"{dtype} over the best peer, {texts or 'three sets of'} texts"
        yield at_least(figure, target, best_peers(results, ours, peers), found.entries("encode", ours))
    for dtype in DTYPES:
        yield _linear(found, dtype)
    yield _attention(found)
    for position in ("alibi", "rope"):
        yield _bias(found, position)
    memory = [entry.value.median for entry in found.entries("attention_memory", OURS) if entry.value]
    peer = [entry.value.median for entry in found.entries("attention_memory", "torch") if entry.value]
    beside = f"(torch {number(peer[0])} MB)" if peer else ""
    yield at_most("attention with ALiBi at 8192, extra memory", ATTENTION_MB, memory, "MB", beside)
    for dtype, (_, peers) in ENCODERS.items():
        results = found.results("latency", query="8 words")
        best = best_peers(results, our_name(dtype), peers)
        entries = found.entries("latency", our_name(dtype), query="8 words")
        mine = [quantity(entry.value.median, "s") for entry in entries if entry.value is not None]
        said = f"({', '.join(mine + [name for _, name in best])})"
        yield at_most(
            f"one query of 8 words, {dtype}, over the best peer", LATENCY, [1 / ratio for ratio, _ in best], "x", said
        )
    for dtype in DTYPES:
        yield _mixed(found, dtype)
    yield from _growth(found)
    yield from _random_models(found)


def late_chunking(found: Figures) -> Iterator[Line]:
    """The op, its cost in a model, memory of long documents, seams."""
    parting = found.results("span_mean", spans="parting")
    ours = found.entries("span_mean", OURS)
    names = " / ".join(str(result.labels["spans"]) for result in found.results("span_mean"))
    yield _share(f"span_mean of 8192 x 768, 500 spans {names}".strip(), 0.8, ours)
    for peer in ("numpy loop", "torch segment_reduce", "numpy cumsum"):
        ratios = best_peers(parting, OURS, (peer,))
        yield Line(f"span_mean beside {peer}", "", _ratio(ratios) if ratios else "not measured")
    yield _figure(found, "encode_chunks over token vectors", "late_chunking", f"{OURS} chunks over token vectors")
    for result in found.results("memory", call="encode_chunks"):
        figure = f"{result.labels['tokens']:,} tokens through {result.labels['model']}, extra memory"
        yield _figure_of(figure, result.entries[0])
    for result in found.results("late_chunking"):
        if "overlap" in result.labels:
            pairs = [(entry.contestant.removeprefix(OURS).strip(), entry.value) for entry in result.entries]
            means = ", ".join(f"{name} {value.median:.3f}" for name, value in pairs if value is not None)
            yield Line(f"1 - cosine of a token in two windows, {result.labels['overlap']} shared", "", means)


def retrieval(found: Figures) -> Iterator[Line]:
    """Hamming search, MaxSim, an index's growth."""
    for bits, queries, target, is_bound in ((1024, 1, 1.0, True), (1024, 64, 4.0, False), (256, 64, 3.0, False)):
        results = found.results("hamming", bits=bits, queries=queries)
        ours = found.entries("hamming", OURS, bits=bits, queries=queries)
        figure = f"Hamming top-100 of 1 M x {bits} bits, {queries} quer{'y' if queries == 1 else 'ies'}, over FAISS"
        yield at_least(figure, target, best_peers(results, OURS, ("faiss",)), ours)
        if is_bound:
            yield _share("the same", 0.85, ours)
    one = found.results("maxsim", queries=1)
    wide, narrow = found.entries("maxsim", OURS, queries=1), found.entries("maxsim", f"{OURS} bfloat16", queries=1)
    shape = "MaxSim 32 x 128 against 1000 x 180"
    yield at_least(f"{shape}, float32, over maxsim-cpu", 2.5, best_peers(one, OURS, ("maxsim-cpu",)), wide)
    peer = found.entries("maxsim", "maxsim-cpu", queries=1)
    both = [(over(theirs, mine), "maxsim-cpu") for theirs, mine in zip(peer, narrow, strict=False)]
    yield at_least(f"{shape}, bfloat16 documents, over maxsim-cpu", 4.5, both, narrow)
    ratios = best_peers(one, f"{OURS} bfloat16", ("torch bfloat16",))
    yield at_least(f"{shape}, bfloat16 documents, over torch bfloat16", 2, ratios, narrow)
    yield from _many_queries(found)
    for result in found.results("index"):
        entry, step = result.entries[0], result.labels["step"]
        figure = f"index of {result.labels['codes']:,} x {result.labels['bits']} bits: {step}"
        if step == "load" and entry.value is not None:
            yield at_most(figure, LOAD_SECONDS, [entry.value.median], "s")
        elif step == "add" and entry.rate is not None:
            yield Line(figure, f">= {ADD_RATE:g} GB/s", f"{entry.rate:.2f} GB/s", "", entry.rate >= ADD_RATE)


def _share(figure: str, target: float, ours: list[Entry]) -> Line:
    known = [entry.share for entry in ours if entry.share is not None]
    wanted = f">= {target:.0%} of reading"
    return Line(figure, wanted, shares(ours), "", min(known) >= target) if known else missing(figure, wanted)


def _ratio(ratios: list[tuple[float, str]]) -> str:
    return " / ".join(f"{ratio:.2f} x" for ratio, _ in ratios)


def _linear(found: Figures, dtype: str) -> Line:
    results = [result for result in found.results("linear") if int(result.labels["rows"]) >= 512]
    figure, target = f"`linear` {dtype}, 512 rows and more", ">= 80 % of the limit"
    mine = [(result, entry) for result in results for entry in result.entries if entry.contestant == our_name(dtype)]
    known = [(result, entry) for result, entry in mine if entry.share is not None]
    if not known:
        return missing(figure, target)
    reached = ", ".join(
        f"{r.labels['model']} {r.labels['product']} x {r.labels['rows']}: {e.share:.0%}" for r, e in known
    )
    worst = min(entry.share or 0.0 for _, entry in known)
    return Line(figure, target, reached, f"of {known[0][1].bound}", worst >= LINEAR_SHARE)


def _attention(found: Figures) -> Line:
    plain = found.results("attention_varlen", heads="12 x 64", position="plain")
    results = [result for result in plain if int(result.labels.get("length", 0)) >= 512]
    lengths = " / ".join(str(result.labels["length"]) for result in results)
    ours = f"{OURS} bfloat16"
    entries = [entry for result in results for entry in result.entries if entry.contestant == ours]
    figure = f"attention bfloat16, 12 x 64, {lengths or '512 to 8192'} tokens, over torch SDPA"
    return at_least(figure, ATTENTION, best_peers(results, ours, ("torch bfloat16", "torch")), entries)


def _bias(found: Figures, position: str) -> Line:
    costs = []
    for result in found.results("attention_varlen", heads="12 x 64"):
        by_name = {entry.contestant: entry for entry in result.entries if entry.value is not None}
        pairs = ((f"{our_name(dtype)} {position}", our_name(dtype)) for dtype in ("float32", "bfloat16"))
        costs += [over(by_name[a], by_name[b]) for a, b in pairs if a in by_name and b in by_name]
    figure = f"what {position} costs at 512 tokens, float32 / bfloat16"
    line = at_most(figure, BIAS_COST, costs, "x")
    return line if position == "alibi" else Line(line.figure, "", line.reached)


def _mixed(found: Figures, dtype: str) -> Line:
    costs, ranks = [], []
    without = f"{OURS} without adapters" + ("" if dtype == "float32" else f" {dtype}")
    for result in found.results("mixed_tasks"):
        by_name = {entry.contestant: entry for entry in result.entries if entry.value is not None}
        if our_name(dtype) in by_name and without in by_name:
            costs.append(over(by_name[our_name(dtype)], by_name[without]))
            ranks.append(f"{result.labels['rank']}")
            layers = result.labels["layers"]
    named = f"rank {' / '.join(ranks)}, {layers} layers" if ranks else "v3's shape"
    return at_most(f"five tasks in a batch, {dtype}, {named}, over no adapters", MIXED, costs, "x")


def _growth(found: Figures) -> Iterator[Line]:
    for grows, label, what in (("batch", "texts", "texts of 6 to 32 words"), ("length", "words", "words, 16 texts")):
        results = sorted(found.results("scaling", grows=grows), key=lambda result: int(result.labels[label]))
        for dtype in DTYPES:
            points = [
                (result.labels[label], 1e6 / entry.rate)
                for result in results
                for entry in result.entries
                if entry.contestant == our_name(dtype) and entry.rate
            ]
            if points:
                said = ", ".join(f"{place}: {cost:.1f}" for place, cost in points)
                yield Line(f"µs a token, {dtype}, by {what}", "flat, then linear", said)


def _random_models(found: Figures) -> Iterator[Line]:
    by_model: dict[str, list[Result]] = {}
    for result in found.results("random_models"):
        by_model.setdefault(str(result.labels["model"]), []).append(result)
    for model, results in by_model.items():
        for dtype in DTYPES:
            pairs = [(r.labels["length"], e) for r in results for e in r.entries if e.contestant == our_name(dtype)]
            timed = [(length, entry) for length, entry in pairs if entry.rate]
            if timed:
                said = ", ".join(f"{length}: {number(entry.rate or 0)}" for length, entry in timed)
                entries = [entry for _, entry in timed]
                yield Line(f"{model}'s shape, {dtype}, tokens/s by length", "", said, shares(entries))


def _many_queries(found: Figures) -> Iterator[Line]:
    for result in found.results("maxsim_pieces"):
        gains = [
            f"{entry.against.removeprefix(OURS).strip()} {1 / entry.ratio.median:.2f}"
            for entry in result.entries
            if entry.ratio is not None and entry.against is not None
        ]
        least = [1 / entry.ratio.median for entry in result.entries if entry.ratio is not None]
        if gains:
            yield Line("MaxSim, 16 queries at once, gain a query", ">= 1.3x", ", ".join(gains), "", min(least) >= 1.3)


def _figure(found: Figures, figure: str, bench: str, contestant: str) -> Line:
    entries = found.entries(bench, contestant)
    return _figure_of(figure, entries[0]) if entries else missing(figure, "")


def _figure_of(figure: str, entry: Entry) -> Line:
    """One that has its limit in the record."""
    if entry.value is None:
        return Line(figure, "", f"not measured: {entry.refused}", "", False)
    value, unit = entry.value.median, entry.unit
    if entry.limit is None:
        return Line(figure, "", f"{number(value)} {unit}")
    return Line(figure, f"<= {entry.limit:g} {unit}", f"{number(value)} {unit}", "", value <= entry.limit)


TABLES: Final = {
    "cpu-engine": Table(
        "The CPU engine beside its peers and the machine's limits",
        (
            Part("encode"),
            Part("linear", False, r"model=(MiniLM product=up|base product=(up|down)) .*rows=(512|2048)$"),
            Part("attention_varlen", False, r"heads=12 x 64 (position=plain length=(512|2048|8192)$|what)", ("torch",)),
            Part("attention_memory"),
            Part("latency", only="8 words"),
            Part("mixed_tasks"),
            Part("scaling", False, peers=()),
            Part("random_models", False, peers=(), rounds=3),
        ),
        cpu_engine,
    ),
    "late-chunking": Table(
        "Late chunking: the op, what it costs a model, long documents",
        (Part("span_mean"), Part("late_chunking"), Part("memory")),
        late_chunking,
    ),
    "retrieval": Table(
        "Search: Hamming, MaxSim, the index",
        (Part("hamming", False), Part("maxsim"), Part("maxsim_pieces"), Part("index")),
        retrieval,
    ),
}
