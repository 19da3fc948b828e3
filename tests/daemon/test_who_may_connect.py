"""Who may not use the daemon is told so and closed, before anything that he sends is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.daemon.as_user import AS_ROOT_OF_A_NAMESPACE, User, as_root, as_user
from tests.support.daemon import RawClient, RunningDaemon, frame, running_daemon
from tests.support.rows import times

pytestmark = [as_root, pytest.mark.row("G1")]

TRIES = times(2, 50)  # of each of 12 kinds
ALLOWED, OTHER, GROUP = 4801, 4802, 4803
HELLO = frame({"op": "hello", "protocol": "qwend/1"})
ASK = frame({"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 3})

ADMITTED = {
    "an allowed user": as_user(ALLOWED),
    "whose group is allowed": as_user(OTHER, GROUP),
    "in an allowed group besides its own": as_user(OTHER, groups=(7, GROUP)),
    "root": as_user(0),
    "an allowed user in a namespace": as_user(ALLOWED, before=AS_ROOT_OF_A_NAMESPACE),
    "root when it connected": as_user(0, after="os.setgid(4802); os.setuid(4802)"),
}
TURNED_AWAY = {
    "another user": as_user(OTHER),
    "a user with the number of the group": as_user(GROUP, OTHER),
    "a group with the number of the user": as_user(OTHER, ALLOWED),
    "nobody": as_user(65534),
    "who is root in its own namespace": as_user(OTHER, before=AS_ROOT_OF_A_NAMESPACE),
    "another user in other groups": as_user(OTHER, groups=range(5000, 5200)),
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    settings = {
        "QWEND_SOCKET_MODE": "0666",
        "QWEND_SOCKET_ALLOW_USERS": str(ALLOWED),
        "QWEND_SOCKET_ALLOW_GROUPS": str(GROUP),
    }
    with running_daemon(script={"answer": "x", "endless": True}, **settings) as daemon:
        daemon.admit_everybody()
        yield daemon


@pytest.mark.parametrize("who", ADMITTED)
def test_who_may_is_served(daemon: RunningDaemon, who: str) -> None:
    with ADMITTED[who].connections(str(daemon.socket), TRIES) as connections:
        for connection in connections:
            with RawClient(connection) as client:
                client.send_bytes(ASK)
                assert client.read_until("done")


@pytest.mark.parametrize("who", TURNED_AWAY)
def test_who_may_not_is_told_and_nothing_of_it_is_read(daemon: RunningDaemon, who: str) -> None:
    """Whoever holds the connection: here it is root, to whom the descriptor was passed."""
    accepted = daemon.status()["requests"]["accepted"]
    with TURNED_AWAY[who].connections(str(daemon.socket), TRIES) as connections:
        for connection in connections:
            assert_turned_away(RawClient(connection, hello=False), TURNED_AWAY[who])
    assert daemon.status()["requests"]["accepted"] == accepted


def assert_turned_away(client: RawClient, user: User) -> None:
    with client:
        client.send_bytes(HELLO + ASK)
        (error,) = client.read_to_the_end()
        assert (error["op"], error["code"]) == ("error", "forbidden")
        assert f"uid {user.uid} " in error["message"]
