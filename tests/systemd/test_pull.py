"""A model that an administrator has pulled, by the units as they are: the daemon has no network.

The hub is on the machine's loopback, and cuts the connection now and then.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import pytest

from qwend.client import RequestFailed
from qwend.models.store import guide_path
from tests.models.pull.stub_hub import Request, digest
from tests.systemd import service
from tests.systemd.hub import hub_in
from tests.systemd.machine import DEADLINE_S, Machine
from tests.systemd.qwend_disk import MEMBER, OUTSIDER, OWNER, OWNER_HOME, QWENCTL

pytestmark = pytest.mark.llama

WHAT = "hf:owner/repo/model.gguf"
STORE = "/var/lib/qwend/models/store"
PULL_SOCKET = "/run/qwend/pull.sock"
ADMINS = "qwend-admins"
# The owner may use the socket, and has a home for a store of their own.
PEOPLE = f"g {ADMINS} -\nm {MEMBER} {ADMINS}\nm {OWNER} qwend\n"
CONFIG = f'[socket]\nadmin_group = "{ADMINS}"\n'
Boot = Callable[..., Machine]


@pytest.fixture
def machine(boot: Boot) -> Machine:
    return boot(config=CONFIG, etc={"sysusers.d/zzz-admins.conf": PEOPLE})


def nobody_pulls(machine: Machine) -> None:
    """In time."""
    units = ("list-units", "--all", "--plain", "--no-legend", "qwend-pull@*")
    machine.wait_until(lambda: not machine.systemctl(*units), "nobody pulls any more")


def cut_at_each_mib(request: Request) -> None:
    request.serve(upto=request.start + (1 << 20))


def test_an_administrator_pulls_a_model_that_answers_then(machine: Machine) -> None:
    """1. Who may use the daemon and is no administrator is refused, and who may not use it, too;
       nothing is asked of the hub.
    2. An administrator who is not root says no more than the name; the hub cuts each MiB.
    3. The model is in the system's store, whole; the daemon answers with it.
    4. The daemon's own file is there, and of all that was started nothing is left.
    """
    guide = guide_path().read_bytes()
    service.start(machine)
    with hub_in(machine, model=guide) as hub:
        machine.write("/etc/qwend/pull.env", f"HF_ENDPOINT={hub.url}\n")
        machine.path("/etc/qwend/pull.env").chmod(0o600)

        refused = machine.run(QWENCTL, "pull", "--system", WHAT, user=OWNER, check=False)
        assert refused.returncode == 4
        assert "pull is for administrators" in refused.stderr
        assert "leave out --system" in refused.stderr
        outside = machine.run(QWENCTL, "pull", "--system", WHAT, user=OUTSIDER, check=False)
        assert outside.returncode == 4
        assert hub.asked == []

        hub.on_file = cut_at_each_mib
        pulled = machine.run(QWENCTL, "pull", "--json", "--from", "hub", WHAT, user=MEMBER)
        events = [json.loads(line) for line in pulled.stdout.splitlines()]
        assert events[-1]["model"] == {"name": "model"}
        assert len(hub.ranges()) == len(guide) // (1 << 20) + 1

    blob = machine.path(f"{STORE}/blobs/{digest(guide)}")
    assert blob.read_bytes() == guide
    owner, mode = machine.run(
        "stat", "-c", "%U %a", f"{STORE}/blobs/{digest(guide)}"
    ).stdout.split()
    assert (owner, mode) == ("qwend", "444")
    assert "uid" in machine.journal("-u", "qwend.service", "-g", "has 'hf:owner/repo/model.gguf'")
    machine.run(QWENCTL, "load", "model", user=MEMBER)
    assert service.status(machine)["model"]["path"] == f"{STORE}/blobs/{digest(guide)}"
    with service.connect(machine) as client:
        assert "qwend" in service.ask(client)
    nobody_pulls(machine)


def test_others_pull_into_their_own_store(machine: Machine) -> None:
    service.start(machine)
    machine.run("install", "-d", f"--owner={OWNER}", f"--group={OWNER}", OWNER_HOME)
    with hub_in(machine, model=guide_path().read_bytes()) as hub:
        own = ("env", f"HOME={OWNER_HOME}", f"HF_ENDPOINT={hub.url}")
        pulled = machine.run(*own, QWENCTL, "pull", "--from", "hub", WHAT, user=OWNER)
    assert "It is in your own store" in pulled.stderr
    manifests = f"{OWNER_HOME}/.local/share/qwend/models/store/manifests"
    assert machine.run("ls", manifests).stdout.split() == ["model.json"]
    assert machine.run("ls", STORE, check=False).returncode != 0


def test_a_stop_of_the_daemon_stops_who_pulls_and_the_next_goes_on(machine: Machine) -> None:
    guide = guide_path().read_bytes()
    service.start(machine)
    with hub_in(machine, model=guide) as hub:
        machine.write("/etc/qwend/pull.env", f"HF_ENDPOINT={hub.url}\n")

        def half(request: Request) -> None:
            request.reply(200, guide, upto=1 << 20)
            request.handler.wfile.flush()
            request.handler.connection.settimeout(DEADLINE_S)
            request.handler.rfile.read(1)

        hub.on_file = half
        with service.connect(machine) as client:
            stream = client.start_pull(WHAT, source="hub")
            part = machine.path(f"{STORE}/parts/{digest(guide)}.part")
            machine.wait_until(lambda: part.exists() and part.stat().st_size == 1 << 20, "half")
            machine.systemctl("restart", "qwend")
            with pytest.raises(RequestFailed, match="pull it again"):
                stream.wait()
        nobody_pulls(machine)
        assert part.stat().st_size == 1 << 20
        hub.on_file = lambda request: request.serve()
        with service.connect(machine) as client:
            assert client.pull(WHAT, source="hub").model == "model"
        assert hub.ranges()[-1] == f"bytes={1 << 20}-"


PROBE = """
import json, os, socket
found = {}
def tried(name, action):
    try:
        found[name] = action() or "done"
    except OSError as error:
        found[name] = error.strerror
