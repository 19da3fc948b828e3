"""`qwend`, with a tap on the hop: notes when each token was made. Run as a program.

The note is taken in the front, from the engine's own stamp (CLOCK_MONOTONIC, so it compares across
processes), and written to $BENCH_TAP at the end. Nothing else of the daemon is changed; a token
costs one more append to a list.
"""

from __future__ import annotations

import json
import os
from typing import Any

from qwend.daemon.main import main
from qwend.engine import hop
from qwend.engine.events import Event, Produced

PATH_VARIABLE = "BENCH_TAP"


def tap() -> list[tuple[int, int, float]]:
    """From now on (engine's request id, tokens so far, when made) of every delivery is noted."""
    notes: list[tuple[int, int, float]] = []
    read_events = hop.read_events

    def noting(message: dict[str, Any]) -> list[Event]:
        events = read_events(message)
        for event in events:
            if isinstance(event, Produced) and event.ids:
                notes.append((event.request_id, event.index + len(event.ids), event.at_s))
        return events

    hop.read_events = noting
    return notes


if __name__ == "__main__":
    target = os.environ.pop(PATH_VARIABLE)
    notes = tap()
    try:
        main()
    finally:
        with open(target, "w") as file:
            json.dump(notes, file)
