"""Blocks that a callback ends."""

from __future__ import annotations

import asyncio
import sys

import pytest

from longspan.serve.interruption import Interruption


class LateError(Exception):
    pass


def test_what_is_awaited_is_given_up() -> None:
    ended: list[str] = []

    async def work() -> None:
        with Interruption(LateError()) as interrupt:
            asyncio.get_running_loop().call_later(0.01, interrupt)
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                ended.append("sleep")
                raise

    async def run() -> None:
        with pytest.raises(LateError):
            await work()
        await asyncio.sleep(0)  # the task itself goes on

    asyncio.run(run())
    assert ended == ["sleep"]


def test_an_end_that_comes_too_late_does_nothing() -> None:
    async def run() -> str:
        with Interruption(LateError()) as interrupt:
            await asyncio.sleep(0)
        interrupt()
        await asyncio.sleep(0)
        return "done"

    assert asyncio.run(run()) == "done"


def test_an_end_in_the_turn_in_which_the_work_is_done() -> None:
    """Either comes first; the work is not lost without a word, and the task is not cancelled behind the block."""

    async def run(is_before: bool) -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        try:
            with Interruption(LateError()) as interrupt:
                calls = [interrupt, lambda: future.set_result("done")]
                for call in calls if is_before else reversed(calls):
                    loop.call_soon(lambda call=call: None if future.cancelled() else call())  # type: ignore[misc]
                found = await future
        except LateError:
            found = "late"
        await asyncio.sleep(0)
        return found

    assert asyncio.run(run(True)) == "late" and asyncio.run(run(False)) == "late"


def test_other_errors_pass() -> None:
    async def run() -> None:
        with Interruption(LateError()), pytest.raises(KeyError):
            raise KeyError

    asyncio.run(run())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not count who cancels")
def test_a_task_that_is_cancelled_itself_stays_so() -> None:
    async def work() -> None:
        with Interruption(LateError()) as interrupt:
            asyncio.get_running_loop().call_soon(interrupt)
            await asyncio.sleep(30)

    async def run() -> None:
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
