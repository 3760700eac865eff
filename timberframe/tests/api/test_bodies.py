"""Bodies that do not come: each wait ends, and the longest ends first where too many wait."""

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from timberframe.http.bodies import Bodies, BodyLimit

LIMIT = BodyLimit(bytes=100, seconds=60)


async def nothing() -> Message:
    await asyncio.sleep(3600)
    raise AssertionError


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def waits_that_end(most_waiting: int, count: int) -> list[int]:
    """Which of `count` requests without a body were ended by those that came after them."""
    bodies = Bodies(piece_seconds=60, most_waiting=most_waiting)
    waits = []
    for _ in range(count):
        waits.append(asyncio.ensure_future(bodies.bounded(nothing, LIMIT, None)()))
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    ended = [number for number, wait in enumerate(waits) if wait.done()]
    for wait in waits:
        wait.cancel()
    refusals = await asyncio.gather(*waits, return_exceptions=True)
    for number in ended:
        refusal = refusals[number]
        assert isinstance(refusal, HTTPException)
        assert refusal.status_code == 408
        assert refusal.headers == {"Connection": "close"}
    return ended


async def test_longest_wait_ends_when_too_many_wait() -> None:
    assert await waits_that_end(most_waiting=3, count=5) == [0, 1]
    # The control: where all may wait, all do.
    assert await waits_that_end(most_waiting=5, count=5) == []


async def test_rest_of_a_large_body_is_waited_for_like_any_other() -> None:
    async def are_ended(most_waiting: int) -> list[bool]:
        bodies = Bodies(piece_seconds=60, most_waiting=most_waiting)
        discards = []
        for _ in range(5):
            discards.append(asyncio.ensure_future(bodies.discard(nothing)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        ended = [discard.done() for discard in discards]
        for discard in discards:
            discard.cancel()
        results = await asyncio.gather(*discards, return_exceptions=True)
        assert results[: sum(ended)] == [None] * sum(ended)  # the answer is out: nothing is raised
        return ended

    assert await are_ended(most_waiting=3) == [True, True, False, False, False]
    # The control: where all may wait, all do.
    assert await are_ended(most_waiting=5) == [False] * 5


async def test_body_that_arrives_is_not_ended_by_others() -> None:
    bodies = Bodies(piece_seconds=60, most_waiting=1)
    pieces: asyncio.Queue[Message] = asyncio.Queue()
    receive = bodies.bounded(pieces.get, LIMIT, None)
    for _ in range(3):
        stalled = asyncio.ensure_future(bodies.bounded(nothing, LIMIT, None)())
        await asyncio.sleep(0)
        pieces.put_nowait(piece(b"x"))
        assert (await receive())["body"] == b"x"
        with pytest.raises(HTTPException):
            await stalled


@pytest.mark.parametrize(("piece_seconds", "seconds"), [(60, 0.2), (0.05, 60)])
async def test_time_of_a_piece_and_of_the_whole_is_bounded(
    piece_seconds: float, seconds: float
) -> None:
    async def trickle() -> Message:
        await asyncio.sleep(0.1)
        return piece(b"x")

    async def receive_four(bodies: Bodies, limit: BodyLimit) -> None:
        receive = bodies.bounded(trickle, limit, None)
        for _ in range(4):
            await receive()

    await receive_four(Bodies(piece_seconds=60, most_waiting=9), LIMIT)
    impatient = Bodies(piece_seconds=piece_seconds, most_waiting=9)
    with pytest.raises(HTTPException) as refused:
        await receive_four(impatient, BodyLimit(100, seconds))
    assert refused.value.status_code == 408


@pytest.mark.parametrize(
    ("length", "messages"), [(None, [piece(b"x"), piece(b"", more=False)]), (1, [piece(b"x")])]
)
async def test_end_of_the_connection_is_waited_for_without_end(
    length: int | None, messages: list[Message]
) -> None:
    bodies = Bodies(piece_seconds=0.05, most_waiting=9)
    left = [*messages]

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.sleep(0.2)
        return {"type": "http.disconnect"}

    receive_bounded = bodies.bounded(receive, LIMIT, length)
    for _ in messages:
        await receive_bounded()
    assert (await receive_bounded())["type"] == "http.disconnect"
