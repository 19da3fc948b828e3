"""How far the load of a model is, from the stages that its parts report. Owns nothing."""

from __future__ import annotations

from types import MappingProxyType

# Percent at which each stage begins and ends. Copying reads the disk, which takes longest where
# anything takes long; calibrating is a few seconds at most, or nothing.
_SPANS = MappingProxyType({"warming": (0, 50), "loading": (50, 90), "calibrating": (90, 100)})


def percent_of(stage: str, fraction: float) -> int:
    """0..100 for `fraction` (0..1) of a stage; 0 for a stage that is not known."""
    begin, end = _SPANS.get(stage, (0, 0))
    return begin + int((end - begin) * min(max(fraction, 0.0), 1.0))
