"""What is known about one layer of a compiled network; the rows of `explain`."""

from dataclasses import dataclass, field, replace

from secateur.engine.choice import Choice


@dataclass(frozen=True)
class LayerFacts:
    """One convolution or matrix product.

    layer         name of the graph node
    operator      conv, depthwise, grouped conv, conv transpose, linear
    shape         of the weights
    output        shape of the result
    density       nonzeros / weights
    pattern       what the zeros form, in words
    kernel        name of the kernel
    choice        how it is computed; None where there is nothing to choose
    macs          multiply-adds with all weights
    work          multiply-adds with nonzero weights
    weight_bytes  memory of the weight streams
    reason        why the layer runs dense although it has zeros, or "" when it does not
    candidates    other choices and their measured seconds, where the layer was tuned
    bits          of what is multiplied: 32, 16 for bf16, or 8 for integers
    """

    layer: str
    operator: str
    shape: tuple[int, ...]
    output: tuple[int, ...]
    density: float
    pattern: str
    kernel: str
    choice: Choice | None
    macs: int
    work: int
    weight_bytes: int
    reason: str = ""
    candidates: tuple[tuple[Choice, float], ...] = field(default=(), repr=False)
    bits: int = 32

    def repeated(self, times: int) -> "LayerFacts":
        """The same layer run on so many parts of a batch."""
        output = (self.output[0] * times, *self.output[1:])
        return replace(self, output=output, macs=self.macs * times, work=self.work * times)
