"""All scenarios, in the order of the table."""

from __future__ import annotations

from ..scenario import Scenario
from .cached_prompt import AfterRestart, CachedPrompt
from .cold_prompt import LongPrompt, SharedColdPrompt
from .decode_speed import DecodeSpeed, DeepDecode
from .intruder import Intruder
from .start import Start
from .together import Together
from .type_ahead import TypeAhead

SCENARIOS: tuple[type[Scenario], ...] = (
    Start,
    CachedPrompt,
    AfterRestart,
    TypeAhead,
    DecodeSpeed,
    SharedColdPrompt,
    Intruder,
    Together,
    DeepDecode,
    LongPrompt,
)
LETTERS = tuple(scenario.letter for scenario in SCENARIOS)
