"""What administrators tell the daemon to do: each is a request of its own, with an id and an end.

Rule 1: `read` accepts exactly what docs/protocol.md allows; `to_map` is its inverse.
Rule 2: this file does not know who is an administrator, nor how an order is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

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


PullSource = Literal["auto", "hub", "modelscope"]


@dataclass(frozen=True, slots=True)
class Pull:
    """Fetch a model from a hub into the daemon's store, for everybody."""

    op: ClassVar[str] = "pull"
    id: int
    model: str
    """As `qwenctl pull` takes it, but for a path."""
    name: str | None = None
    """In the store; None: the model's own."""
    sha256: str | None = None
    """What it must be; an address on the web needs it."""
    source: PullSource = "auto"
    any_architecture: bool = False
    offline: bool = False
    """Ask nobody: succeed if it is there."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id, "model": self.model}
        if self.name is not None:
            fields["name"] = self.name
        if self.sha256 is not None:
            fields["sha256"] = self.sha256
        if self.source != "auto":
            fields["from"] = self.source
        if self.any_architecture:
            fields["any_architecture"] = True
        if self.offline:
            fields["offline"] = True
        return fields

    @classmethod
    def read(cls, source: Fields) -> Pull:
        chars = limits.NAME_CHARS
        return cls(
            read_id(source),
            source.text("model", max_chars=limits.MODEL_CHARS),
            source.text("name", max_chars=chars) if source.has("name") else None,
            source.text("sha256", max_chars=chars) if source.has("sha256") else None,
            source.choice("from", get_args(PullSource)) if source.has("from") else "auto",
            source.boolean("any_architecture") if source.has("any_architecture") else False,
            source.boolean("offline") if source.has("offline") else False,
        )


Order = Drain | Reload | Load | Unload | Pull
ORDERS: tuple[type[Order], ...] = get_args(Order)
