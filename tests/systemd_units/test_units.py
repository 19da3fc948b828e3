"""The unit files are understood by systemd as a whole, confined, and agree with the code."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from qwend.config import Config
from qwend.daemon.pulls import MOST
from qwend.paths import Mode, paths_for

UNITS = Path(__file__).resolve().parents[2] / "systemd"
BINARY = "/opt/qwend/bin/qwend"
# In tenths. 0.5, 0.7 and 1.1 as written: what is opened must be meant. systemd's own "OK" ends at
# 5.0. Nearly all of the last is its network.
EXPOSURE_TENTHS = {"qwend.service": 6, "qwend-host.service": 8, "qwend-pull@.service": 11}


def analyze(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # The user's manager is asked for by where its runtime directory would be.
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )


def installed(tmp_path: Path, *names: str) -> list[str]:
    """Copy the units with a binary that exists, for a missing one is an error to `verify`."""
    copies = []
    for name in names:
        text = (UNITS / name).read_text()
        copy = tmp_path / Path(name).name
        copy.write_text(text.replace(BINARY, "/bin/true"))
        copies.append(str(copy))
    return copies


def settings(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit file, each with its values in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


SYSTEM_UNITS = tuple(sorted(path.name for path in UNITS.glob("*.*") if path.is_file()))


@pytest.mark.parametrize(
    ("manager", "names"), [("--system", SYSTEM_UNITS), ("--user", ("user/qwend.service",))]
)
def test_systemd_has_nothing_to_say_about_the_units(
    tmp_path: Path, manager: str, names: tuple[str, ...]
) -> None:
    done = analyze(tmp_path, manager, "verify", *installed(tmp_path, *names))
    # rc is 0 for unknown keys and values that do not parse; only stderr tells.
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_misspelt_setting_would_be_seen(tmp_path: Path) -> None:
    (unit,) = installed(tmp_path, "qwend.slice")
    Path(unit).write_text(Path(unit).read_text() + "CPUWieght=1\n")
    assert "CPUWieght" in analyze(tmp_path, "verify", unit).stderr


@pytest.mark.parametrize("name", EXPOSURE_TENTHS)
@pytest.mark.row("G4")
def test_the_services_are_confined(tmp_path: Path, name: str) -> None:
    (unit,) = installed(tmp_path, name)
    threshold = f"--threshold={EXPOSURE_TENTHS[name]}"
    done = analyze(tmp_path, "security", "--offline=true", "--no-pager", threshold, unit)
    assert done.returncode == 0, done.stdout
    print(done.stdout.splitlines()[-1])


def test_the_group_of_the_socket_is_made(tmp_path: Path) -> None:
    if shutil.which("systemd-sysusers") is None:
        pytest.skip("systemd-sysusers is not installed")
    command = ["systemd-sysusers", "--dry-run", f"--root={tmp_path}"]
    done = subprocess.run(
        [*command, str(UNITS / "sysusers.d" / "qwend.conf")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Creating group 'qwend'" in done.stderr
    assert settings("qwend.socket")["SocketGroup"] == ["qwend"]
    assert settings("qwend.service")["Group"] == ["qwend"]


def test_units_and_code_agree_on_the_paths() -> None:
    service = settings("qwend.service")
    environ = {
        "RUNTIME_DIRECTORY": "/run/" + service["RuntimeDirectory"][0],
        "STATE_DIRECTORY": "/var/lib/" + service["StateDirectory"][0],
    }
    paths = paths_for(environ, 990)
    assert paths.mode is Mode.SYSTEM
    assert paths == paths_for({}, 0)
    assert settings("qwend.socket")["ListenStream"] == [str(paths.socket)]


def test_units_and_configuration_agree_on_the_socket_and_the_drain() -> None:
    assert settings("qwend.socket")["SocketMode"] == [Config().socket.mode]
    for name in ("qwend.service", "user/qwend.service"):
        assert float(settings(name)["TimeoutStopSec"][0]) > Config().limits.drain_s


def test_the_warm_copy_is_mounted_where_the_code_looks_for_it() -> None:
    mount = settings("run-qwend-model.mount")
    assert mount["Where"] == [str(paths_for({}, 0).warm)]
    # The user alone may write, as the daemon wants its directory; the rest is systemd.unit(5)'s.
    options = set(mount["Options"][0].split(","))
    assert {"mode=0700", "uid=qwend", "gid=qwend", "nosuid", "nodev", "noexec"} <= options
    assert "run-qwend-model.mount" in settings("qwend.service")["After"][1].split()


def test_nothing_that_helps_can_keep_the_service_from_starting() -> None:
    service = settings("qwend.service")
    assert service["Wants"] == ["qwend-host.service run-qwend-model.mount"]
    assert service["Requires"] == ["qwend.socket"]


def test_the_record_of_the_governor_is_in_a_directory_of_roots() -> None:
    host, service = settings("qwend-host.service"), settings("qwend.service")
    assert "User" not in host
    assert host["StateDirectory"] == ["qwend-host"] != service["StateDirectory"]


def test_the_store_holds_every_connection_that_the_configuration_allows() -> None:
    for name in ("qwend.service", "user/qwend.service"):
        service = settings(name)
        assert int(service["FileDescriptorStoreMax"][0]) > Config().limits.connections
        assert int(service["LimitNOFILE"][0]) > int(service["FileDescriptorStoreMax"][0])
        # What systemd keeps and what the daemon believes that it keeps.
        assert service["Environment"] == [f"FDSTORE={service['FileDescriptorStoreMax'][0]}"]


def test_quick_starts_run_out_before_the_slow_ones_begin() -> None:
    service, timer = settings("qwend.service"), settings("qwend-retry.timer")
    assert float(timer["OnActiveSec"][0]) > float(service["StartLimitIntervalSec"][0])


def test_a_stop_of_the_service_leaves_the_socket_and_the_warm_copy() -> None:
    for name in ("qwend.service", "user/qwend.service"):
        assert settings(name)["RuntimeDirectoryPreserve"] == ["yes"]


def test_peers_keep_their_uids() -> None:
    assert settings("qwend.service")["PrivateUsers"] == ["no"]


@pytest.mark.parametrize("name", ["qwend.service", "user/qwend.service"])
def test_what_the_engine_needs_is_allowed(name: str) -> None:
    service = settings(name)
    filters = service["SystemCallFilter"]
    # Later lines win: first the refusal of @resources, then the one call of it that is needed.
    assert filters[-1] == "sched_setaffinity sched_setattr"
    assert not any("@sync" in line for line in filters)
    # An OOM kill of the engine is the front's to answer, not the end of the service.
    assert service["OOMPolicy"] == ["continue"]
    assert "ProcSubset" not in service


def test_the_weight_is_on_a_slice_of_our_own() -> None:
    assert settings("qwend.service")["Slice"] == ["qwend.slice"]
    assert settings("qwend.slice")["CPUWeight"] == ["10000"]


def test_who_pulls_listens_where_the_daemon_asks_and_writes_where_it_reads() -> None:
    socket, service = settings("qwend-pull.socket"), settings("qwend-pull@.service")
    paths = paths_for({}, 0)
    assert socket["ListenStream"] == [str(paths.pull_socket)]
    assert service["ExecStart"] == [f"{BINARY} pull-worker --models {paths.models}"]
    assert service["BindPaths"] == [str(paths.models)]
    assert service["TemporaryFileSystem"] == [f"{paths.state}:ro"]
    assert service["InaccessiblePaths"] == [f"-{paths.socket.parent}"]


def test_nobody_but_the_daemon_has_somebody_pull() -> None:
    socket, service = settings("qwend-pull.socket"), settings("qwend-pull@.service")
    assert (socket["SocketUser"], socket["SocketMode"]) == (["qwend"], ["0600"])
    assert service["User"] == settings("qwend.service")["User"]
    assert int(socket["MaxConnections"][0]) > MOST


def test_the_network_is_of_who_pulls_alone() -> None:
    assert settings("qwend.service")["PrivateNetwork"] == ["yes"]
    assert settings("qwend.service")["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert settings("qwend-pull@.service")["RestrictAddressFamilies"] == ["AF_INET AF_INET6"]


def test_who_enables_the_service_enables_its_sockets() -> None:
    sockets = {path.name for path in UNITS.glob("*.socket")}
    assert set(settings("qwend.service")["Also"][0].split()) == sockets
