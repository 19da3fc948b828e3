"""Orders that take time: each ends once, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from qwend.daemon.errands import Errand, Errands, Tell
from qwend.errors import CapacityError, ConfigError, HostError, ModelError
from qwend.wire.notices import Error
from qwend.wire.orders import Load
from qwend.wire.replies import Done, Progress
from qwend.wire.usage import Usage
from tests.daemon.fakes import FakeOwner

ORDER = Load(7, "other")
LOADED = Done(7, "loaded", Usage(0, 0, 0))


def ends_of(
    carry_out: Callable[[Errand, Tell], Awaitable[Done]],
    meanwhile: Callable[[Errands], None] = lambda errands: None,
) -> FakeOwner:
    """What the owner hears of one order."""

    async def main() -> FakeOwner:
        owner = FakeOwner()
        errands = Errands(carry_out, owner)
        errands.take(ORDER)
        assert errands.open_ids == (7,)
        meanwhile(errands)
        while errands.open_ids:
            await asyncio.sleep(0)
        return owner

    return asyncio.run(main())


async def never(asked: Errand, tell: Tell) -> Done:
    await asyncio.Event().wait()
    return LOADED


def test_it_ends_as_it_was_carried_out_after_what_was_told_of_it() -> None:
    async def carried_out(asked: Errand, tell: Tell) -> Done:
        tell("loading", 40, 100)
        return LOADED

    assert ends_of(carried_out).messages == [Progress(7, "loading", 40, 100), LOADED]


@pytest.mark.parametrize("has_begun", [False, True])
def test_one_that_is_cancelled_ends_so_even_before_it_has_begun(has_begun: bool) -> None:
    async def main() -> None:
        owner = FakeOwner()
        errands = Errands(never, owner)
        errands.take(ORDER)
        if has_begun:
            await asyncio.sleep(0)
        assert errands.cancel(7)
        assert not errands.cancel(8)
        while errands.open_ids:
            await asyncio.sleep(0)
        assert owner.done_of(7).finish_reason == "cancelled"

    asyncio.run(main())


def test_the_owner_that_goes_takes_its_orders_along() -> None:
    ends_of(never, meanwhile=lambda errands: errands.drop())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("no such model"), "model_error"),
        (ModelError("no such tensor", code="truncated"), "model_error"),
        (ConfigError("a contradiction"), "invalid_value"),
        (HostError("/run", "making", "no"), "model_error"),
        (CapacityError("later", retry_after_s=5.0), "busy"),
        (RuntimeError("a fault of ours"), "internal"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else one,
)
def test_an_error_is_one_that_its_reader_can_act_on(error: Exception, code: str) -> None:
    async def fails(asked: Errand, tell: Tell) -> Done:
        raise error

    (end,) = ends_of(fails).messages
    assert isinstance(end, Error)
    assert (end.id, end.code) == (7, code)
    assert end.message
    assert (end.retry_after_s == 5.0) == (code == "busy")
