"""The daemon: does it answer, does it answer you, and what does it say of itself?"""

from __future__ import annotations

from collections.abc import Iterator

from qwend.cli.amounts import number, part
from qwend.cli.doctor.finding import Finding, note, ok, warn, wrong
from qwend.cli.doctor.scene import Scene
from qwend.paths import SYSTEM_SOCKET

# Where scripts/install, a distribution and a user have their units (systemd.unit(5)).
_SYSTEM_UNITS = tuple(
    f"{place}/systemd/system/qwend.service" for place in ("/etc", "/usr/local/lib", "/usr/lib")
)


def check_daemon(scene: Scene) -> Iterator[Finding]:
    """Whether it answers, and its own word for how it is."""
    if not scene.status:
        yield _unanswered(scene)
        return
    word = str(scene.status.get("state", "unknown"))
    stage = str(scene.status.get("stage", ""))
    if word == "failed":
        yield wrong("daemon", f"failed: {stage}", mend=scene.journal)
    elif word in ("ready", "degraded"):
        yield ok("daemon", f"{word}: {_model(scene)}")
    else:
        yield note("daemon", f"{word}: {stage}", "Not everything is known until it is ready.")
    reasons = scene.status.get("degraded")
    for reason in reasons if isinstance(reasons, list) else ():
        yield warn("degraded", str(reason))


def check_version(scene: Scene) -> Iterator[Finding]:
    """After an upgrade the old daemon runs on until somebody restarts it."""
    server = str(scene.status.get("server", "")).removeprefix("qwend ")
    if server and server != scene.qwend:
        yield warn(
            "version",
            f"the daemon is {server}, qwenctl {scene.qwend}",
            "An upgrade takes effect with a restart; clients stay connected.",
            scene.systemctl("restart qwend"),
        )


def check_access(scene: Scene) -> Iterator[Finding]:
    """Whether this user may use the socket, and why not."""
    if scene.status:
        if scene.is_system and scene.euid != 0:
            group = scene.group_name(scene.socket_gid)
            yield ok("access", f"as {scene.user}{f', in the group {group}' if group else ''}")
        return
    if scene.trouble != "forbidden":
        return
    what = f"{scene.user} may not use {scene.socket}"
    group = scene.group_name(scene.socket_gid)
    if not group:
        yield wrong("access", what, scene.said)
    elif scene.is_member(group):
        yield wrong(
            "access",
            what,
            f"You are in the group {group}, but this login began before that.",
            f"log in again, or in this terminal: newgrp {group}",
        )
    else:
        yield wrong(
            "access",
            what,
            f"Only the group {group} may, and you are not in it.",
            f"sudo usermod -aG {group} {scene.user}\nlog in again",
        )


def _unanswered(scene: Scene) -> Finding:
    if scene.trouble == "forbidden":
        # `check_access` says the rest.
        return note("daemon", "not known how it is: it may not be asked")
    if scene.trouble == "silent":
        return wrong(
            "daemon",
            f"takes the connection at {scene.socket}, and does not answer",
            "It is being started, which takes minutes from a slow card; or it hangs.",
            f"{scene.systemctl('status qwend')}\n{scene.journal}",
        )
    # The client's error begins with the path, which stands here already.
    reason = scene.said.partition(": ")[2].partition(";")[0] or scene.said
    what = f"none answers at {scene.socket}"
    if scene.named_by and scene.root.exists(str(SYSTEM_SOCKET)) and not scene.is_system:
        remedy = "leave out" if scene.named_by == "--socket" else "unset"
        return wrong(
            "daemon",
            what,
            f"{reason.capitalize()}. {scene.named_by} says to look there; the machine's daemon is "
            "elsewhere.",
            f"{remedy} {scene.named_by}",
        )
    if scene.is_system and not any(map(scene.root.exists, _SYSTEM_UNITS)):
        return wrong(
            "daemon",
            what,
            "qwend is not installed as a service on this machine.",
            "sudo scripts/install, in a clone of qwend\nor, just to try it: scripts/quickstart",
        )
    return wrong(
        "daemon",
        what,
        f"{reason.capitalize()}.",
        f"{scene.systemctl('start qwend')}\nif that fails: {scene.journal}",
    )


def _model(scene: Scene) -> str:
    model, speed = part(scene.status, "model"), part(scene.status, "speed")
    rate = number(speed, "decode_tok_s")
    shown = f", {rate:,.{1 if rate < 100 else 0}f} tokens/s" if rate else ""
    return f"{model.get('name')}{shown}"
