"""Pulls: models that administrators have fetched, who waits for which, and how each ends.

Owns the orders that are open. Who asks for what is being fetched already joins, and whoever leaves
last stops it; the store keeps what has come. Knows nothing of networks and of disks: a process of
its own fetches (fetcher.py, pull_worker.py). Who may ask is the session's to say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from qwend.daemon.fetcher import Fetcher
from qwend.daemon.journal import Owner
from qwend.errors import HostError
from qwend.models.store import NAME
from qwend.wire import limits
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from qwend.wire.orders import Pull
from qwend.wire.replies import Done, FinishReason, Progress, Stage
from qwend.wire.usage import Usage

log = logging.getLogger(__name__)

CAPABILITY = "pull"
# Each is a process of some 30 MB, and they share one line to the hub.
MOST = 4
RETRY_AFTER_S = 10.0

# What the store's errors are to a client; each other is that the fetching has failed.
CODES = {
    "config": ErrorCode.INVALID_VALUE,
    "name_taken": ErrorCode.INVALID_VALUE,
    "no_space": ErrorCode.NO_SPACE,
    "disk": ErrorCode.STORAGE_ERROR,
    "host": ErrorCode.STORAGE_ERROR,
    "store_damaged": ErrorCode.STORAGE_ERROR,
    "model_error": ErrorCode.MODEL_ERROR,
}
# Stages of models/pull/progress.py in which nothing comes over the network.
CHECKING = frozenset({"rereading", "joining", "checking"})
Waiter = tuple[Owner, int]


@dataclass(slots=True, eq=False)
class _Open:
    """asked: the order, without an id. waiters: who hears of it. latest: the progress they have."""

    asked: Pull
    waiters: list[Waiter] = field(default_factory=list)
    latest: tuple[Stage, int, int] = ("pulling", 0, 0)
    task: asyncio.Task[None] | None = None

    @property
    def shown(self) -> str:
        """For the log: a query may be a secret, and a name may have anything in it."""
        return repr(self.asked.model.partition("?")[0])


class Pulls:
    """fetcher: None: nothing can be pulled here."""

    def __init__(self, fetcher: Fetcher | None = None) -> None:
        self._fetcher = fetcher
        self._open: dict[Pull, _Open] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._over: tuple[ErrorCode, str] | None = None

    @property
    def capabilities(self) -> tuple[str, ...]:
        return (CAPABILITY,) if self._fetcher is not None and self._fetcher.is_there else ()

    def open_ids(self, owner: Owner) -> tuple[int, ...]:
        return tuple(id_ for _, (one, id_) in self._waiters() if one is owner)

    def take(self, owner: Owner, message: Pull) -> None:
        """The owner hears of it until it ends, or until it leaves."""
        asked = replace(message, id=0)
        pull = self._open.get(asked)
        if pull is None:
            refusal = self._refusal(message.id)
            if refusal is not None:
                owner.send(refusal)
                return
            assert self._fetcher is not None
            pull = self._open[asked] = _Open(asked)
            pull.task = asyncio.ensure_future(self._run(pull, self._fetcher))
            self._ending.add(pull.task)
            pull.task.add_done_callback(self._ending.discard)
            log.info("uid %d has %s pulled", owner.uid, pull.shown)
        else:
            log.info("uid %d joins the pull of %s", owner.uid, pull.shown)
        pull.waiters.append((owner, message.id))
        owner.send(Progress(message.id, *pull.latest))

    def cancel(self, owner: Owner, client_id: int) -> bool:
        """True if it was one of the owner's pulls."""
        for pull, waiter in self._waiters():
            if waiter == (owner, client_id):
                self._leave(pull, waiter)
                owner.send(_done(client_id, "cancelled"))
                return True
        return False

    def drop(self, owner: Owner) -> None:
        """The owner's connection is gone."""
        for pull, waiter in self._waiters():
            if waiter[0] is owner:
                self._leave(pull, waiter)

    def refuse(self, code: ErrorCode, why: str) -> None:
        """End them all, and take no more."""
        self._over = code, why
        kept = f"{why}; what has come of the model is kept: pull it again then"
        for pull in list(self._open.values()):
            self._end(pull, lambda id_: Error(code, kept, id=id_))
            assert pull.task is not None
            pull.task.cancel()

    async def close(self) -> None:
        """Whatever is open stops, and what fetched has ended."""
        for pull in self._open.values():
            assert pull.task is not None
            pull.task.cancel()
        self._open.clear()
        if self._ending:
            await asyncio.wait(self._ending)

    def _refusal(self, client_id: int) -> Error | None:
        if self._over is not None:
            return Error(*self._over, id=client_id)
        if not self.capabilities:
            return Error(
                ErrorCode.UNSUPPORTED,
                "this daemon has no network, and no service that pulls for it: `sudo systemctl "
                "start qwend-pull.socket` makes one, and `sudo qwenctl pull` does without",
                id=client_id,
            )
        if len(self._open) >= MOST:
            return Error(
                ErrorCode.BUSY,
                f"{MOST} models are being pulled already; try again when one has come",
                id=client_id,
                retry_after_s=RETRY_AFTER_S,
            )
        return None

    def _waiters(self) -> list[tuple[_Open, Waiter]]:
        return [(pull, waiter) for pull in self._open.values() for waiter in pull.waiters]

    def _leave(self, pull: _Open, waiter: Waiter) -> None:
        pull.waiters.remove(waiter)
        if not pull.waiters:
            log.info("nobody waits for %s any more; what came of it is kept", pull.shown)
            del self._open[pull.asked]
            assert pull.task is not None
            pull.task.cancel()

    async def _run(self, pull: _Open, fetcher: Fetcher) -> None:
        """Until it has ended, or nobody waits any more: then this is cancelled."""
        why = "the process that pulled has ended without a word; the log has what it said last"
        try:
            async with fetcher.asked(_line(pull.asked)) as answers:
                async for line in answers:
                    if self._heard(pull, line):
                        return
        except HostError as error:
            why = str(error)
        except OSError as error:
            why = f"{why} ({error.strerror})"
        except (ValueError, RecursionError) as error:
            why = f"the process that pulled makes no sense: {error}"
        finally:
            if self._open.get(pull.asked) is pull:
                self._failed(pull, ErrorCode.FETCH_FAILED, why)

    def _heard(self, pull: _Open, line: bytes) -> bool:
        """True if it is the end. Raises: ValueError, RecursionError.

        It comes from a process that talks to strangers: nothing of it is taken on trust.
        """
        match json.loads(line):
            case {"progress": [str(stage), int(done), int(total)]}:
                self._tell(pull, "checking" if stage in CHECKING else "pulling", done, total)
                return False
            case {"notice": str(sentence)}:
                log.info("pulling %s: %s", pull.shown, _printable(sentence))
                return False
            case {"done": str(name), "fetched_bytes": int(fetched)} if NAME.fullmatch(name):
                log.info("pulled %s: %d MiB came", name, fetched >> 20)
                self._end(pull, lambda id_: _done(id_, "pulled", name))
                return True
            case {"error": str(sentence), "code": str(code)}:
                self._failed(pull, CODES.get(code, ErrorCode.FETCH_FAILED), _printable(sentence))
                return True
        raise ValueError(f"it says {line[:60]!r}")

    def _tell(self, pull: _Open, stage: Stage, done: int, total: int) -> None:
        pull.latest = (stage, _kib(done), _kib(total))
        for owner, client_id in pull.waiters:
            if not owner.congested:  # the next one says more
                owner.send(Progress(client_id, *pull.latest))

    def _failed(self, pull: _Open, code: ErrorCode, why: str) -> None:
        log.warning("%s could not be pulled: %s (%s)", pull.shown, why, code)
        self._end(pull, lambda id_: Error(code, why, id=id_))

    def _end(self, pull: _Open, word: Callable[[int], Done | Error]) -> None:
        """Everybody who waits for it hears this, and nothing after it."""
        del self._open[pull.asked]
        for owner, client_id in pull.waiters:
            owner.send(word(client_id))


def _line(asked: Pull) -> bytes:
    """The order as pull_worker.py reads it."""
    order = {
        "model": asked.model,
        "name": asked.name or "",
        "sha256": asked.sha256 or "",
        "source": asked.source,
        "any_architecture": asked.any_architecture,
        "offline": asked.offline,
    }
    return json.dumps(order).encode() + b"\n"


def _done(client_id: int, reason: FinishReason, model: str | None = None) -> Done:
    return Done(client_id, reason, Usage(0, 0, 0), model=model)


def _kib(count: int) -> int:
    return min(max(0, count) >> 10, limits.COUNT_MAX)


def _printable(sentence: str) -> str:
    return sentence if sentence.isprintable() else repr(sentence)
