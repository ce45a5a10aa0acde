"""The scheduler, with runners that record what they are given: order, sharing, bounds, deadlines, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from longspan.serve.cache import ResultCache
from longspan.serve.jobs import (
    ClosedError,
    ComputeError,
    DeadlineError,
    DroppedError,
    QueueFullError,
    TooLargeError,
    Work,
)
from longspan.serve.scheduler import Limits, Scheduler


class Recorder:
    """A runner that keeps its batches, and waits where it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fails: dict[Any, Exception] = {}
        self.most: int | None = None  # payloads that fit into memory

    def __call__(self, payloads: Sequence[Any]) -> list[Any]:
        self.batches.append(list(payloads))
        self.entered.set()
        assert self.gate.wait(20)
        if self.most is not None and len(payloads) > self.most:
            raise MemoryError
        for payload in payloads:
            if payload in self.fails:
                raise self.fails[payload]
        return [f"<{payload}>" for payload in payloads]


@pytest.fixture
def runner() -> Recorder:
    return Recorder()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler(Limits(batch_tokens=100, queue_tokens=1000, queue_jobs=50))
    yield made
    made.close()


def works(*names: str, tokens: int = 10, shared: bool = True) -> list[Work]:
    return [Work(name, tokens, name if shared else None) for name in names]


def hold(scheduler: Scheduler, runner: Recorder) -> Any:
    """Keep the computing thread busy with one item, until `runner.gate` opens."""
    runner.gate.clear()
    job = scheduler.submit(runner, works("first"))
    assert runner.entered.wait(20)
    return job


def test_results_come_in_order(scheduler: Scheduler, runner: Recorder) -> None:
    job = scheduler.submit(runner, works("b", "a", "c"))
    assert job.future.result(20) == ["<b>", "<a>", "<c>"]
    assert scheduler.queued_tokens == scheduler.queued_items == scheduler.num_jobs == 0
    assert scheduler.submit(runner, []).future.result(20) == []


class SlowToLeave:
    """A condition whose owner is kept from the processor, for as long as the computing thread needs, right after it
    has let go of the lock."""

    def __init__(self, condition: threading.Condition, is_done: threading.Event) -> None:
        self._condition, self._is_done = condition, is_done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._condition, name)

    def __enter__(self) -> bool:
        return self._condition.__enter__()

    def __exit__(self, *error: object) -> None:
        self._condition.__exit__(None, None, None)
        if threading.current_thread() is threading.main_thread():
            assert self._is_done.wait(20)


