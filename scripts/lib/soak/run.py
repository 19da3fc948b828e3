"""One soak from its start to its last look: oracle, daemon, load, faults, and what is left.

Owns the order of things. What is asked, broken and judged is in the files of those names.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.daemon.fake_systemd import FakeSystemd, fake_systemd

from .aftermath import (
    LOOK_S,
    idle_status,
    leftover_files,
    open_files,
    processes_of,
    was_given_back,
)
from .conversations import Kept, read_back, read_from_disk, session_client, turn_of
from .crowd import clients
from .injector import Injector
from .ledger import Episode, Ledger
from .load import BUSY, Load
from .oracle import Answer, Oracle, ask_oracle
from .questions import TEXTS
from .raw_connection import NotGreeted, RawConnection
from .schedule import Fault, schedule
from .service import Service
from .small_disk import SmallDisk
from .stream_check import StreamCheck
from .survival import Happened
from .watch import Look, Taken, watch

STORE_SIZE = 64
# Small enough to be full, and to be emptied, many times in a run.
PREFIX_MB, DISK_MB = 1, 4
SLOW_READER_S = 3.0
# Not while it is undisturbed.
FULL_WITHOUT_MOUNT = ";conversation.commit:40*off->5%error(ENOSPC)"
# A run that is a test asks for less beforehand.
FEW = 8
TALKS = 2
END_S = 10.0


Pair = tuple[Taken, Taken]
"""Front and engine."""


class Undisturbed(Exception):
    """The daemon is not as it should be before anything was done to it."""


@dataclass(slots=True)
class Options:
    minutes: float
    seed: int
    patience_s: float
    say: Callable[[str], None]

    @property
    def finish_s(self) -> float:
        """For all that was asked to end, after the end of the load."""
        return BUSY * self.patience_s


@dataclass(slots=True)
class Outcome:
    """interrupted: Ctrl-C. before: front and engine when idle."""

    options: Options
    oracle: Oracle
    faults: list[Fault]
    ledger: Ledger
    injector: Injector
    service: Service
    disk: bool
    kept: Kept
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    before: Pair = (Taken(), Taken())
    log: str = ""


async def soak(options: Options) -> Outcome:
    """Raises: Undisturbed or OracleFailed, before anything was disturbed."""
    options.say("the answers, from a plain loop over the model ...")
    oracle = await asyncio.to_thread(ask_oracle, len(TEXTS) if options.minutes >= 1 else FEW)
    options.say(
        f"{len(oracle.questions)} questions, {len(oracle.conversations)} conversations; "
        f"{oracle.left_out} left out as nearly tied"
    )
    with fake_systemd(store_size=STORE_SIZE) as systemd:
        disk = SmallDisk(systemd.home / "state")
        mounted = disk.mount()
        try:
            return await _soak(options, oracle, systemd, disk, mounted)
        finally:
            await asyncio.to_thread(_end_all, systemd)
            disk.unmount()


async def _soak(
    options: Options, oracle: Oracle, systemd: FakeSystemd, disk: SmallDisk, mounted: bool
) -> Outcome:
    begin = time.monotonic()
    ledger = Ledger(lambda: time.monotonic() - begin)
    service = Service(systemd, settings(mounted=mounted), ledger.clock)
    await service.start()
    kept = Kept()
    before = await _undisturbed(service, oracle, ledger, kept)
    injector = Injector(service, ledger, disk, options.finish_s, options.say)
    faults = schedule(options.minutes * 60, options.seed, disk=mounted)
    outcome = Outcome(
        options, oracle, faults, ledger, injector, service, mounted, kept, before=before
    )
    begin = time.monotonic()
    await _under_load(outcome, disk)
    try:
        await _afterwards(outcome, systemd.home)
    except Exception as error:  # what was found so far is worth a report all the same
        ledger.find("unexpected", f"at the end: {type(error).__name__}: {error}")
    outcome.log = systemd.log
    return outcome


def settings(*, mounted: bool) -> dict[str, str]:
    """Limits that are reached within a minute; all else as it ships.

    mounted: there is a disk that can be filled; else turns fail now and then all the time.
    """
    return {
        # tests/support puts everything into one directory, and a copy in memory is not the matter.
        "QWEND_MODEL_WARM_COPY": "off",
        "QWEND_LIMITS_RUNNING_PER_UID": "8",
        "QWEND_LIMITS_QUEUED_PER_UID": "64",
        "QWEND_LIMITS_SLOW_READER_S": str(SLOW_READER_S),
        "QWEND_LIMITS_OUTBOX_BYTES": "16384",
        # Found within the patience of 12 s; less is no hang on a machine that is busy.
        "QWEND_ENGINE_HUNG_AFTER_S": "6",
        "QWEND_CACHE_PREFIX_MB": str(PREFIX_MB),
        "QWEND_CACHE_DISK_MB": str(DISK_MB),
        "QWEND_FAIL": "snapshot.write:5%error(ENOSPC)" + ("" if mounted else FULL_WITHOUT_MOUNT),
    }


async def _undisturbed(service: Service, oracle: Oracle, ledger: Ledger, kept: Kept) -> Pair:
    """Ask everything once, alone. Raises: Undisturbed if an answer is not the oracle's."""
    with await RawConnection.open(service.socket) as connection:
        ledger.capabilities = connection.capabilities
        for question in oracle.questions:
            await _ask_once(connection, question.ask, question.answer)
        if "sessions" in ledger.capabilities:
            for at, turns in enumerate(oracle.conversations):
                name = f"undisturbed-{at}"
                said = kept.said[name] = []
                for turn in turns:
                    await _ask_once(connection, turn_of(name, turn), turn.answer)
                    said += [("user", turn.text), ("assistant", turn.answer.text)]
    await idle_status(service, 10.0)
    return taken(service)


