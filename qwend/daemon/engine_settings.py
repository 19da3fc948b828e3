"""From configuration, model and machine to the settings of an engine process. Owns nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwend.config import Config
from qwend.daemon.memory_plan import MemoryPlan
from qwend.daemon.model import HeldModel
from qwend.daemon.tuning import Tuning
from qwend.engine.settings import EngineStart


def engine_settings(
    config: Config,
    model: HeldModel | None,
    tuning: Tuning,
    script: Mapping[str, Any],
    kept: Path,
    in_company: bool = False,
) -> EngineStart:
    """script: settings of the scripted backend, used when that is configured.

    kept: the directory for what the engine keeps over restarts.
    in_company: another engine serves meanwhile.
    """
    engine = config.engine
    memory = model.memory if model is not None else MemoryPlan()
    return EngineStart(
        backend=engine.backend,
        model=str(model.file.path) if model is not None else "",
        cells=config.model.context,
        ubatch=engine.ubatch,
        max_sequences=engine.max_sequences,
        threads=tuning.plan.threads,
        cpus=tuning.plan.cpus,
        gpu_layers=config.model.gpu_layers,
        flash_attention=engine.flash_attention,
        kv_type=engine.kv_type,
        itl_budget_s=config.scheduler.itl_budget_ms / 1e3,
        prefix_bytes=config.cache.prefix_mb << 20,
        speculation=engine.speculation,
        repack=memory.is_repacked,
        mapped=memory.is_mapped,
        lock=memory.lock,
        fingerprint=model.fingerprint if model is not None else "",
        kept_dir=str(kept) if model is not None else "",
        disk_bytes=config.cache.disk_mb << 20,
        in_company=in_company,
        script=dict(script),
    )