def made(path):
    with open(path, "x"):
        os.unlink(path)
tried("its socket", lambda: os.listdir("/run/qwend"))
tried("its state", lambda: os.listdir("/var/lib/qwend"))
tried("its configuration", lambda: made("/etc/qwend/new"))
tried("a model", lambda: made("/var/lib/qwend/models/new"))
tried("its conversations", lambda: made("/var/lib/qwend/new"))
tried("a socket of this machine", lambda: socket.socket(socket.AF_UNIX).close())
tried("a network", lambda: socket.socket(socket.AF_INET).close())
found["uid"] = os.geteuid()
with open("/proc/self/status") as file:
    fields = dict(line.split(":", 1) for line in file)
found |= {name: fields[name].strip() for name in ("Seccomp", "NoNewPrivs", "CapEff", "CapBnd")}
with socket.socket(fileno=0) as told:
    told.sendall(json.dumps(found).encode())
"""


@pytest.mark.row("G4")
def test_who_pulls_has_the_network_and_the_models_and_nothing_else(boot: Boot) -> None:
    drop_in = "[Service]\nExecStart=\nExecStart=/opt/qwend/bin/python3 /etc/qwend/probe.py\n"
    machine = boot(
        etc={
            "systemd/system/qwend-pull@.service.d/probe.conf": drop_in,
            "qwend/probe.py": PROBE,
        }
    )
    machine.run("install", "-d", "-o", "qwend", "-g", "qwend", "/var/lib/qwend/models")
    machine.run("install", "-d", "-o", "qwend", "-g", "qwend", "/var/lib/qwend/sessions")
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(DEADLINE_S)
        asking.connect(str(machine.path(PULL_SOCKET)))
        with asking.makefile("rb") as told:
            found = json.loads(told.read())
    assert found.pop("uid") == int(machine.run("id", "-u", "qwend").stdout)
    assert found == {
        "its socket": "Permission denied",
        "its state": ["models"],
        "its configuration": "Read-only file system",
        "a model": "done",
        "its conversations": "Read-only file system",
        "a socket of this machine": "Address family not supported by protocol",
        "a network": "done",
        "Seccomp": "2",
        "NoNewPrivs": "1",
        "CapEff": "0000000000000000",
        "CapBnd": "0000000000000000",
    }


def test_nobody_else_can_have_it_pull(qwend: Machine) -> None:
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({PULL_SOCKET!r})"
    for user in (MEMBER, OUTSIDER):
        done = qwend.run("/usr/bin/python3", "-c", connect, user=user, check=False)
        assert "PermissionError: [Errno 13]" in done.stderr
