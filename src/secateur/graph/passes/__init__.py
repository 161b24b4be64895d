"""Passes: pure functions from graph to graph that never change what is computed, only how.

After `simplify` a graph is in normal form. The operators of the normal form have the domain "secateur", attributes
that are complete, and float32 values (layout operators: any type):

    Conv               (x, w, bias, residual, slope)  strides, pads, dilations, group, activation; two dimensions
    ConvTranspose      (x, w, bias)  the same and output_padding; no residual
    Linear             (x, w, bias, residual)  activation; w is (outputs, inputs), the last side of x is the inputs
    Activate           (x, slope)  activation
    Add Sub Mul Div Max Min Pow   (a, b)  activation; broadcast as numpy does
    ScaleShift         (x, scale, shift)  one number per channel (axis 1) each

Weights, biases, slopes, scales and shifts are constants; any of bias, residual and slope may be absent. The residual
has the output's shape and is added before the activation; `activation` is an ir.Activation or None; a slope belongs to
the activation "prelu" and is one number per channel. Pads are (top, left, bottom, right).
"""

from collections.abc import Callable

from secateur.graph.ir import Graph
from secateur.graph.passes.fold_batch_norm import fold_batch_norm
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.fuse_residual import fuse_residual
from secateur.graph.passes.normal_activations import normal_activations
from secateur.graph.passes.normal_arithmetic import normal_arithmetic
from secateur.graph.passes.normal_batch_norm import normal_batch_norm
from secateur.graph.passes.normal_convolution import normal_convolution
from secateur.graph.passes.normal_linear import normal_linear
from secateur.graph.passes.remove_dead import remove_dead

__all__ = ["PASSES", "simplify"]

# A round of passes can open the way for another; no known graph needs more than five.
MAX_ROUNDS = 20

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    normal_activations,
    normal_arithmetic,
    normal_batch_norm,
    normal_convolution,
    normal_linear,
    fold_batch_norm,
    fuse_residual,
    fuse_activation,
    remove_dead,
)


def simplify(graph: Graph) -> Graph:
    """The graph in normal form: all passes in order, until a round changes nothing."""
    for _ in range(MAX_ROUNDS):
        before = graph
        for run in PASSES:
            graph = run(graph)
        if graph is before:
            break
    return graph
