"""One connection's orders that take time: from the message to the one end of each.

Owns the ids of those that have not ended, and the task of each. Knows nothing of how an order is
carried out, nor who may give it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from qwend.daemon.journal import Owner
from qwend.errors import CapacityError, ConfigError, QwendError
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from qwend.wire.orders import Load, Unload
from qwend.wire.replies import Done, Progress, Stage
from qwend.wire.usage import Usage

log = logging.getLogger(__name__)

_CODES = frozenset(code.value for code in ErrorCode)

Errand = Load | Unload
Tell = Callable[[Stage, int, int], None]
"""stage, done, total: as `progress` has them."""
CarryOut = Callable[[Errand, Tell], Awaitable[Done]]
"""errand, tell: cancelled when nobody wants it any more; raises QwendError."""


class Errands:
    def __init__(self, carry_out: CarryOut, owner: Owner) -> None:
        self._carry_out = carry_out
        self._owner = owner
        self._open: dict[int, asyncio.Task[Done | Error]] = {}

    @property
    def open_ids(self) -> tuple[int, ...]:
        return tuple(self._open)

    def take(self, asked: Errand) -> None:
        """The owner gets its end, sooner or later."""
        task = asyncio.ensure_future(self._end_of(asked))
        self._open[asked.id] = task
        task.add_done_callback(lambda ended: self._tell_end(asked, ended))

    def cancel(self, client_id: int) -> bool:
        """True if it was one of these; its end is on the way."""
        task = self._open.get(client_id)
        if task is not None:
            task.cancel()
        return task is not None

    def drop(self) -> None:
        """The owner is gone: what it wanted is given up."""
        for task in tuple(self._open.values()):
            task.cancel()

    async def _end_of(self, asked: Errand) -> Done | Error:
        def tell(stage: Stage, done: int, total: int) -> None:
            self._owner.send(Progress(asked.id, stage, done, total))

        try:
            return await self._carry_out(asked, tell)
        except CapacityError as error:
            retry_after_s = error.retry_after_s
            return Error(ErrorCode.BUSY, str(error), id=asked.id, retry_after_s=retry_after_s)
        except QwendError as error:
            return Error(_code(error), str(error), id=asked.id)
        except Exception as error:
            log.exception("%s failed", asked.op)
            return Error(ErrorCode.INTERNAL, f"{asked.op}: {error}", id=asked.id)

    def _tell_end(self, asked: Errand, ended: asyncio.Task[Done | Error]) -> None:
        del self._open[asked.id]
        if ended.cancelled():
            self._owner.send(Done(asked.id, "cancelled", Usage(0, 0, 0)))
        else:
            self._owner.send(ended.result())


def _code(error: QwendError) -> str:
    """Its own, or what an administrator can do: change what was asked for, or the model."""
    if error.code in _CODES:
        return error.code
    return ErrorCode.INVALID_VALUE if isinstance(error, ConfigError) else ErrorCode.MODEL_ERROR
