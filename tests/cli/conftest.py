"""One daemon with the scripted backend for the tests that only ask it something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.daemon import RunningDaemon, running_daemon


@pytest.fixture(scope="package")
def daemon() -> Iterator[RunningDaemon]:
    """It repeats the last user turn, a token (a byte) every 2 ms."""
    with running_daemon(script={"step_s": 0.002}) as running:
        yield running


@pytest.fixture(scope="package")
def endless() -> Iterator[RunningDaemon]:
    """It repeats the last user turn until it is stopped."""
    settings = {"QWEND_SAMPLING_MAX_TOKENS": "100000", "QWEND_MODEL_CONTEXT": "262144"}
    with running_daemon(script={"step_s": 0.005, "endless": True}, **settings) as running:
        yield running


@pytest.fixture(scope="package")
def thinker() -> Iterator[RunningDaemon]:
    """It repeats the last user turn; what stands there between <think> tags is reasoning."""
    with running_daemon(script={"thinks": True}) as running:
        yield running
