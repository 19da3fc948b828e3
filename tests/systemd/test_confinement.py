"""What the kernel says the two processes of a real service may do: what the unit has asked for."""

from __future__ import annotations

import pytest

from tests.systemd import service
from tests.systemd.machine import Machine

pytestmark = [pytest.mark.llama, pytest.mark.row("G4")]
# proc(5): a filter of system calls is in force.
SECCOMP_FILTER = "2"


def status_of(machine: Machine, pid: str) -> dict[str, str]:
    lines = machine.run("cat", f"/proc/{pid}/status").stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_front_and_engine_have_no_privilege_no_network_and_a_filter(qwend: Machine) -> None:
    service.start(qwend)
    host_network = qwend.run("readlink", "/proc/1/ns/net").stdout
    for pid in (service.main_pid(qwend), service.engine_pid(qwend)):
        said = status_of(qwend, pid)
        assert said["Seccomp"] == SECCOMP_FILTER
        assert said["NoNewPrivs"] == "1"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(said[kind], 16) == 0, kind
        assert said["Uid"].split()[0] != "0"
        assert qwend.run("readlink", f"/proc/{pid}/ns/net").stdout != host_network
        devices = qwend.run("cat", f"/proc/{pid}/net/dev").stdout.splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
        # Nothing of the system can be written to, or replaced, by either.
        mounts = qwend.run("cat", f"/proc/{pid}/mountinfo").stdout.splitlines()
        (root,) = [line for line in mounts if line.split()[4] == "/"]
        assert "ro" in root.split()[5].split(",")
