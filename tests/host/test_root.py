"""A HostRoot reads and writes below its directory and says what went wrong."""

from __future__ import annotations

import os

import pytest

from qwend.errors import HostError

from .conftest import FakeHost


def test_paths_are_the_hosts_own(fake: FakeHost) -> None:
    fake.put({"/sys/a/policy10/x": "ten", "/sys/a/policy2/x": "two"})
    assert fake.root.glob("/sys/a/policy*/x") == ("/sys/a/policy2/x", "/sys/a/policy10/x")
    assert fake.root.read_text("/sys/a/policy2/x") == "two"
    assert fake.root.exists("/sys/a")
    assert not fake.root.exists("/sys/b")


def test_a_write_replaces_what_was_there(fake: FakeHost) -> None:
    fake.put({"/sys/governor": "conservative\n"})
    fake.root.write_text("/sys/governor", "performance")
    assert fake.text("/sys/governor") == "performance"


def test_a_write_creates_nothing(fake: FakeHost) -> None:
    with pytest.raises(HostError, match=r"writing 'x' to /sys/new: No such file"):
        fake.root.write_text("/sys/new", "x")
    assert not fake.root.exists("/sys/new")


def test_a_failed_read_says_the_path_and_why(fake: FakeHost) -> None:
    with pytest.raises(HostError, match=r"reading /sys/none: No such file") as caught:
        fake.root.read_text("/sys/none")
    assert caught.value.path == "/sys/none"


def test_a_refused_write_says_why(fake: FakeHost) -> None:
    fake.put({"/sys/x": ""})
    fake.root.at("/sys/x").unlink()
    fake.root.at("/sys/x").symlink_to("/dev/full")
    with pytest.raises(HostError, match=r"writing 'y' to /sys/x: No space left"):
        fake.root.write_text("/sys/x", "y")


def test_bytes_that_are_no_text_do_not_raise(fake: FakeHost) -> None:
    fake.put({"/proc/x": ""})
    fake.root.at("/proc/x").write_bytes(b"a\xffb")
    assert fake.root.read_text("/proc/x") == "a\ufffdb"


def test_a_pipe_holds_nobody_up(fake: FakeHost) -> None:
    os.mkfifo(fake.root.at("/pipe"))
    assert fake.root.read_text("/pipe") == ""
    with pytest.raises(HostError, match="No such device or address"):
        fake.root.write_text("/pipe", "x")
