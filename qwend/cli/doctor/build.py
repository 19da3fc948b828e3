"""llama.cpp as it was compiled, against what this CPU can do.

Sources: ggml_backend_cpu_get_features in ggml-cpu.cpp of llama.cpp (its names, which the daemon
tells as `build`); for the kernel's names arch/x86/include/asm/cpufeatures.h and
arch/arm64/kernel/cpuinfo.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qwend.cli.amounts import part
from qwend.cli.doctor.finding import Finding, note, ok, warn
from qwend.cli.doctor.scene import Scene
from qwend.host.cpu_flags import cpu_flags

# The kernel's flag, and llama.cpp's name for code that uses it. AMX is left out of builds on
# purpose (scripts/lib/prepare/machine.py).
FEATURES = {
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx_vnni": "AVX_VNNI",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "asimdhp": "FP16_VA",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
}
# Not said of the CPU: each is part of the one before, or of no use beside it.
_TOLD_BY_OTHERS = frozenset({"AVX", "FMA", "F16C"})
COMPILE = "sudo scripts/install, in a clone of qwend: it compiles for this CPU"


def check_features(scene: Scene) -> Iterator[Finding]:
    """Whether what the CPU can do is used."""
    versions = f"llama-cpp-python {scene.llama or 'not installed here'}, Python {scene.python}"
    engine = part(scene.status, "engine")
    build = engine.get("build")
    if not isinstance(build, str):
        scripted = engine.get("backend") == "scripted"
        why = "the daemon runs scripted answers" if scripted else "the daemon does not answer"
        yield note("build", f"{versions}; for which CPU is not known, for {why}")
        return
    compiled = set(re.findall(r"(\w+) = 1", build))
    flags = cpu_flags(scene.root)
    can = [name for flag, name in FEATURES.items() if flag in flags]
    missing = [name for name in can if name not in compiled]
    if missing:
        yield warn(
            "build",
            f"without {', '.join(missing)}, which this CPU has",
            "Reading prompts is several times slower so, and answering somewhat.",
            COMPILE,
        )
        return
    shown = ", ".join(name for name in can if name not in _TOLD_BY_OTHERS)
    if not can:
        yield note("build", f"{versions}; what this CPU can do is not known")
    elif shown:
        yield ok("build", f"for this CPU: {shown}; {versions}")
    else:
        yield note("build", f"for this CPU, which has no AVX2: it is slow; {versions}")


def check_openmp(scene: Scene) -> Iterator[Finding]:
    """0.8 against 22 tokens/s beside one busy program on two cores (docs/architecture.md)."""
    if part(scene.status, "engine").get("openmp") is True:
        yield warn(
            "openmp",
            "llama.cpp was built with OpenMP",
            "Beside another busy program it is then up to 30 times slower.",
            COMPILE.replace("for this CPU", "without"),
        )
