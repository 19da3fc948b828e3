"""The configuration: one TOML file, overridden by QWEND_<SECTION>_<KEY>, as frozen values.

Rule 1: what may be set, its default and its range stand in `schema` and nowhere else.
Rule 2: this package does not know what a setting does, nor who runs the daemon.
"""

from qwend.config.load import LoadedConfig, load_config
from qwend.config.render import render
from qwend.config.schema import (
    CacheConfig,
    ChatConfig,
    Config,
    EngineConfig,
    HostConfig,
    LimitsConfig,
    LogConfig,
    ModelConfig,
    SamplingConfig,
    SchedulerConfig,
    SessionsConfig,
    SocketConfig,
)

__all__ = [
    "CacheConfig",
    "ChatConfig",
    "Config",
    "EngineConfig",
    "HostConfig",
    "LimitsConfig",
    "LoadedConfig",
    "LogConfig",
    "ModelConfig",
    "SamplingConfig",
    "SchedulerConfig",
    "SessionsConfig",
    "SocketConfig",
    "load_config",
    "render",
]
