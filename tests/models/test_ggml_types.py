"""Which quantizations a CPU has rearranged, by the flags that the kernel names."""

from __future__ import annotations

import pytest

from qwend.models.ggml_types import TENSOR_TYPES, repacked_types


@pytest.mark.parametrize(
    ("flags", "repacked", "plain"),
    [
        ({"fpu", "avx2"}, {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}, {"Q8_0", "Q6_K", "Q2_K", "F16"}),
        ({"avx2", "avx512f"}, {"Q4_0", "Q2_K"}, {"Q8_0"}),
        ({"asimd", "asimddp"}, {"Q4_0", "Q8_0", "Q6_K"}, {"Q4_1", "F16", "Q2_K"}),
        # A Raspberry Pi 4 has no dot products.
        ({"fp", "asimd", "crc32"}, set(), {"Q4_0", "Q8_0"}),
        (set(), set(), {"Q4_0"}),
    ],
)
def test_the_kernels_of_the_cpu_decide(
    flags: set[str], repacked: set[str], plain: set[str]
) -> None:
    found = repacked_types(frozenset(flags))
    assert repacked <= found
    assert not plain & found


def test_only_types_that_there_are_can_be_repacked() -> None:
    every = repacked_types(frozenset({"avx2", "avx512f", "asimddp", "v", "vxe"}))
    assert every <= {kind.name for kind in TENSOR_TYPES.values()}
