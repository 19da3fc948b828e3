"""All scenarios, in the order of the table."""

from __future__ import annotations

from ..scenario import Scenario
from .cached_prompt import AfterRestart, CachedPrompt
from .cold_prompt import LongPrompt, SharedColdPrompt
from .company import Company, WeightedCompany
from .conversations import Conversations
from .decode_speed import DecodeSpeed, DeepDecode
from .footprint import Footprint
from .intruder import Intruder
from .speculation import Speculation
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
    Company,
    WeightedCompany,
    Footprint,
    DeepDecode,
    LongPrompt,
    Speculation,
    Conversations,
)
LETTERS = tuple(scenario.letter for scenario in SCENARIOS)
