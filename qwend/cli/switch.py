"""The orders to load a model and to let go of it, followed to their end.

Rule 1: Ctrl-C takes an order back, and what the daemon says to that is waited for.
Rule 2: this file does not know the configuration: what it does lasts until the daemon's next start.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qwend.cli.amounts import context_tokens, number, part
from qwend.cli.interrupt import first_calls
from qwend.cli.switch_screen import SwitchScreen
from qwend.client import Client, Progress, RequestFailed, TokenStream
from qwend.models.store import is_path


@dataclass(frozen=True, slots=True)
class Loaded:
    """tokens_s: of one answer alone, as the daemon has measured its steps; 0: it has not.

    was_loaded: there was nothing to do.
    """

    model: str
    was_loaded: bool
    took_s: float
    context: int
    tokens_s: float

    @classmethod
    def of(cls, status: Mapping[str, object], took_s: float, *, was_loaded: bool) -> Loaded:
        step_ms = number(part(part(status, "engine"), "step_ms"), "1")
        return cls(
            model=str(part(status, "model").get("name")),
            was_loaded=was_loaded,
            took_s=round(took_s, 3),
            context=int(context_tokens(status)),
            tokens_s=round(1e3 / step_ms, 1) if step_ms else 0.0,
        )

    def sentence(self) -> str:
        digits = 1 if self.tokens_s < 10 else 0
        rate = f", about {self.tokens_s:,.{digits}f} tokens/s" if self.tokens_s else ""
        since = "already" if self.was_loaded else f"now, after {self.took_s:.1f} s"
        return f"{self.model} answers {since}: {self.context:,} tokens of context{rate}."

    def fields(self) -> dict[str, object]:
        return asdict(self)


def as_sent(model: str) -> str:
    """The daemon has another working directory, and another home."""
    return str(Path(model).expanduser().absolute()) if is_path(model) else model


def load(client: Client, model: str, screen: SwitchScreen, command: str = "load") -> Loaded | None:
    """Have the daemon answer with it; None if that was taken back.

    command: what root would give. Raises: ClientError.
    """
    began = time.monotonic()
    stream = client.start_load(as_sent(model))
    if not _followed(stream, screen, f"{command} {shlex.quote(model)}"):
        return None
    took_s = time.monotonic() - began
    return Loaded.of(client.status(), took_s, was_loaded=not screen.has_told)


def unload(client: Client, screen: SwitchScreen) -> bool:
    """Have it let go of its model; False if that was taken back. Raises: ClientError."""
    return _followed(client.start_unload(), screen, "unload")


def say_stopped(client: Client, screen: SwitchScreen) -> None:
    """After an order was taken back."""
    model = str(part(client.status(), "model").get("name"))
    screen.tell("cancelled", model=model)
    screen.remark(f"Stopped: {model} serves on.")


def _followed(stream: TokenStream, screen: SwitchScreen, command: str) -> bool:
    try:
        with screen, first_calls(stream.cancel):
            for event in stream.events():
                if isinstance(event, Progress):
                    screen.progress(event)
            return stream.wait().finish_reason != "cancelled"
    except RequestFailed as error:
        if error.code != "forbidden":
            raise
        raise RequestFailed("forbidden", f"{error}; as root: sudo qwenctl {command}") from error
