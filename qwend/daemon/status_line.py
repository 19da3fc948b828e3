"""The one line that `systemctl status` shows: stage while it starts, then model, speed and heat."""

from __future__ import annotations

from collections.abc import Sequence

from qwend.daemon.state import Condition, DaemonState
from qwend.engine.events import Gauges


def status_line(
    model: str,
    state: DaemonState,
    gauges: Gauges | None,
    temperature_c: float | None,
    needs_restart: Sequence[str] = (),
) -> str:
    """Rounded so that it changes only when there is something new to see.

    needs_restart: settings whose new value is not in force yet.
    """
    if state.condition is not Condition.READY:
        return f"{state.word}: {state.stage}" if state.stage else state.word
    parts = [f"{model}, {state.word}"]
    if state.asleep:
        parts.append(state.asleep)
    elif gauges is not None and gauges.decode_tok_s:
        parts.append(f"{gauges.decode_tok_s:,.{1 if gauges.decode_tok_s < 10 else 0}f} tokens/s")
    if temperature_c is not None:
        parts.append(f"{temperature_c:.0f} °C")
    if needs_restart:
        parts.append(f"restart to apply {', '.join(needs_restart)}")
    return "; ".join(parts)
