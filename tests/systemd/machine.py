"""A machine for a test: a real systemd as PID 1, in namespaces and control groups of its own.

Rule 1: what happens inside stays inside. The root is an overlay in memory, /sys is read-only or
fake, the network is empty; with the machine everything goes, whatever way it ends.
Rule 2: this file does not know qwend; `installation.py` and the units come as files.

pid1.sh, in the machine, does the mounts. Sources: unshare(1), nsenter(1), and systemd(1) for the
signal SIGRTMIN+4 (poweroff.target).
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.cgroups import Groups, new_name

PID1 = Path(__file__).parent / "pid1.sh"
SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "bash")
# A boot takes 0.6 to 1 s, one of a busy machine several times that.
BOOT_TIMEOUT_S = 30.0
# Longer than any wait here for something that is sure to come.
DEADLINE_S = 40.0
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "SYSTEMD_COLORS": "0",
    "SYSTEMD_PAGER": "",
}
# What would wait for hardware or write to the host's kernel.
MASKED = (
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-hwdb-update.service"),
    *("systemd-modules-load.service", "systemd-firstboot.service", "ldconfig.service"),
    *("systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount"),
    *("sys-fs-fuse-connections.mount", "dev-hugepages.mount"),
    *("proc-sys-fs-binfmt_misc.automount", "getty.target"),
)
# Each kind of mount that pid1.sh makes, in namespaces that are gone at once.
TRIAL = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
mount -t proc proc /mnt/root/proc
mount -t sysfs -o ro sysfs /mnt/root/sys
"""
_numbers = itertools.count()


class BootFailed(Exception):
    """It did not come up; the text is its console."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What a machine is made of. etc: text by path below /etc. over_sys: directories laid over
    /sys/devices/system/cpu and /sys/class, by "cpu" and "class"."""

    etc: Mapping[str, str]
    binds: Sequence[tuple[Path, Path]] = ()
    over_sys: Mapping[str, Path] | None = None


def why_not() -> str:
    """The reason why no machine can be booted here, "" if one can."""
    if os.geteuid() != 0:
        return "not root: a systemd needs root to make namespaces and control groups"
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing or not SYSTEMD.exists():
        return f"not installed: {', '.join(missing) or SYSTEMD}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "this kernel has no overlayfs"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "/sys/fs/cgroup cannot be written to"
    command = ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "sh", "-ec", TRIAL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"namespaces or mounts are refused: {done.stderr.strip()}"
    try:
        Groups(new_name(next(_numbers))).remove()
    except OSError as error:
        return f"control groups are refused: {error}"
    return ""


class Machine:
    """One that is up. leader: its PID 1, as this machine counts. booted_s: how long that took."""

    def __init__(
        self, state: Path, unshare: subprocess.Popen[bytes], groups: Groups, leader: int
    ) -> None:
        self.state = state
        self.leader = leader
        self.booted_s = 0.0
        self.groups = groups
        self.controllers = frozenset(groups.controllers)
        self._unshare = unshare

    @property
    def is_up(self) -> bool:
        return self._unshare.poll() is None

    def path(self, inside: str) -> Path:
        """A file or socket of the machine, as it is reached from here."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def command(self, *words: str, user: str = "") -> list[str]:
        """The command that runs `words` inside."""
        enter = ["nsenter", "--target", str(self.leader), "--all", "--", "env", "-i"]
        enter += [f"{name}={value}" for name, value in _ENVIRON.items()]
        if user:
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return [*enter, *words]

    def run(
        self, *words: str, user: str = "", check: bool = True, timeout_s: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises: AssertionError with what it said if it fails."""
        done = subprocess.run(
            self.command(*words, user=user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout}{done.stderr}"
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{said}")
        return done

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--no-ask-password", *words, check=check).stdout.strip()

    def property(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def journal(self, *words: str) -> str:
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", *words).stdout

    def write(self, inside: str, text: str) -> None:
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Return the condition's first true value. Raises: AssertionError naming what never came.

        Each look may be a command in the machine, so there are not many a second.
        """
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.02)
        raise AssertionError(f"not within {DEADLINE_S:g} s: {what}\n{self.journal('-n', '40')}")

    def power_off(self) -> None:
        """As a person would: units are stopped in order."""
        with suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self._unshare.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.cut_power()

    def cut_power(self) -> None:
        """All at once, nothing is stopped and nothing is put back."""
        with suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)
        self._unshare.wait(DEADLINE_S)


@contextmanager
def booted(state: Path, disk: Disk) -> Iterator[Machine]:
    """Boot a machine; it is gone afterwards. state: an empty directory for its making.

    Raises: BootFailed.
    """
    _write_state(state, disk)
    with ExitStack() as undo:
        groups = Groups(new_name(next(_numbers)))
        undo.callback(groups.remove)
        (state / "cgroups").write_text("".join(f"{each}\n" for each in groups.directories))
        begin = time.monotonic()
        unshare = _start(state)
        undo.callback(_end, unshare)
        machine = Machine(state, unshare, groups, _leader_of(unshare, state))
        _wait_until_up(machine, unshare, state)
        machine.booted_s = time.monotonic() - begin
        yield machine
        machine.cut_power()


def _write_state(state: Path, disk: Disk) -> None:
    units = state / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    for name, text in disk.etc.items():
        (state / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (state / "etc" / name).write_text(text)
    (state / "binds").write_text("".join(f"{source}\t{to}\n" for source, to in disk.binds))
    for name, tree in (disk.over_sys or {}).items():
        shutil.copytree(tree, state / name, symlinks=True)


def _start(state: Path) -> subprocess.Popen[bytes]:
    command = ["setpriv", "--pdeathsig", "KILL"]  # with us, however we end
    command += ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"]
    command += ["--kill-child=SIGKILL", "--propagation", "private"]
    with (state / "console").open("wb") as console:
        return subprocess.Popen(
            [*command, "bash", str(PID1), "enter", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def _leader_of(unshare: subprocess.Popen[bytes], state: Path) -> int:
    """Its only child, once that has become systemd and can be asked."""
    end = time.monotonic() + BOOT_TIMEOUT_S
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    while time.monotonic() < end and unshare.poll() is None:
        with suppress(OSError):
            for child in children.read_text().split():
                is_systemd = Path(f"/proc/{child}/comm").read_text().strip() == "systemd"
                if is_systemd and Path(f"/proc/{child}/root/run/systemd/private").exists():
                    return int(child)
        time.sleep(0.01)
    raise BootFailed((state / "console").read_text(errors="replace"))


def _wait_until_up(machine: Machine, unshare: subprocess.Popen[bytes], state: Path) -> None:
    end = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < end and unshare.poll() is None:
        word = machine.systemctl("is-system-running", check=False)
        if word == "running":
            return
        if word == "degraded":
            raise BootFailed(machine.systemctl("--failed", check=False))
        time.sleep(0.02)
    raise BootFailed((state / "console").read_text(errors="replace"))


def _end(unshare: subprocess.Popen[bytes]) -> None:
    """Its death takes PID 1, and that everything else of the machine."""
    unshare.kill()
    unshare.wait()
