"""How an engine process is to be set up: the first message that crosses the hop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineStart:
    """Everything the engine process needs to know; it reads no configuration of its own.

    model: path of the GGUF; the descriptor that comes with the settings goes before it.
    cells: KV cells of all sequences together, in tokens. ubatch: the most rows of a step.
    threads / cpus: how many compute threads, and the CPU each is pinned to (empty: not pinned).
    flash_attention: on, off, or auto: measured. speculation: guess tokens from the prompt.
    repack: rearrange weights for this CPU, which takes their size once more. mapped: compute from
    the mapped file as far as they are not; else all of it is read into memory of our own.
    lock: keep the weights out of swap.
    fingerprint: of the model's weights; what is kept over restarts is kept under it.
    kept_dir: where calibrations and idle prefixes are kept over restarts; empty: nowhere.
    disk_bytes: of idle prefixes there.
    in_company: another engine computes beside this one: what is measured now is not kept.
    script: settings of the scripted backend, by name; empty for llama.cpp.
    """

    backend: str
    model: str
    cells: int = 8192
    ubatch: int = 128
    max_sequences: int = 8
    threads: int = 1
    cpus: tuple[int, ...] = ()
    gpu_layers: int = 0
    flash_attention: str = "off"
    kv_type: str = "f16"
    itl_budget_s: float = 0.120
    prefix_bytes: int = 256 << 20
    speculation: bool = True
    repack: bool = True
    mapped: bool = True
    lock: bool = False
    fingerprint: str = ""
    kept_dir: str = ""
    disk_bytes: int = 0
    in_company: bool = False
    script: dict[str, Any] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_map(cls, fields: Mapping[str, Any]) -> EngineStart:
        values = dict(fields)
        values["cpus"] = tuple(values["cpus"])
        return cls(**values)
