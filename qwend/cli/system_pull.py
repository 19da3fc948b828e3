"""A pull for everybody, by the daemon: for its administrators, who need not be root.

Rule 1: who may not is told what there is instead; nobody is asked for a password.
Rule 2: this file does not know hubs; where the bytes come from, and whereto, is the daemon's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import cast

from qwend.cli.connection import connect
from qwend.cli.models import place
from qwend.cli.pull_screen import PullScreen
from qwend.client import Client, ClientError, Progress, RequestFailed
from qwend.client.options import PullOptions
from qwend.models.pull.order import Order
from qwend.models.pull.progress import Progress as Shown
from qwend.models.pull.progress import Rate
from qwend.paths import SYSTEM_SOCKET
from qwend.wire.orders import PullSource

CAPABILITY = "pull"
# What the daemon's service has of its own.
OWN_VARIABLES = ("HF_ENDPOINT", "HF_TOKEN", "MODELSCOPE_DOMAIN", "https_proxy")
VARIABLES_FILE = "/etc/qwend/pull.env"


def systems_socket(socket_path: str | None, environ: Mapping[str, str]) -> str:
    """The daemon's for everybody, unless another is named."""
    return socket_path or environ.get("QWEND_SOCKET") or str(SYSTEM_SOCKET)


def who_may_pull(socket_path: str | None) -> Client | None:
    """Connected to the daemon of the system, if this person has a store of their own and may have
    that one pull all the same; else None."""
    if not place.is_for_me_alone(socket_path):
        return None
    try:
        client = connect(socket_path)
    except ClientError:  # not theirs to use, or not there: their own store needs none
        return None
    if CAPABILITY in client.welcome.capabilities:
        return client
    client.close()
    return None


def pull(client: Client, order: Order, screen: PullScreen) -> str:
    """Have the daemon pull it; return the name in its store. Raises: ClientError.

    Whoever closes the connection before stops it.
    """
    given = [name for name in OWN_VARIABLES if os.environ.get(name)]
    if given:
        screen.notice(
            f"{', '.join(given)} of yours is not used: what the daemon pulls with stands in "
            f"{VARIABLES_FILE}"
        )
    stream = client.start_pull(order.model, **_options(order))
    file, rate = order.model.rpartition("/")[2], Rate(time.monotonic)
    try:
        for event in stream.events():
            if isinstance(event, Progress):
                screen.progress(_shown(event, file, rate))
        done = stream.wait()
    except RequestFailed as error:
        if error.code != "forbidden":
            raise
        raise RequestFailed(
            "forbidden",
            f"{error}. Ask one of them, or leave out --system: it goes into your own store then",
        ) from error
    assert done.model is not None
    return done.model


def _options(order: Order) -> PullOptions:
    options: PullOptions = {
        "source": cast(PullSource, order.source),
        "any_architecture": order.any_architecture,
        "offline": order.offline,
    }
    if order.name:
        options["name"] = order.name
    if order.sha256:
        options["sha256"] = order.sha256
    return options


def _shown(told: Progress, file: str, rate: Rate) -> Shown:
    done, total = told.done << 10, told.total << 10
    if told.stage == "checking":
        return Shown("checking", file, done_bytes=done, total_bytes=total)
    if not done and not total:
        return Shown("asking", file)
    speed = rate.note(done)
    left = (total - done) / speed if speed and total else None
    return Shown("fetching", file, 1, 1, done, total, speed, left)
