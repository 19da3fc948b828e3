"""How an answer is to be generated: the optional fields that `chat` and `complete` share.

Rule 1: None means that the daemon's configuration decides.
Rule 2: this file does not know the defaults, nor how a sampler works.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.resume import read_key


@dataclass(frozen=True, slots=True)
class Generation:
    max_tokens: int | None = None
    temperature: float | None = None
    """0 takes the likeliest token each time."""
    top_k: int | None = None
    """0 switches it off."""
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    """Tokens that the penalty looks back."""
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    """Pairs of token id and the number added to its logit."""
    ignore_eos: bool | None = None
    deadline_s: float | None = None
    """From acceptance to the last token."""
    credit: int | None = None
    """Tokens that may be sent before the first `credit` message; None: the daemon paces."""
    resume: str | None = None
    """A key with which the answer can be gone on with when its connection is lost."""

    def to_fields(self) -> dict[str, object]:
        given: dict[str, object] = {}
        for name in GENERATION_FIELDS:
            value = getattr(self, name)
            if value is not None:
                given[name] = value
        if self.stop is not None:
            given["stop"] = list(self.stop)
        if self.logit_bias is not None:
            given["logit_bias"] = dict(self.logit_bias)
        return given


DAEMON_DEFAULTS = Generation()
GENERATION_FIELDS = tuple(field.name for field in fields(Generation))


def read_generation(source: Fields) -> Generation:
    """Take the generation fields out of `source`; the rest is the caller's."""

    def integer(name: str, low: int, high: int) -> int | None:
        return source.integer(name, low, high) if source.has(name) else None

    def number(name: str, low: float, high: float) -> float | None:
        return source.number(name, low, high) if source.has(name) else None

    return Generation(
        max_tokens=integer("max_tokens", 1, limits.COUNT_MAX),
        temperature=number("temperature", 0.0, limits.TEMPERATURE_MAX),
        top_k=integer("top_k", 0, limits.COUNT_MAX),
        top_p=number("top_p", 0.0, 1.0),
        min_p=number("min_p", 0.0, 1.0),
        repeat_penalty=number(
            "repeat_penalty", limits.REPEAT_PENALTY_MIN, limits.REPEAT_PENALTY_MAX
        ),
        repeat_last_n=integer("repeat_last_n", 0, limits.REPEAT_LAST_N_MAX),
        seed=integer("seed", 0, limits.SEED_MAX),
        stop=_read_stop(source) if source.has("stop") else None,
        logit_bias=_read_logit_bias(source) if source.has("logit_bias") else None,
        ignore_eos=source.boolean("ignore_eos") if source.has("ignore_eos") else None,
        deadline_s=_read_deadline(source) if source.has("deadline_s") else None,
        credit=integer("credit", 0, limits.COUNT_MAX),
        resume=read_key(source, "resume") if source.has("resume") else None,
    )


def _read_stop(source: Fields) -> tuple[str, ...]:
    stops = source.texts("stop", max_entries=limits.STOP_STRINGS)
    for index, stop in enumerate(stops):
        if not 1 <= len(stop.encode()) <= limits.STOP_BYTES:
            allowed = f"1 to {limits.STOP_BYTES} bytes of UTF-8"
            raise source.wrong(f"stop[{index}]", stop, allowed, "invalid_value")
    return stops


def _read_logit_bias(source: Fields) -> tuple[tuple[int, float], ...]:
    value = source.value("logit_bias")
    if type(value) is not dict:
        raise source.wrong("logit_bias", value, "a map of token id to number", "invalid_message")
    bound = limits.LOGIT_BIAS_ABS_MAX
    return tuple(
        (
            source.integer_value("logit_bias key", token_id, 0, limits.COUNT_MAX),
            source.number_value(f"logit_bias[{token_id}]", bias, -bound, bound),
        )
        for token_id, bias in value.items()
    )


def _read_deadline(source: Fields) -> float:
    deadline_s = source.number("deadline_s", 0.0, limits.DEADLINE_MAX_S)
    if deadline_s == 0.0:
        allowed = f"more than 0 and at most {limits.DEADLINE_MAX_S:g} seconds"
        raise source.wrong("deadline_s", deadline_s, allowed, "invalid_value")
    return deadline_s
