"""Every setting: its table, type, default, unit and range.

Rule 1: a setting is declared here once; loading, errors and `qwenctl config show` follow from it.
Rule 2: this file does not know how values are read, nor what uses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any, cast

from qwend.config.option import option
from qwend.paths import SOCKET_PATH_BYTES

# Beyond this a 32-bit count of llama.cpp or of the protocol would wrap.
_INT32 = 2**31 - 1
# Names of users or groups as useradd(8) has them, or numbers.
_NAMES = r" *([A-Za-z0-9_][A-Za-z0-9_.-]{0,31}( +|$))*"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    name: str = option(
        "guide",
        "a name of `qwenctl models list`, a path to a .gguf file, or the built-in guide",
        pattern=r"[^\n\r]+",
        pattern_says="the name of a model or the path of a .gguf file",
        max_bytes=4096,  # PATH_MAX, limits.h
    )
    context: int = option(
        8192,
        "tokens of all sequences together; clipped to what the model was trained for",
        low=64,
        high=2**20,
    )
    gpu_layers: int = option(0, "layers to put on a GPU, where the build has one", low=0, high=9999)
    allow_any_architecture: bool = option(False, "also load models that are not Qwen")
    warm_copy: str = option(
        "auto",
        "keep the model file in memory: auto falls back to the disk, required refuses to start",
        choices=("auto", "off", "required"),
    )
    memory: str = option(
        "auto",
        "keep the copy beside the weights repacked for speed, drop the copy, or compute from the "
        "copy with no-repack; auto: by the memory at hand",
        choices=("auto", "keep", "drop", "no-repack"),
    )
    lock: str = option(
        "auto",
        "keep the weights out of swap; auto: where there is swap",
        choices=("auto", "on", "off"),
    )
    free_on_stop: bool = option(
        False, "give the memory of the copy back at a stop; the next start reads the disk"
    )
    unload_after_s: float = option(
        0.0,
        "seconds without a request after which the model is let go of, until the next; 0: never",
        low=0,
        high=2**31,
    )


@dataclass(frozen=True, slots=True)
class EngineConfig:
    backend: str = option(
        "llama", "scripted answers without a model", choices=("llama", "scripted")
    )
    threads: int = option(0, "0: by the machine", low=0, high=512)  # GGML_MAX_N_THREADS
    flash_attention: str = option(
        "auto", "auto: whichever is measured to be quicker here", choices=("on", "off", "auto")
    )
    speculation: bool = option(True, "guess tokens from the prompt, where that pays")
    kv_type: str = option(
        "f16", "precision of the KV cache; q8_0 needs flash attention", choices=("f16", "q8_0")
    )
    ubatch: int = option(128, "rows of one computation", low=1, high=4096)
    max_sequences: int = option(8, "requests decoded together", low=1, high=256)  # LLAMA_MAX_SEQ
    hung_after_s: float = option(
        10.0, "seconds without a sign of life before the engine is killed", low=0.1, high=3600
    )


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    itl_budget_ms: int = option(
        120, "milliseconds a running stream may wait for its next token", low=5, high=60_000
    )


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """What a request gets that does not say otherwise; the ranges are the protocol's."""

    temperature: float = option(0.7, "0: always the likeliest token", low=0, high=100)
    top_k: int = option(40, "tokens; 0: off", low=0, high=_INT32)
    top_p: float = option(0.95, "share of probability; 1: off", low=0, high=1)
    min_p: float = option(0.0, "share of the likeliest token's; 0: off", low=0, high=1)
    repeat_penalty: float = option(1.0, "1: off", low=0.01, high=100)
    repeat_last_n: int = option(64, "tokens the penalty looks back", low=0, high=8192)
    max_tokens: int = option(1024, "tokens of one answer", low=1, high=_INT32)


@dataclass(frozen=True, slots=True)
class ChatConfig:
    # Tokens are computed for each conversation; more than this does not fit in a small context.
    system_prompt: str = option(
        "You are a helpful assistant.",
        "for conversations that do not begin with a system message; empty: none",
        max_bytes=65_536,
    )
    thinking: str = option(
        "auto",
        "reason before answering, where the model can; auto: as the model does unasked",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True, slots=True)
