"""The processors that kernels are written for.

Feature detection decides which templates are used; the processor's name only affects instruction scheduling
(ENGINE.md 4.1.4: hypervisors mask features that a name implies, so both are always given to LLVM).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A processor as code generation sees it.

    isa        avx512, avx2 or neon
    triple     LLVM's name of the platform
    cpu        LLVM's name of the processor
    features   LLVM's feature string, "+avx512f,-sse4a,..."
    lanes      float32 values in a vector register
    registers  vector registers
    l1, l2     data cache of one core in bytes
    """

    isa: str
    triple: str
    cpu: str
    features: str
    lanes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 1 << 20
