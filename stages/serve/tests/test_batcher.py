"""Batches: who shares one, who waits, and who is not harmed."""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from lavit_core.errors import UsageError
from lavit_serve import batcher as batcher_module
from lavit_serve.batcher import Batcher
from lavit_serve.work import Ask, Describe, Report, Work, rows_of

IMAGE = np.zeros((1, 1, 3), np.uint8)


def ask(text: str, max_tokens: int = 1) -> Ask:
    return Ask(question=text, earlier=(), max_tokens=max_tokens)


class Recorder:
    """Answers questions with themselves, in capitals, once it is open; refuses those that hold `bad`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = threading.Event()

    def compute(self, works: Sequence[Any], report: Report) -> list[str]:
        self.open.wait(20)
        self.batches.append([getattr(work, "question", "image") for work in works])
        if any("bad" in text for text in self.batches[-1]):
            raise UsageError("bad")
        return [text.upper() for text in self.batches[-1]]


def run(recorder: Recorder, works: Sequence[Work], *, first: Work | None = None, max_rows: int = 4) -> list[Any]:
    """Submit works while the first one occupies the thread; return their results, errors included."""

    async def scenario() -> list[Any]:
        batcher = Batcher(recorder.compute, max_rows=max_rows, wait_seconds=0)
        batcher.start()
        held = asyncio.create_task(batcher.submit(first or ask("first")))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(batcher.submit(work)) for work in works]
        await asyncio.sleep(0)
        assert batcher.waiting == len(works)
        recorder.open.set()
        results = await asyncio.gather(held, *waiting, return_exceptions=True)
        assert batcher.alive
        batcher.stop()
        assert not batcher.alive
        return results[1:]

    return asyncio.run(scenario())


def test_a_question_counts_the_images_of_its_conversation() -> None:
    talk = Ask(question=["a", IMAGE, IMAGE], earlier=[(["b", IMAGE], "c"), ("d", "e")], max_tokens=1)
    assert [rows_of(work) for work in (talk, ask("a"))] == [3, 1]


def test_the_oldest_decides_and_its_group_comes_along() -> None:
    recorder = Recorder()
    works = [ask("a"), ask("b", 9), Describe(image=IMAGE, max_tokens=1), ask("c"), ask("d", 9)]
    assert run(recorder, works) == ["A", "B", "IMAGE", "C", "D"]
    assert recorder.batches == [["first"], ["a", "c"], ["b", "d"], ["image"]]


def test_a_batch_has_a_bound() -> None:
    recorder = Recorder()
    run(recorder, [ask(str(number)) for number in range(6)])
    assert recorder.batches == [["first"], ["0", "1", "2", "3"], ["4", "5"]]


def test_a_work_that_fails_harms_no_neighbour() -> None:
    recorder = Recorder()
    results = run(recorder, [ask("a"), ask("bad"), ask("c"), ask("d")])
    assert [str(result) for result in results] == ["A", "bad", "C", "D"]
    assert isinstance(results[1], UsageError)


def test_who_goes_is_left_out() -> None:
    recorder = Recorder()

    async def scenario() -> None:
        batcher = Batcher(recorder.compute, max_rows=4, wait_seconds=0)
        batcher.start()
        held = asyncio.create_task(batcher.submit(ask("first")))
        await asyncio.sleep(0.05)
        going, staying = (asyncio.create_task(batcher.submit(ask(text))) for text in ("going", "staying"))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.sleep(0)
        recorder.open.set()
        assert await asyncio.gather(held, staying) == ["FIRST", "STAYING"]
        batcher.stop()

    asyncio.run(scenario())
    assert recorder.batches == [["first"], ["staying"]]


def test_an_idle_thread_waits_for_company_and_no_longer() -> None:
    recorder = Recorder()
    recorder.open.set()

    async def scenario() -> float:
        batcher = Batcher(recorder.compute, max_rows=2, wait_seconds=30)
        batcher.start()
        began = time.monotonic()
        # A full batch does not wait.
        await asyncio.gather(*(batcher.submit(ask(text)) for text in "ab"))
        batcher.stop()
        return time.monotonic() - began

    assert asyncio.run(scenario()) < 20
    assert recorder.batches == [["a", "b"]]


def test_errors_of_every_kind_reach_their_caller() -> None:
    def broken(works: Sequence[Any], report: Report) -> list[Any]:
        raise MemoryError

    async def scenario() -> None:
        batcher = Batcher(broken, max_rows=2, wait_seconds=0)
        batcher.start()
        for _ in range(2):
            with pytest.raises(MemoryError):
                await batcher.submit(ask("a"))
        batcher.stop()

    asyncio.run(scenario())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is followed by as long a wait as anybody needs."""
    monkeypatch.setattr(batcher_module, "MOST_AFTER_BATCH", 1e6)


def test_clients_who_ask_one_thing_after_another_come_to_share_their_batches(patient: None) -> None:
    sizes: list[int] = []
    held = threading.Event()

    def compute(works: Sequence[Any], _: Report) -> list[str]:
        held.wait(20)
        time.sleep(0.01)
        return [work.question for work in works]

    async def scenario() -> None:
        batcher = Batcher(compute, max_rows=8, wait_seconds=0, observe=sizes.append, after_batch=1e6)
        batcher.start()

        async def client() -> None:
            while True:
                await batcher.submit(ask("a"))

        clients = [asyncio.create_task(client())]
        while not sizes:
            await asyncio.sleep(0.001)
        clients += [asyncio.create_task(client()) for _ in range(2)]
        while batcher.waiting < 2:
            await asyncio.sleep(0.001)
        held.set()
        while len(sizes) < 4:
            await asyncio.sleep(0.001)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        batcher.stop()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    # Two wait while the first is answered; then all three ask at once.
    assert sizes[:4] == [1, 3, 3, 3]


@pytest.mark.parametrize("rows", [[1, 1, 1], [3, 1, 2]])
def test_a_client_alone_is_not_waited_with(patient: None, rows: list[int]) -> None:
    observed: list[int] = []

    async def scenario() -> None:
        batcher = Batcher(
            lambda works, _: [0 for _ in works], max_rows=8, wait_seconds=0, observe=observed.append, after_batch=1e6
        )
        batcher.start()
        for count in rows * 20:
            work = Ask(question=["a", *[IMAGE] * count], earlier=(), max_tokens=1)
            await asyncio.wait_for(batcher.submit(work), 20)
        batcher.stop()

    asyncio.run(scenario())
    assert observed == rows * 20


def batches_after_a_batch_of_two(*later: Any) -> list[list[str]]:
    """Return the questions of each batch where works come while a batch of two others is computed."""
    recorder = Recorder()

    async def scenario() -> None:
        batcher = Batcher(recorder.compute, max_rows=8, wait_seconds=0, after_batch=1e6)
        batcher.start()
        first = [asyncio.create_task(batcher.submit(ask(text))) for text in ("a", "b")]
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit(work)) for work in later]
        await asyncio.sleep(0)
        recorder.open.set()
        await asyncio.wait_for(asyncio.gather(*first, *others), 20)
        batcher.stop()

    asyncio.run(scenario())
    return recorder.batches


def test_a_work_of_another_group_does_not_wait_for_clients_who_were_answered(patient: None) -> None:
    assert batches_after_a_batch_of_two(ask("c", 9))[-1] == ["c"]


def test_no_clients_are_waited_for_while_a_work_of_another_group_waits(patient: None) -> None:
    assert batches_after_a_batch_of_two(ask("d"), ask("c", 9))[-2:] == [["d"], ["c"]]