class SocketConfig:
    path: str = option(
        "",
        "empty: by mode",
        pattern=r"(/[^\n\r]+)?",
        pattern_says="an absolute path, or nothing",
        max_bytes=SOCKET_PATH_BYTES,
    )
    mode: str = option(
        "0660",
        "permissions of the socket, octal",
        pattern=r"0?[0-7]{3}",
        pattern_says='octal permissions as text, such as "0660"',
    )
    group: str = option(
        "",
        "group of the socket; empty: the daemon's own",
        pattern=r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?",
        pattern_says="the name of a group, or nothing",
    )
    allow_users: str = option(
        "",
        "who may connect; empty, as allow_groups: everyone whom the mode lets in",
        pattern=_NAMES,
        pattern_says='names or numbers between blanks, such as "alice bob 1001", or nothing',
        max_bytes=4096,
    )
    allow_groups: str = option(
        "",
        "groups whose members may connect as well, by any of their groups",
        pattern=_NAMES,
        pattern_says='names or numbers between blanks, such as "staff audio", or nothing',
        max_bytes=4096,
    )
    admin_group: str = option(
        "",
        "group whose members are administrators, as root and the daemon's own user are",
        pattern=r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?",
        pattern_says="the name of a group, or nothing",
    )


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    connections: int = option(1024, "open connections", low=1, high=100_000)
    connections_per_uid: int = option(128, "of one user", low=1, high=100_000)
    running_per_uid: int = option(4, "requests of one user computed at once", low=1, high=256)
    queued_per_uid: int = option(16, "requests of one user waiting", low=0, high=100_000)
    queued: int = option(512, "requests waiting in all", low=0, high=100_000)
    tokens_per_minute: int = option(
        0, "tokens of one user, computed of prompts and answered; 0: no limit", low=0, high=_INT32
    )
    hello_timeout_s: float = option(10.0, "seconds to say hello", low=0.01, high=3600)
    drain_s: float = option(30.0, "seconds running requests get at a stop", low=0, high=3600)
    outbox_bytes: int = option(
        262_144, "bytes one connection may leave unread", low=4096, high=2**28
    )
    held_bytes_per_uid: int = option(
        16 * 2**20,  # as dbus-broker has it for each user
        "bytes of one user's connections that wait unread, or for the rest of a message",
        low=2**20,
        high=2**32,
    )
    slow_reader_s: float = option(
        10.0, "seconds a full outbox may stay unread before it is closed", low=0.01, high=3600
    )


@dataclass(frozen=True, slots=True)
class SessionsConfig:
    enabled: bool = option(True, "keep the conversations of chats that name a session")
    per_uid: int = option(1000, "sessions of one user", low=1, high=100_000)
    # 400 pages of a book are about 1 MiB.
    mb_per_uid: int = option(32, "MiB of all sessions of one user", low=1, high=2**20)


@dataclass(frozen=True, slots=True)
class CacheConfig:
    disk_mb: int = option(
        256, "MiB of idle prefixes kept on disk over restarts; 0: none", low=0, high=2**20
    )
    prefix_mb: int = option(256, "MiB of idle prefixes kept in memory; 0: none", low=0, high=2**20)


@dataclass(frozen=True, slots=True)
class HostConfig:
    governor: str = option(
        "",
        "CPU frequency governor while the daemon runs; empty: leave it alone",
        pattern=r"[a-z_]*",
        pattern_says='a governor such as "performance" (small letters and _), or nothing',
        max_bytes=15,  # CPUFREQ_NAME_LEN is 16, one of it NUL (linux/cpufreq.h)
    )
    energy_preference: str = option(
        "",
        "energy preference of an Intel or AMD CPU while the daemon runs; empty: leave it alone",
        pattern=r"[a-z_]*",
        pattern_says='a preference such as "balance_performance", or nothing',
        max_bytes=31,  # the longest there is has 19
    )
    affinity: tuple[int, ...] = option(
        (), "CPUs to compute on; empty: all that are allowed", low=0, high=8191
    )  # NR_CPUS is at most 8192 (arch/x86/Kconfig)
    on_battery: str = option(
        "same", "saver: half of the threads while on battery", choices=("same", "saver")
    )


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str = option("info", "least to report", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True)
class Config:
    """One section per table of the file."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    chat: ChatConfig = field(default_factory=ChatConfig)
    socket: SocketConfig = field(default_factory=SocketConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    sessions: SessionsConfig = field(default_factory=SessionsConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    host: HostConfig = field(default_factory=HostConfig)
    log: LogConfig = field(default_factory=LogConfig)


def tables() -> Iterator[tuple[str, type[Any], tuple[Field[Any], ...]]]:
    """Yield (section, its dataclass, its declared settings) in the order of the schema."""
    for table in fields(Config):
        kind = cast(type[Any], table.default_factory)
        yield table.name, kind, fields(kind)
