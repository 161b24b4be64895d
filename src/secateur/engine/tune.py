"""The choice for each layer by timing: the machine decides between the best predicted candidates.

1. The MOST best predicted candidates and always the best dense one are timed in turns, each as a program of its own
   with the layer's shape and the layer's weights.
2. The least of the medians decides; a sparse choice must beat the dense one by the margin of choose.py.
3. A result is kept under everything it depends on (tuning_cache.py), so equal layers and later compilations reuse it.
"""

from dataclasses import dataclass, field

import numpy as np

from secateur.engine.choice import Choice
from secateur.engine.choose import ByPrediction, keep_or_dense
from secateur.engine.lowering.context import Context, Decision
from secateur.engine.lowering.conv import emit_conv
from secateur.engine.lowering.conv_shape import ConvShape
from secateur.engine.lowering.epilogue import Epilogue
from secateur.engine.lowering.ports import import_input
from secateur.engine.lowering.requantized import plainly
from secateur.engine.native import NativeProgram
from secateur.engine.program import Buffer, Port, Program
from secateur.engine.target import Target
from secateur.engine.tuning_cache import TuningCache
from secateur.engine.weights.pattern import Pattern
from secateur.graph.ir import Activation, Graph, TensorType

MOST = 6
TURNS = 3
ROUNDS = 7
LAYER = "layer"


@dataclass
class ByTiming:
    """Chooser that times candidates on this machine.

    predicted    ranks the candidates
    threads      of one run
    """

    predicted: ByPrediction
    threads: int
    cache: TuningCache = field(default_factory=TuningCache)

    def __call__(self, layer: str, shape: ConvShape, weight: np.ndarray, pattern: Pattern) -> Decision:
        """The decision for one layer."""
        ranked = self.predicted.ranked(layer, shape, pattern)
        chosen = [choice for choice, _ in ranked[:MOST]]
        dense = next((choice for choice, _ in ranked if choice.format == "dense"), None)
        if dense is not None and dense not in chosen:
            chosen.append(dense)
        key = self.cache.key(self.predicted.target, self.threads, shape, pattern, chosen)
        timed = self.cache.get(key, chosen)
        if timed is None:
            timed = time_choices(self.predicted.target, self.threads, shape, weight, chosen)
            self.cache.put(key, timed)
        timed = sorted(timed, key=lambda pair: pair[1])
        decision = keep_or_dense(timed, pattern)
        return Decision(decision.choice, decision.reason, tuple(timed))


def time_choices(
    target: Target, threads: int, shape: ConvShape, weight: np.ndarray, choices: list[Choice]
) -> list[tuple[Choice, float]]:
    """Seconds of each choice, timed in turns."""
    # Memory that was never written is one page of zeros for all: it would be far too fast to read.
    size = (shape.n, shape.c, shape.h, shape.w)
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, size, np.uint32).view(np.float32)
    feeds = {"x": bits if shape.quads else rng.standard_normal(size).astype(np.float32)}
    programs = [
        NativeProgram(layer_program(target, threads, shape, weight, choice), target, threads) for choice in choices
    ]
    least = [float("inf")] * len(programs)
    for _ in range(TURNS):
        for index, program in enumerate(programs):
            program.run(feeds)
            spent = zip(program.program.steps, program.profile(feeds, ROUNDS), strict=True)
            least[index] = min(least[index], sum(seconds for step, seconds in spent if step.layer == LAYER))
    return list(zip(choices, least, strict=True))


def layer_program(target: Target, threads: int, shape: ConvShape, weight: np.ndarray, choice: Choice) -> Program:
    """A program of one convolution with ReLU; its own steps are those of the layer LAYER.

    shape    quads come in as the bits of floats
    """

    def no_choice(*arguments: object) -> Decision:
        raise AssertionError("the choice is given")

    pads = {(shape.h, shape.w): shape.border if shape.strides == (1, 1) else 0}
    pads[shape.out_h, shape.out_w] = max(shape.out_border, pads.get((shape.out_h, shape.out_w), 0))
    graph = Graph((), (), (), {"x": TensorType((shape.n, shape.c, shape.h, shape.w), "float32")}, {}, 0)
    context = Context(graph, target, threads, pads, no_choice)
    size = (shape.n, shape.c, shape.h, shape.w)
    port = Port("x", size, "float32", Buffer("x", shape.n * shape.c * shape.h * shape.w, external="x"))
    import_input(context, port)
    context.layer = LAYER
    size = (shape.n, shape.o, shape.out_h, shape.out_w)
    y = context.temporary(context.layout(size, "uint8" if shape.quads else "float32"), "y")
    x = context.places["x"]
    bias, epilogue = None, Epilogue(activation=Activation("relu"))
    if shape.quads:
        bias, y, epilogue = np.zeros(shape.o, np.int32), y.words, Epilogue(requantized=plainly(shape.o))
    emit_conv(context, LAYER, shape, weight, bias, x, y, choice, epilogue)
    return Program(tuple(context.steps), (port,), ())
