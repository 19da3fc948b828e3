"""What administrators tell the daemon to do: each is a request of its own, with an id and an end.

Rule 1: `read` accepts exactly what docs/protocol.md allows; `to_map` is its inverse.
Rule 2: this file does not know who is an administrator, nor how an order is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.ids import read_id


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new requests until a `reload`; those that are open go on."""

    op: ClassVar[str] = "drain"
    id: int

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id}

    @classmethod
    def read(cls, source: Fields) -> Drain:
        return cls(read_id(source))


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again, and take requests again."""

    op: ClassVar[str] = "reload"
    id: int

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id}

    @classmethod
    def read(cls, source: Fields) -> Reload:
        return cls(read_id(source))


@dataclass(frozen=True, slots=True)
class Load:
    """Answer with this model from now on; what is being answered ends with the one before."""

    op: ClassVar[str] = "load"
    id: int
    model: str
    """As `name` under [model] has it: a name of the store, or a path on the daemon's machine."""

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id, "model": self.model}

    @classmethod
    def read(cls, source: Fields) -> Load:
        return cls(read_id(source), source.text("model", max_chars=limits.MODEL_CHARS))


@dataclass(frozen=True, slots=True)
class Unload:
    """Let go of the model once nobody is being answered; the next request loads it again."""

    op: ClassVar[str] = "unload"
    id: int

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id}

    @classmethod
    def read(cls, source: Fields) -> Unload:
        return cls(read_id(source))


Order = Drain | Reload | Load | Unload
ORDERS: tuple[type[Order], ...] = get_args(Order)
