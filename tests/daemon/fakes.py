"""What the daemon's unit tests share: owners, an engine and timers that do as they are told."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from qwend.config import ChatConfig, Config, LimitsConfig
from qwend.daemon.journal import Entry
from qwend.engine.events import Finished
from qwend.engine.request import EngineRequest, Kind, Priority
from qwend.wire.generation import Generation
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Done
from qwend.wire.requests import Complete

Result = TypeVar("Result")
_request_ids = count(1)


@dataclass(eq=False)
class FakeOwner:
    """One who asks, and keeps what it is told."""

    uid: int = 1000
    congested: bool = False
    page: int = 0
    messages: list[DaemonMessage] = field(default_factory=list)

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        self.messages.append(message)
        if then is not None:
            then()

    def ends_of(self, client_id: int) -> list[Done | Error]:
        return [
            one for one in self.messages if isinstance(one, Done | Error) and one.id == client_id
        ]

    def end_of(self, client_id: int) -> Done | Error:
        (end,) = self.ends_of(client_id)
        return end

    def error_of(self, client_id: int) -> Error:
        end = self.end_of(client_id)
        assert isinstance(end, Error), end
        return end

    def done_of(self, client_id: int) -> Done:
        end = self.end_of(client_id)
        assert isinstance(end, Done), end
        return end


@dataclass
class FakeTimer:
    at: float
    action: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeTimers:
    """A clock that is moved by hand, and what is to happen when it gets there."""

    now: float = 100.0
    timers: list[FakeTimer] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def call_later(self, delay_s: float, action: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.now + delay_s, action)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in sorted(self.timers, key=lambda one: one.at):
            if timer.at <= self.now and timer in self.timers:
                self.timers.remove(timer)
                if not timer.cancelled:
                    timer.action()


@dataclass
class FakeEngine:
    """The function that messages to the engine go into; remembers them."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    @property
    def submitted(self) -> list[int]:
        return [one["request"]["id"] for one in self.messages if one["do"] == "submit"]

    @property
    def cancelled(self) -> list[int]:
        return [one["id"] for one in self.messages if one["do"] == "cancel"]

    @property
    def granted(self) -> list[tuple[int, int]]:
        return [(one["id"], one["tokens"]) for one in self.messages if one["do"] == "grant"]


def config_with(system_prompt: str = "", **limits: Any) -> Config:
    return Config(limits=LimitsConfig(**limits), chat=ChatConfig(system_prompt=system_prompt))


def complete(client_id: int, **generation: Any) -> Complete:
    return Complete(client_id, "hello", Generation(**generation))


def entry_of(
    owner: FakeOwner,
    client_id: int = 0,
    *,
    priority: Priority = Priority.INTERACTIVE,
    kind: Kind = Kind.COMPLETE,
    **fields: Any,
) -> Entry:
    request = EngineRequest(
        id=next(_request_ids),
        kind=kind,
        uid=owner.uid,
        received_s=0.0,
        text="hello",
        priority=priority,
    )
    return Entry(request, client_id, owner, **fields)


def finished(request_id: int, reason: str = "stop", **fields: Any) -> Finished:
    return Finished(
        request_id=request_id,
        finish_reason=reason,
        prompt_tokens=5,
        cached_tokens=2,
        completion_tokens=fields.pop("completion_tokens", 1),
        queue_s=0.1,
        prefill_s=0.2,
        ttft_s=0.3,
        decode_s=0.4,
        itl_p50_s=0.5,
        itl_max_s=0.6,
        seed=7,
        **fields,
    )


class _JumpingSelector(selectors.SelectSelector):
    """Where a selector would wait, the time jumps instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nothing will ever happen"
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose sleeps take no time: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_jumping(main: Coroutine[Any, Any, Result]) -> Result:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
