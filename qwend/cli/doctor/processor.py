"""The processor: which threads compute, how fast it is clocked, what slows it down."""

from __future__ import annotations

from collections.abc import Iterator

from qwend.cli.amounts import counted, number, part
from qwend.cli.doctor.finding import Finding, note, ok, warn, wrong
from qwend.cli.doctor.scene import SYSTEM_CONFIG, Scene
from qwend.host.cgroup import cpu_quota
from qwend.host.cpufreq import PERFORMANCE, Knob, Policy, read_policies
from qwend.host.thermal import read_heat
from qwend.host.throttling import Flag, read_throttling

# Nearer to its ceiling than this, the next long answer is throttled.
NEAR_CEILING_C = 5.0
# Preferences with which the drivers that clock by themselves go to the top at once
# (Documentation/admin-guide/pm/intel_pstate.rst).
_QUICK = frozenset({"performance", "balance_performance"})
_FLAGS = {
    Flag.UNDER_VOLTAGE: "too little voltage",
    Flag.FREQUENCY_CAPPED: "the clock is capped",
    Flag.THROTTLED: "throttled",
    Flag.SOFT_TEMPERATURE_LIMIT: "at its soft temperature limit",
}


def check_threads(scene: Scene) -> Iterator[Finding]:
    """How many compute now, and where."""
    engine = part(scene.status, "engine")
    threads = number(engine, "threads_now") or number(engine, "threads")
    if not threads:
        return
    cpus = part(part(scene.status, "host"), "cpu").get("cpus")
    # Planned for as many threads as there are CPUs; fewer of them may compute.
    planned = cpus if isinstance(cpus, list) and len(cpus) == threads else []
    names = "CPU" if len(planned) == 1 else "CPUs"
    where = f" on {names} {', '.join(map(str, planned))}" if planned else ""
    quota = cpu_quota(scene.root, str(scene.pid)) if scene.pid else None
    if quota is not None:
        limit = f"; its control group allows {quota:g} CPUs"
        yield note("threads", f"{counted(threads, 'threads')}{where}{limit}")
    elif engine.get("company") is True:
        alone = f"{number(engine, 'threads_alone'):.0f}"
        now = number(engine, "running")
        other = "another program uses the CPU" if now else "another program used the CPU of late"
        yield note("threads", f"{threads:.0f} of {alone}: {other}")
    else:
        yield ok("threads", f"{counted(threads, 'threads')}{where}")


def check_governor(scene: Scene) -> Iterator[Finding]:
    """Whether the clock stays up between two tokens."""
    policies = read_policies(scene.root)
    if not policies:
        yield ok("governor", "none to be set here: the machine clocks itself")
        return
    slow = sorted({_clocking(policy) for policy in policies if not _stays_up(policy)})
    if not slow:
        fine = sorted({_clocking(policy) for policy in policies})
        yield ok("governor", f"{', '.join(fine)}{_set_by(scene)}")
        return
    offers = any(PERFORMANCE in each.offered.get(Knob.GOVERNOR, ()) for each in policies)
    yield warn(
        "governor",
        f"{', '.join(slow)}: the clock goes down between tokens",
        "Short answers begin slower, and the pace varies.",
        _perform(scene) if offers else "this kernel offers no governor `performance`",
    )


def check_throttling(scene: Scene) -> Iterator[Finding]:
    """What the firmware of a Raspberry Pi did to the clock."""
    flags = read_throttling(scene.root)
    if flags is None:
        return
    for level, found, when in ((wrong, flags.now, "now"), (warn, flags.occurred, "lately")):
        if found:
            what = f"{when}: {', '.join(_FLAGS[flag] for flag in Flag if flag in found)}"
            yield level("firmware", what, *_throttling_remedy(found))
            return
    yield ok("firmware", "neither low voltage nor throttling since the start")


def check_heat(scene: Scene) -> Iterator[Finding]:
    heat = read_heat(scene.root)
    if heat is None:
        return
    what = f"{heat.temperature_c:.0f} °C; it slows itself down at {heat.ceiling_c:.0f} °C"
    if heat.headroom_c < NEAR_CEILING_C:
        yield warn(
            "heat",
            what,
            "A long answer is throttled.",
            "more air: a heat sink, a fan, another place",
        )
    else:
        yield ok("heat", what)


def _perform(scene: Scene) -> str:
    if not scene.is_system:
        # sudo looks in places of its own, where a user's program is not.
        return 'sudo "$(command -v qwend)" host apply --governor performance'
    setting = f'governor = "performance" under [host] in {SYSTEM_CONFIG}\n'
    asked = part(part(scene.status, "host"), "governor").get("wanted")
    return ("" if asked else setting) + "sudo systemctl restart qwend-host qwend"


def _clocking(policy: Policy) -> str:
    governor = policy.now.get(Knob.GOVERNOR, "unknown")
    preference = policy.now.get(Knob.PREFERENCE)
    return f"{governor} ({preference})" if preference and governor != PERFORMANCE else governor


def _stays_up(policy: Policy) -> bool:
    if policy.now.get(Knob.GOVERNOR) == PERFORMANCE:
        return True
    return policy.now.get(Knob.PREFERENCE) in _QUICK


def _set_by(scene: Scene) -> str:
    governor = part(part(scene.status, "host"), "governor")
    return ", set by qwend while it runs" if governor.get("wanted") else ""


def _throttling_remedy(found: frozenset[Flag]) -> tuple[str, str]:
    if Flag.UNDER_VOLTAGE in found:
        return (
            "The clock is halved, and writes to the card may fail.",
            "the power supply of the Raspberry Pi itself, and its own cable",
        )
    return "Answers take longer.", "more air: a heat sink, a fan, another place"
