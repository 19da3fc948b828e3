"""A machine with qwend installed for each test: a boot takes half a second.

A test that fails shows the machine's journal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.systemd import installation, machine
from tests.systemd.installation import Installation
from tests.systemd.machine import Machine
from tests.systemd.qwend_disk import qwend_disk

Boot = Callable[..., Machine]
_MACHINES = pytest.StashKey[list[Machine]]()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    if reason := machine.why_not() or installation.why_not():
        pytest.skip(reason)
    return installation.install(tmp_path_factory.mktemp("opt") / "qwend")


@pytest.fixture
def boot(installed: Installation, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Boot]:
    """Boot one more machine; the options are those of `qwend_disk`."""
    up: list[Machine] = []
    request.node.stash[_MACHINES] = up
    numbers = itertools.count()
    with ExitStack() as undo:

        def boot_one(**options: object) -> Machine:
            home = tmp_path / f"machine-{next(numbers)}"
            home.mkdir()
            disk = qwend_disk(installed, home / "sys", **options)  # type: ignore[arg-type]
            (home / "state").mkdir()
            up.append(undo.enter_context(machine.booted(home / "state", disk)))
            return up[-1]

        yield boot_one


@pytest.fixture
def qwend(boot: Boot) -> Machine:
    """A machine on which qwend is installed; its socket is there, the service not started."""
    return boot()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        machines = item.stash.get(_MACHINES, None)
        for number, each in enumerate(machines or ()):
            if each.is_up:
                said = each.journal("-n", "80", "-u", "qwend*")
                report.sections.append((f"journal of machine {number}", said))
    return report
