"""Paths are a function of the environment and the uid, and clients trust only safe sockets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwend.errors import ConfigError
from qwend.paths import Mode, Paths, check_socket_path, find_socket, mode, paths_for

USER = {"HOME": "/home/ana", "XDG_RUNTIME_DIR": "/run/user/1000"}


def test_root_gets_the_system_paths() -> None:
    assert paths_for({"HOME": "/root", "XDG_RUNTIME_DIR": "/run/user/0"}, 0) == Paths(
        mode=Mode.SYSTEM,
        socket=Path("/run/qwend/qwend.sock"),
        config=Path("/etc/qwend/qwend.toml"),
        state=Path("/var/lib/qwend"),
        models=Path("/var/lib/qwend/models"),
        warm=Path("/run/qwend/model"),
    )


def test_the_service_user_under_systemd_is_in_system_mode() -> None:
    environ = {
        "RUNTIME_DIRECTORY": "/run/qwend",
        "STATE_DIRECTORY": "/var/lib/private/qwend:/var/lib/other",
        "CONFIGURATION_DIRECTORY": "/etc/qwend-b",
    }
    paths = paths_for(environ, 990)
    assert paths.mode is Mode.SYSTEM
    assert paths.config == Path("/etc/qwend-b/qwend.toml")
    assert paths.models == Path("/var/lib/private/qwend/models")


def test_a_user_gets_xdg_paths() -> None:
    assert paths_for(USER, 1000) == Paths(
        mode=Mode.USER,
        socket=Path("/run/user/1000/qwend/qwend.sock"),
        config=Path("/home/ana/.config/qwend/qwend.toml"),
        state=Path("/home/ana/.local/state/qwend"),
        models=Path("/home/ana/.local/share/qwend/models"),
        warm=Path("/run/user/1000/qwend/model"),
        warm_spare=Path("/dev/shm/qwend-1000"),
    )


def test_xdg_homes_are_followed() -> None:
    environ = USER | {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d"}
    paths = paths_for(environ, 1000)
    assert paths.config == Path("/c/qwend/qwend.toml")
    assert paths.state == Path("/s/qwend")
    assert paths.models == Path("/d/qwend/models")


@pytest.mark.parametrize("relative", ["", ".", "cfg", "./cfg", "~/cfg"])
def test_relative_xdg_paths_are_ignored(relative: str) -> None:
    environ = {"HOME": "/home/ana", "XDG_CONFIG_HOME": relative, "XDG_RUNTIME_DIR": relative}
    paths = paths_for(environ, 1000)
    assert paths.config == Path("/home/ana/.config/qwend/qwend.toml")
    assert paths.socket == Path("/tmp/qwend-1000/qwend.sock")


def test_without_a_session_the_socket_is_in_the_temporary_and_the_copy_in_shared_memory() -> None:
    paths = paths_for({"HOME": "/home/ana", "TMPDIR": "/var/tmp"}, 1000)
    assert paths.socket == Path("/var/tmp/qwend-1000/qwend.sock")
    assert paths.warm_places == (Path("/dev/shm/qwend-1000"),)


def test_a_user_service_keeps_to_the_directory_systemd_made() -> None:
    environ = USER | {"RUNTIME_DIRECTORY": "/run/user/1000/other"}
    assert mode(environ, 1000) is Mode.USER
    paths = paths_for(environ, 1000)
    assert paths.socket == Path("/run/user/1000/other/qwend.sock")
    assert paths.warm_places == (
        Path("/run/user/1000/other/model"),
        Path("/dev/shm/qwend-1000"),
    )


def test_a_user_without_home_is_told_to_set_it() -> None:
    with pytest.raises(ConfigError, match=r"XDG_CONFIG_HOME nor HOME.*set HOME"):
        paths_for({}, 1000)


def test_an_explicit_socket_wins_then_the_variable() -> None:
    environ = USER | {"QWEND_SOCKET": "/a/named.sock"}
    assert find_socket(environ, "/b/given.sock", 1000) == Path("/b/given.sock")
    assert find_socket(environ, None, 1000) == Path("/a/named.sock")


def _session(tmp_path: Path, permissions: int = 0o700) -> dict[str, str]:
    (tmp_path / "qwend").mkdir()
    (tmp_path / "qwend").chmod(permissions)
    (tmp_path / "qwend" / "qwend.sock").touch()
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def test_the_users_own_socket_is_found_if_it_exists(tmp_path: Path) -> None:
    environ = _session(tmp_path)
    assert find_socket(environ) == tmp_path / "qwend" / "qwend.sock"
    (tmp_path / "qwend" / "qwend.sock").unlink()
    assert find_socket(environ) == Path("/run/qwend/qwend.sock")


@pytest.mark.parametrize("permissions", [0o770, 0o702, 0o777])
def test_a_socket_in_a_directory_others_write_to_is_not_the_users(
    tmp_path: Path, permissions: int
) -> None:
    assert find_socket(_session(tmp_path, permissions)) == Path("/run/qwend/qwend.sock")


def test_a_socket_in_a_foreign_directory_is_not_the_users(tmp_path: Path) -> None:
    environ = _session(tmp_path)
    assert find_socket(environ, euid=os.geteuid() + 1) == Path("/run/qwend/qwend.sock")


def test_a_linked_directory_is_not_the_users(tmp_path: Path) -> None:
    _session(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "qwend").symlink_to(tmp_path / "qwend")
    found = find_socket({"XDG_RUNTIME_DIR": str(other)})
    assert found == Path("/run/qwend/qwend.sock")


def test_a_socket_path_may_have_107_bytes_and_no_more() -> None:
    check_socket_path("/" + "a" * 106)
    with pytest.raises(ConfigError, match=r"108 bytes long, the kernel allows 107"):
        check_socket_path("/" + "a" * 107)


def test_a_socket_path_is_measured_in_bytes_not_characters() -> None:
    with pytest.raises(ConfigError, match="161 bytes"):
        check_socket_path("/" + "模" * 53 + "a")


@pytest.mark.parametrize("path", ["", "/run/a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="not a path"):
        check_socket_path(path)


def test_a_client_is_told_that_its_socket_path_is_too_long() -> None:
    with pytest.raises(ConfigError, match="the kernel allows 107"):
        find_socket({"QWEND_SOCKET": "/" + "a" * 200}, None, 1000)