def test_a_job_that_is_done_before_submit_returns(runner: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    is_done = threading.Event()

    class Told:
        def batch(self, *_: object) -> None:
            threading.Timer(0.05, is_done.set).start()  # by when the results are handed out

    scheduler = Scheduler(Limits(), watcher=Told())
    monkeypatch.setattr(scheduler, "_changed", SlowToLeave(scheduler._changed, is_done))
    assert scheduler.submit(runner, works("a", "b")).future.result(20) == ["<a>", "<b>"]
    scheduler.close()


def test_what_gathers_while_a_batch_runs_is_one_batch(scheduler: Scheduler, runner: Recorder) -> None:
    first = hold(scheduler, runner)
    jobs = [scheduler.submit(runner, works(name)) for name in "abcde"]
    assert scheduler.queued_tokens == 50 and scheduler.queued_items == 5
    runner.gate.set()
    assert [job.future.result(20) for job in [first, *jobs]] == [["<first>"], *([f"<{name}>"] for name in "abcde")]
    assert runner.batches == [["first"], list("abcde")]


def test_a_batch_keeps_to_the_budget_and_to_one_runner(scheduler: Scheduler, runner: Recorder) -> None:
    other = Recorder()
    hold(scheduler, runner)
    large = scheduler.submit(runner, works("large", tokens=500))
    one = scheduler.submit(runner, works(*"abcdef", tokens=30))
    two = scheduler.submit(other, works("x"))
    runner.gate.set()
    for job in (large, one, two):
        job.future.result(20)
    assert runner.batches == [["first"], ["large"], ["a", "b", "c"], ["d", "e", "f"]]
    assert other.batches == [["x"]]


def test_small_requests_go_first_and_bulk_is_passed_over_once(runner: Recorder) -> None:
    scheduler = Scheduler(Limits(batch_tokens=1000, queue_tokens=100_000))
    hold(scheduler, runner)
    bulk = scheduler.submit(runner, works(*(f"bulk{i}" for i in range(4)), tokens=1000))
    small = [scheduler.submit(runner, works(f"small{i}", tokens=600)) for i in range(5)]
    runner.gate.set()
    for job in [bulk, *small]:
        job.future.result(20)
    expected = ["small0", "bulk0", "small1", "bulk1", "small2", "bulk2", "small3", "bulk3", "small4"]
    assert [batch[0] for batch in runner.batches[1:]] == expected
    scheduler.close()


def test_a_small_request_does_not_wait_for_bulk_in_its_own_batch(runner: Recorder) -> None:
    scheduler = Scheduler(Limits(batch_tokens=2000, queue_tokens=100_000))
    hold(scheduler, runner)
    bulk = scheduler.submit(runner, works(*(f"bulk{i}" for i in range(5)), tokens=900))
    small = [scheduler.submit(runner, works(f"small{i}")) for i in range(2)]
    runner.gate.set()
    for job in [bulk, *small]:
        job.future.result(20)
    assert runner.batches[1:] == [["small0", "small1"], ["bulk0", "bulk1"], ["bulk2", "bulk3"], ["bulk4"]]
    scheduler.close()


def test_a_batch_of_bulk_takes_small_ones_along(runner: Recorder) -> None:
    scheduler = Scheduler(Limits(batch_tokens=1000, queue_tokens=100_000))
    hold(scheduler, runner)
    bulk = scheduler.submit(runner, works("bulk0", "bulk1", tokens=900))
    small = [scheduler.submit(runner, works(f"small{i}", tokens=tokens)) for i, tokens in enumerate((950, 90))]
    runner.gate.set()
    for job in [bulk, *small]:
        job.future.result(20)
    assert runner.batches[1:] == [["small0"], ["bulk0", "small1"], ["bulk1"]]
    scheduler.close()


def test_a_request_may_ask_for_the_bulk_lane(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    slow = scheduler.submit(runner, works("slow", tokens=100), lane="bulk")
    fast = scheduler.submit(runner, works("fast", tokens=100))
    runner.gate.set()
    slow.future.result(20), fast.future.result(20)
    assert runner.batches[1:] == [["fast"], ["slow"]]


def test_equal_items_are_computed_once(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    one = scheduler.submit(runner, works("a", "a", "b"))
    two = scheduler.submit(runner, works("b", "first"))  # "first" runs at this moment
    mine = scheduler.submit(runner, works("a", shared=False))
    runner.gate.set()
    assert one.future.result(20) == ["<a>", "<a>", "<b>"]
    assert two.future.result(20) == ["<b>", "<first>"] and mine.future.result(20) == ["<a>"]
    assert runner.batches == [["first"], ["a", "b", "a"]]


def test_a_shared_item_outlives_one_of_its_jobs(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    one, two = scheduler.submit(runner, works("a", "b")), scheduler.submit(runner, works("b"))
    one.cancel()
    assert scheduler.queued_items == 1
    runner.gate.set()
    assert two.future.result(20) == ["<b>"]
    with pytest.raises(DroppedError):
        one.future.result(20)
    assert runner.batches == [["first"], ["b"]]


def test_a_small_request_does_not_wait_behind_bulk_for_the_same_text(runner: Recorder) -> None:
    scheduler = Scheduler(Limits(batch_tokens=100, queue_tokens=100_000))
    hold(scheduler, runner)
    bulk = scheduler.submit(runner, works(*(f"b{i}" for i in range(30)), tokens=100))
    small = scheduler.submit(runner, works("b29", tokens=100))
    runner.gate.set()
    small.future.result(20)
    assert runner.batches[1] == ["b29"]
    bulk.future.result(20)
    scheduler.close()


def test_a_full_queue_says_when_to_come_again(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    huge = scheduler.submit(runner, works("huge", tokens=5000))  # larger than the queue, which was empty
    with pytest.raises(QueueFullError) as refused:
        scheduler.submit(runner, works("a"))
    assert refused.value.retry_after >= 1 and scheduler.queued_items == 1
    huge.cancel()
    assert scheduler.queued_tokens == 0
    jobs = [scheduler.submit(runner, works(f"{i}")) for i in range(49)]
    with pytest.raises(QueueFullError):
        scheduler.submit(runner, works("a"))
    runner.gate.set()
    assert all(job.future.result(20) for job in jobs)
    assert scheduler.submit(runner, works("a")).future.result(20) == ["<a>"]


def test_what_has_not_begun_by_the_deadline_is_never_computed(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    late = scheduler.submit(runner, works("late"), deadline=time.monotonic() + 0.01)
    good = scheduler.submit(runner, works("good"), deadline=time.monotonic() + 60)
    time.sleep(0.02)
    runner.gate.set()
    with pytest.raises(DeadlineError):
        late.future.result(20)
    assert good.future.result(20) == ["<good>"] and runner.batches == [["first"], ["good"]]


def test_hang_ups_leave_the_queue_empty(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    for i in range(2000):
        job = scheduler.submit(runner, works(f"a{i % 3}", f"b{i}"))
        job.cancel()
        job.cancel()
    assert scheduler.queued_tokens == scheduler.queued_items == 0 and scheduler.num_jobs == 1
    runner.gate.set()
    assert scheduler.submit(runner, works("z")).future.result(20) == ["<z>"]
    assert runner.batches == [["first"], ["z"]]


def test_a_bad_item_takes_no_other_with_it(scheduler: Scheduler, runner: Recorder) -> None:
    runner.fails["c"] = ValueError("no such letter")
    hold(scheduler, runner)
    jobs = {name: scheduler.submit(runner, works(name)) for name in "abcde"}
    runner.gate.set()
    for name in "abde":
        assert jobs[name].future.result(20) == [f"<{name}>"]
    with pytest.raises(ComputeError, match="ValueError: no such letter"):
        jobs["c"].future.result(20)
    assert scheduler.is_alive and scheduler.num_jobs == 0


def test_a_batch_beyond_the_memory_is_halved(scheduler: Scheduler, runner: Recorder) -> None:
    runner.most = 3
    hold(scheduler, runner)
    job = scheduler.submit(runner, works(*"abcdefgh"))
    runner.gate.set()
    assert job.future.result(20) == [f"<{name}>" for name in "abcdefgh"]
    runner.batches.clear()
    assert scheduler.submit(runner, works(*"ijklmnop")).future.result(20)
    assert len(runner.batches[0]) < 8  # the budget stays lower

    class OutOfMemoryError(RuntimeError):
        """As torch calls its own."""

    runner.fails["gpu"] = OutOfMemoryError("CUDA out of memory")
    with pytest.raises(TooLargeError):
        scheduler.submit(runner, works("gpu")).future.result(20)
    runner.most = 0
    with pytest.raises(TooLargeError):
        scheduler.submit(runner, works("x")).future.result(20)


def test_drain_finishes_what_is_queued(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    job = scheduler.submit(runner, works("a"))
    threading.Timer(0.05, runner.gate.set).start()
    assert not scheduler.drain(0.001)
    with pytest.raises(ClosedError):
        scheduler.submit(runner, works("b"))
    assert scheduler.drain(20) and job.future.result(0) == ["<a>"]


def test_close_fails_what_is_left(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    job = scheduler.submit(runner, works("a"))
    scheduler.close()
    with pytest.raises(ClosedError):
        job.future.result(20)
    runner.gate.set()
    assert not scheduler.is_alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_computing_thread_is_told(scheduler: Scheduler, runner: Recorder) -> None:
    hold(scheduler, runner)
    waiting = scheduler.submit(runner, works("a"))
    runner.fails["first"] = SystemExit()  # type: ignore[assignment]
    runner.gate.set()
    with pytest.raises(ClosedError, match="has died"):
        waiting.future.result(20)
    scheduler._thread.join(20)
    assert not scheduler.is_alive
    with pytest.raises(ClosedError, match="has died"):
        scheduler.submit(runner, works("b"))


def test_a_batch_that_is_not_full_may_wait(runner: Recorder) -> None:
    scheduler = Scheduler(Limits(batch_tokens=30, max_wait=10))
    started = time.monotonic()
    jobs = [scheduler.submit(runner, works(name)) for name in "abc"]
    assert all(job.future.result(20) for job in jobs)
    assert runner.batches == [["a", "b", "c"]] and time.monotonic() - started < 5  # it became full
    scheduler.close()


def test_results_are_kept(runner: Recorder) -> None:
    cache = ResultCache(10_000)
    scheduler = Scheduler(Limits(), cache)
    for _ in range(3):
        assert scheduler.submit(runner, works("a", "b")).future.result(20) == ["<a>", "<b>"]
    assert runner.batches == [["a", "b"]] and (cache.hits, cache.misses) == (4, 2)
    scheduler.close()


def test_the_cache_drops_the_least_recently_used() -> None:
    cache = ResultCache(3 * 408)
    for name in "abc":
        cache.put(name, 1)
    cache.get("a")
    cache.put("d", 1)
    assert [cache.get(name) for name in "abcd"] == [1, None, 1, 1] and cache.bytes == 3 * 408
    cache.put("a", 2)
    assert cache.get("a") == 2 and len(cache) == 3


def test_many_threads(scheduler: Scheduler, runner: Recorder) -> None:
    """Every caller gets its own results, whatever others cancel meanwhile."""

    def ask(number: int) -> None:
        for turn in range(30):
            names = [f"{(number + turn + i) % 7}" for i in range(3)]
            try:
                job = scheduler.submit(runner, works(*names))
            except QueueFullError:
                continue
            if turn % 5 == 0:
                job.cancel()
            else:
                assert job.future.result(20) == [f"<{name}>" for name in names]
                done.append(1)

    done: list[int] = []
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) > 100 and scheduler.queued_items == scheduler.queued_tokens == scheduler.num_jobs == 0


class Placed(Recorder):
    """A runner that knows which threads ran it, and whether two did at once."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[str] = []
        self._running = threading.Lock()

    def __call__(self, payloads: Sequence[Any]) -> list[Any]:
        assert self._running.acquire(blocking=False), "one batch at a time"
        try:
            self.threads.append(threading.current_thread().name)
            return super().__call__(payloads)
        finally:
            self._running.release()


HERE = threading.current_thread().name


def test_a_lone_job_is_computed_in_its_callers_thread(scheduler: Scheduler) -> None:
    runner = Placed()
    job = scheduler.submit(runner, works("a", "b"), here=True)
    assert job.future.done() and job.future.result() == ["<a>", "<b>"] and runner.threads == [HERE]
    assert scheduler.queued_tokens == scheduler.queued_items == scheduler.num_jobs == 0 and scheduler.busy_seconds > 0
    assert scheduler.submit(runner, works("c")).future.result(20) == ["<c>"]
    assert runner.threads == [HERE, "longspan-compute"]
    assert scheduler.submit(runner, works("d"), here=True).future.done()


def test_with_others_there_it_goes_to_the_computing_thread(scheduler: Scheduler) -> None:
    runner = Placed()
    first = hold(scheduler, runner)
    job = scheduler.submit(runner, works("a"), here=True)
    assert not job.future.done()
    first.cancel()  # its batch runs on, though nobody waits for it
    other = scheduler.submit(runner, works("b"), here=True)
    runner.gate.set()
    assert job.future.result(20) == ["<a>"] and other.future.result(20) == ["<b>"]
    assert HERE not in runner.threads


def test_what_comes_meanwhile_is_computed_afterwards(scheduler: Scheduler) -> None:
    runner = Placed()
    runner.gate.clear()
    thread = threading.Thread(target=lambda: scheduler.submit(runner, works("a"), here=True), name="caller")
    thread.start()
    assert runner.entered.wait(20)
    job = scheduler.submit(runner, works("b"))
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.2  # the computing thread waits, and asks nobody whether it is time
    runner.gate.set()
    assert job.future.result(20) == ["<b>"]
    thread.join(20)
    assert runner.threads == ["caller", "longspan-compute"]


def test_what_a_batch_does_not_hold_is_left_to_the_computing_thread(scheduler: Scheduler) -> None:
    runner = Placed()
    job = scheduler.submit(runner, works("a", "b", "c", tokens=60), here=True)
    assert job.future.result(20) == ["<a>", "<b>", "<c>"]
    assert runner.threads == [HERE, "longspan-compute", "longspan-compute"]


def test_failures_of_a_lone_job(scheduler: Scheduler) -> None:
    runner = Placed()
    runner.fails = {"bad": ValueError("no"), "end": SystemExit()}  # type: ignore[dict-item]
    with pytest.raises(ComputeError):
        scheduler.submit(runner, works("bad"), here=True).future.result(20)
    with pytest.raises(SystemExit):
        scheduler.submit(runner, works("end"), here=True)
    late = scheduler.submit(runner, works("late"), here=True, deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineError):
        late.future.result(20)
    assert scheduler.submit(runner, works("a"), here=True).future.result(20) == ["<a>"]
    assert scheduler.submit(runner, works("b")).future.result(20) == ["<b>"]
    assert ["late"] not in runner.batches and scheduler.num_jobs == 0


def test_a_scheduler_that_waits_for_more_computes_nothing_at_once() -> None:
    scheduler, runner = Scheduler(Limits(max_wait=0.05)), Placed()
    assert scheduler.submit(runner, works("a"), here=True).future.result(20) == ["<a>"]
    assert runner.threads == ["longspan-compute"]
    scheduler.close()
