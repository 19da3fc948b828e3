"""From a model, a configuration and a machine of files to how the weights are kept."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from qwend.config import Config, EngineConfig, ModelConfig
from qwend.daemon.memory_plan import MemoryPlan, lock_refused, needed, plan_memory
from qwend.host.memory_policy import Need, Policy
from qwend.host.root import HostRoot
from qwend.models import GgufFacts, check_gguf

MIB = 2**20
SWAPS = "Filename Type Size Used Priority\n"
# Of Qwen2.5-0.5B in Q4_0.
NEED = Need(336 * MIB, 192 * MIB, 300 * MIB)


@pytest.fixture
def machine(tmp_path: Path) -> HostRoot:
    root = HostRoot(tmp_path / "machine")
    put(root, available_mib=4000)
    return root


def put(root: HostRoot, *, available_mib: int, swaps: str = "", filesystem: str = "tmpfs") -> None:
    for name, text in {
        "/proc/meminfo": f"MemAvailable: {available_mib * 1024} kB\n",
        "/proc/cpuinfo": "flags : avx2\n",
        "/proc/swaps": SWAPS + swaps,
        "/proc/self/mountinfo": f"20 1 0:20 / / rw - {filesystem} source rw\n",
    }.items():
        root.at(name).parent.mkdir(parents=True, exist_ok=True)
        root.at(name).write_text(text)


@pytest.fixture
def facts() -> GgufFacts:
    path = Path(str(files("qwend.models") / "guide.gguf"))
    with path.open("rb") as file:
        guide = check_gguf(file, path.stat().st_size)
    return replace(
        guide,
        layers=24,
        head_count_kv=2,
        head_width=64,
        matrix_bytes={"Q4_0": 200 * MIB, "Q8_0": 140 * MIB, "F16": MIB},
    )


def plan(
    config: Config, machine: HostRoot, *, copy: int = 0, makes_copy: bool = True
) -> MemoryPlan:
    return plan_memory(
        config, NEED, machine, Path("/run/qwend/model"), copy_bytes=copy, makes_copy=makes_copy
    )


def configured(**fields: object) -> Config:
    return Config(model=ModelConfig(**fields))  # type: ignore[arg-type]


def test_a_model_needs_its_file_what_is_repacked_and_its_cells(
    facts: GgufFacts, machine: HostRoot
) -> None:
    small = needed(configured(context=64), facts, 350 * MIB, machine)
    large = needed(configured(context=8192), facts, 350 * MIB, machine)
    assert (large.file_bytes, large.repacked_bytes) == (350 * MIB, 200 * MIB)
    # 12,288 bytes a token: 24 layers, keys and values, 2 heads of 64 numbers of 2 bytes.
    assert large.working_bytes - small.working_bytes == (8192 - 64) * 12_288
    quantized = Config(model=ModelConfig(context=8192), engine=EngineConfig(kv_type="q8_0"))
    assert needed(quantized, facts, 350 * MIB, machine).working_bytes < large.working_bytes


def test_a_cpu_without_the_kernels_has_nothing_repacked(
    facts: GgufFacts, machine: HostRoot
) -> None:
    machine.at("/proc/cpuinfo").write_text("Features : fp asimd\n")
    assert needed(Config(), facts, 350 * MIB, machine).repacked_bytes == 0


@pytest.mark.parametrize(
    ("available_mib", "policy"), [(4000, Policy.KEEP), (800, Policy.DROP), (400, Policy.NO_REPACK)]
)
def test_auto_goes_by_the_memory_at_hand(
    machine: HostRoot, available_mib: int, policy: Policy
) -> None:
    put(machine, available_mib=available_mib)
    made = plan(Config(), machine)
    assert made.policy is policy
    assert f"{available_mib:,} MiB at hand" in made.reason
    assert made.copy_in_memory
    assert made.is_repacked == (policy is not Policy.NO_REPACK)
    assert made.is_mapped == (policy is not Policy.DROP)


def test_a_control_group_is_the_memory_at_hand_too(machine: HostRoot) -> None:
    for name, text in {
        "/proc/self/cgroup": "0::/\n",
        "/sys/fs/cgroup/memory.max": str(1000 * MIB),
        "/sys/fs/cgroup/memory.current": str(200 * MIB),
    }.items():
        machine.at(name).parent.mkdir(parents=True, exist_ok=True)
        machine.at(name).write_text(text)
    assert plan(Config(), machine).policy is Policy.DROP


def test_a_copy_on_a_disk_takes_no_memory(machine: HostRoot) -> None:
    put(machine, available_mib=800, filesystem="ext4")
    made = plan(Config(), machine)
    assert (made.policy, made.copy_in_memory) == (Policy.KEEP, False)
    assert plan(configured(memory="keep"), machine).copy_in_memory is False
    # The pages of one that is there are the kernel's to take back: they are not counted twice.
    put(machine, available_mib=600, filesystem="ext4")
    assert plan(Config(), machine, copy=336 * MIB).policy is Policy.NO_REPACK


def test_a_copy_that_is_required_is_not_dropped(machine: HostRoot) -> None:
    put(machine, available_mib=800)
    assert plan(configured(warm_copy="required"), machine).policy is Policy.NO_REPACK


@pytest.mark.parametrize("policy", ["keep", "drop", "no-repack"])
def test_what_is_configured_is_done_whatever_is_at_hand(machine: HostRoot, policy: str) -> None:
    put(machine, available_mib=1)
    made = plan(configured(memory=policy), machine)
    assert (made.policy, made.reason) == (policy, "as configured")


def test_a_machine_that_does_not_say_keeps_both(machine: HostRoot) -> None:
    machine.at("/proc/meminfo").unlink()
    made = plan(Config(), machine)
    assert made.policy is Policy.KEEP
    assert "/proc/meminfo" in made.reason


@pytest.mark.parametrize(
    ("setting", "swaps", "lock", "reason"),
    [
        ("auto", "", False, "there is no swap"),
        ("auto", "/var/swap file 100 0 -2\n", True, "there is swap: /var/swap"),
        ("auto", "/dev/zram0 partition 100 0 100\n", True, "there is swap: /dev/zram0"),
        ("on", "", True, "as configured"),
        ("off", "/var/swap file 100 0 -2\n", False, "as configured"),
    ],
)
def test_weights_are_locked_where_there_is_swap(
    machine: HostRoot, setting: str, swaps: str, lock: bool, reason: str
) -> None:
    put(machine, available_mib=4000, swaps=swaps)
    made = plan(configured(lock=setting), machine)
    assert (made.lock, made.lock_reason) == (lock, reason)


def test_a_refused_lock_is_a_reason_to_mend_only_where_it_was_asked_for() -> None:
    refused = {"memory": {"lock_refused": "300 MiB are to be locked, RLIMIT_MEMLOCK allows 8 MiB"}}
    told = lock_refused("on", refused)
    assert "RLIMIT_MEMLOCK allows 8 MiB" in told
    assert "LimitMEMLOCK=infinity" in told
    assert lock_refused("auto", refused) == ""
    assert lock_refused("on", {"memory": {"lock_refused": ""}}) == ""
    assert lock_refused("on", {}) == ""
