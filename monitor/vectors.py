"""A CPU on which numpy's fastest sort is its slowest, and how to do without it.

numpy sorts with AVX-512 wherever a CPU has it. On AMD's Zen 4 the instruction at the heart of that sort, a compressing store,
runs in microcode, and the AVX2 sort is four to six times as fast (measured: 16 000 float32 in 58 µs where AVX-512
takes 250). Counting rows is sorting them, so this is most of what the fold costs.
"""

import os
import sys
from collections.abc import MutableMapping
from itertools import takewhile
from pathlib import Path
from typing import Final

SETTING: Final = "NPY_DISABLE_CPU_FEATURES"
_DISPATCH: Final = "X86_V4"
"""numpy's name of the instruction sets that its AVX-512 sort is built for."""
_ZEN_4: Final = {"vendor_id": "AuthenticAMD", "cpu family": "25"}
"""Family 25 is Zen 3 and Zen 4; of these only Zen 4 has AVX-512."""


def prefer_fast_sort(
    environ: MutableMapping[str, str] = os.environ, cpuinfo: Path = Path("/proc/cpuinfo")
) -> None:
    """Make a numpy that is imported later sort with AVX2 on Zen 4; whoever set the variable knows better."""
    if "numpy" in sys.modules or SETTING in environ:
        return
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            # One paragraph for each processor, all alike.
            first = dict(map(_fact, takewhile(str.strip, lines)))
    except OSError:
        return
    if _ZEN_4.items() <= first.items() and "avx512f" in first.get("flags", "").split():
        environ[SETTING] = _DISPATCH


def _fact(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
