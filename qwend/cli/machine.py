"""The machine in one or two lines of `qwenctl status`: heat, power, energy, pressure on memory.

Rule 1: what the machine does not show, and what is as it should be, takes no room.
Rule 2: this file knows the `host` part of the status and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qwend.cli.amounts import number, part, size

_FLAGS = {
    "under_voltage": "under-voltage",
    "frequency_capped": "clock capped",
    "throttled": "throttled",
    "soft_temperature_limit": "at its soft temperature limit",
}


def machine_lines(host: Mapping[str, object]) -> Iterator[str]:
    """One line of figures, if there are any, and one for what keeps a figure from being known."""
    energy = part(host, "energy")
    figures = [
        *_heat(part(host, "heat")),
        *_throttling(part(host, "throttling")),
        *_power(part(host, "power")),
        *_energy(energy),
        *_memory(part(host, "memory")),
    ]
    if figures:
        yield ", ".join(figures)
    if energy.get("problem"):
        yield f"energy is not measured: {energy['problem']}"


def _heat(heat: Mapping[str, object]) -> Iterator[str]:
    if "temperature_c" in heat:
        yield (
            f"{number(heat, 'temperature_c'):.0f} °C "
            f"({heat.get('zone')}, throttles at {number(heat, 'ceiling_c'):.0f} °C)"
        )


def _throttling(flags: Mapping[str, object]) -> Iterator[str]:
    now, occurred = (_listed(flags.get(key)) for key in ("now", "occurred"))
    for flag in now:
        yield f"{_FLAGS.get(flag, flag)} now"
    for flag in occurred:
        if flag not in now:
            yield f"{_FLAGS.get(flag, flag)} before"


def _power(power: Mapping[str, object]) -> Iterator[str]:
    if "percent" not in power:
        if "on_battery" in power:
            yield "on battery" if power["on_battery"] is True else "on mains"
        return
    on = "on " if power.get("on_battery") is True else ""
    yield f"{on}battery {number(power, 'percent'):.0f} %"
    if power.get("saver") is True:
        yield "half of the threads to save it"


def _energy(energy: Mapping[str, object]) -> Iterator[str]:
    if "joules_per_token" in energy:
        yield f"{number(energy, 'joules_per_token'):.2g} J a token"


def _memory(memory: Mapping[str, object]) -> Iterator[str]:
    percent = number(memory, "pressure_percent")
    if percent >= 1:
        yield f"{percent:.0f} % of the time waiting for memory"
    if memory.get("short") is True:
        yield f"idle prefixes limited to {size(memory, 'prefix_limit_bytes')}"


def _listed(flags: object) -> list[str]:
    return [str(flag) for flag in flags] if isinstance(flags, list) else []