def taken(service: Service) -> Pair:
    return Taken.by(service.pid), Taken.by(service.engine_pid())


async def _ask_once(connection: RawConnection, ask: dict[str, Any], answer: Answer) -> None:
    check = StreamCheck(answer, ask["max_tokens"])
    await connection.send({**ask, "id": 1})
    while check.end is None:
        message = await connection.read()
        if message is None:
            raise Undisturbed("the connection ended before anything was done to it")
        check.feed(message)
    if check.faults or not check.how.startswith("done"):
        raise Undisturbed(f"{ask}: {check.how} {check.faults}")


async def _under_load(outcome: Outcome, disk: SmallDisk) -> None:
    """Clients, faults and the watch until the time is over, or somebody presses Ctrl-C."""
    options, ledger = outcome.options, outcome.ledger
    load = Load(
        outcome.service.socket,
        outcome.oracle,
        ledger,
        random.Random(options.seed),
        SLOW_READER_S,
        options.patience_s,
    )
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        outcome.interrupted = True
        load.over.set()

    ends = (signal.SIGINT, signal.SIGTERM)
    for number in ends:
        loop.add_signal_handler(number, interrupted)
    plan = "\n".join(map(str, outcome.faults))
    options.say(f"seed {options.seed}: {len(outcome.faults)} faults\n{plan}")
    looks = asyncio.create_task(
        watch(outcome.service, ledger, outcome.looks, disk.used_bytes if disk.mounted else int)
    )
    if not disk.mounted:
        ledger.episodes.append(Episode(Happened.DISK_FULL, 0.0))
    talking = [asyncio.create_task(_alive(load, client)) for client in clients()]
    if "sessions" in ledger.capabilities:
        for at in range(TALKS):
            talk = partial(session_client, kept=outcome.kept, number=at)
            talking.append(asyncio.create_task(_alive(load, talk)))
    faults = asyncio.create_task(outcome.injector.run(outcome.faults))
    try:
        await load.rest(options.minutes * 60)
        load.over.set()
        outcome.seconds = ledger.clock()
        if outcome.interrupted:
            faults.cancel()
        await asyncio.wait([faults], timeout=options.finish_s)
        _, late = await asyncio.wait(talking, timeout=options.finish_s)
        for task in late:
            ledger.find("hang", f"a client did not end within {options.finish_s:.0f} s")
            task.cancel()
    finally:
        for task in (looks, faults, *talking):
            task.cancel()
        await asyncio.gather(looks, faults, *talking, return_exceptions=True)
        for number in ends:
            loop.remove_signal_handler(number)


async def _alive(load: Load, client: Any) -> None:
    """A mistake of ours is a finding too, and no quiet end of a client."""
    try:
        await client(load)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        load.ledger.find("unexpected", f"{client}: {type(error).__name__}: {error}")


async def _afterwards(outcome: Outcome, home: Path) -> None:
    """What is left of all that: nothing, or it is a finding."""
    ledger, service = outcome.ledger, outcome.service
    for death in service.deaths:
        if not death.wanted:
            ledger.find("unexpected", f"the front ended at {death.died_at:.2f} s: {death.how}")
    try:
        status = await idle_status(service, outcome.options.finish_s)
    except (NotGreeted, TimeoutError, OSError) as error:
        ledger.find("left over", f"no status at the end: {type(error).__name__}: {error}")
    else:
        for text in was_given_back(status, service):
            ledger.find("left over", text)
        await _read_back(outcome)
    for text in await _not_given_back(outcome):
        ledger.find("left over", text)
    family = processes_of(home)
    status_code = await service.stop()
    if status_code:
        ledger.find("unexpected", f"the front stopped with {status_code}")
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, END_S)
    for process in (*alive, *processes_of(home)):
        ledger.find("left over", f"process {process.pid}")
    if "sessions" in ledger.capabilities:
        for text in read_from_disk(home, outcome.kept):
            ledger.find("lost turn", text)
    for file in leftover_files(home):
        ledger.find("left over", f"file {file}")


async def _not_given_back(outcome: Outcome) -> list[str]:
    """Descriptors and threads beyond those of the start, once the end of ours has been seen."""
    end = outcome.ledger.clock() + outcome.options.patience_s
    while True:
        found = []
        for name, now, before in zip(
            ("front", "engine"), taken(outcome.service), outcome.before, strict=True
        ):
            if now.fds > before.fds:
                open_ = ", ".join(open_files(now.pid))
                found.append(f"{name}: {now.fds} descriptors, {before.fds} at the start: {open_}")
            if now.threads > before.threads:
                found.append(f"{name}: {now.threads} threads, {before.threads} at the start")
        if not found or outcome.ledger.clock() > end:
            return found
        await asyncio.sleep(LOOK_S)


async def _read_back(outcome: Outcome) -> None:
    if "sessions" in outcome.ledger.capabilities:
        with await RawConnection.open(outcome.service.socket) as connection:
            for text in await read_back(connection, outcome.kept):
                outcome.ledger.find("lost turn", text)


def _end_all(systemd: FakeSystemd) -> None:
    family = processes_of(systemd.home)
    for process in family:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, END_S)
