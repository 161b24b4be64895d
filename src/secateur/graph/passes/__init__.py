"""Passes: pure functions from graph to graph that never change what is computed, only how.

After `simplify` a graph is in normal form. The operators of the normal form have the domain "secateur" and attributes
that are complete. Float32, with activation, an ir.Activation or None:

    Conv               (x, w, bias, residual, slope)  strides, pads, dilations, group, activation; two dimensions
    ConvTranspose      (x, w, bias)  the same and output_padding; no residual
    Linear             (x, w, bias, residual)  activation; w is (outputs, inputs), the last side of x is the inputs
    Activate           (x, slope)  activation
    SqueezeExcite      (x, w1, b1, w2, b2, residual)  hidden, gate, activation, layers; see recognise_squeeze_excite.py
    Add Sub Mul Div Max Min Pow   (a, b)  activation; broadcast as numpy does

Float32 without:

    ScaleShift         (x, scale, shift)  one number per channel (axis 1) each
    Pool               (x)  kind "max" or "average", kernel, strides, pads, dilations, count_include_pad, uncounted:
                       rows and columns at the end of the pads that ceil_mode added (pool_padding.py)
    GlobalPool         (x)  kind; (n, c, h, w) to (n, c, 1, 1)
    ReduceMean         (x)  axes, keepdims
    Softmax LogSoftmax (x)  axis
    LayerNormalization (x, scale, bias)  axis, epsilon; scale and bias have the sides of x from the axis on
    MatMul             (a, b)  what is no Linear
    Resize             (x)  mode, coordinate, nearest_mode, cubic_coeff_a, exclude_outside, antialias, scales, sizes, by

On uint8 and int8 values (what they compute is said in quantized/arithmetic.py, bit for bit):

    Quantize           (x)  scale, zero, dtype; from float32
    Dequantize         (x)  scale, zero; to float32
    QConv              (x, w, bias, residual, slope)  strides, pads, dilations, group, x_scale, x_zero, w_scale, inner,
                       r_scale, r_zero, activation, y_scale, y_zero; w is int8, bias int32, w_scale (outputs,).
                       inner is None or (scale, zero, dtype). Where y_scale is None the result is float32
    QLinear            (x, w, bias, residual)  the same without a window
    QAdd QMul          (a, b)  a_scale, a_zero, b_scale, b_zero, y_scale, y_zero, activation; broadcast as numpy does
    QActivate          (x)  table of 256 results by the byte of x
    QPool              (x)  the attributes of Pool, x_scale, x_zero, y_scale, y_zero
    QGlobalPool        (x)  kind, x_scale, x_zero, y_scale, y_zero
    QConcat            (...)  axis, scales, zeros, y_scale, y_zero

Any type (a Pad of integers with their zero point; of Resize only the nearest):

    Reshape            (x)  shape
    Transpose          (x)  perm
    Concat             (...)  axis
    Split              (x)  axis, sizes
    Slice              (x)  starts, ends, axes, steps
    Pad                (x)  pads (all befores, then all afters), mode, value
    DepthToSpace       (x)  blocksize, mode
    SpaceToDepth       (x)  blocksize
    ChannelShuffle     (x)  groups; channel i of group g goes to i groups + g

Weights, biases, slopes, scales and shifts are constants; any of bias, residual and slope may be absent. The residual
has the output's shape and is added before the activation; a slope belongs to the activation "prelu" and is one number
per channel. Pads of windows are (top, left, bottom, right). Axes are not negative. No tensor of the normal form is
without elements. Channels of maps that are selected in another order are ONNX's Gather along axis 1. What else is not
listed stays an operator of ONNX, and so does what the passes' rules exclude.
"""

from collections.abc import Callable, Sequence

from secateur.graph.ir import Graph
from secateur.graph.passes.common_subexpressions import common_subexpressions
from secateur.graph.passes.drop_identity import drop_identity
from secateur.graph.passes.fold_batch_norm import fold_batch_norm
from secateur.graph.passes.fold_constants import fold_constants, fold_constants_but_weights
from secateur.graph.passes.fold_pad import fold_pad
from secateur.graph.passes.fold_scale import fold_scale
from secateur.graph.passes.fuse_activation import fuse_activation
from secateur.graph.passes.fuse_residual import fuse_residual
from secateur.graph.passes.join_selections import join_selections
from secateur.graph.passes.merge_layouts import merge_layouts
from secateur.graph.passes.merge_selections import merge_selections
from secateur.graph.passes.normal_activations import normal_activations
from secateur.graph.passes.normal_arithmetic import normal_arithmetic
from secateur.graph.passes.normal_batch_norm import normal_batch_norm
from secateur.graph.passes.normal_convolution import normal_convolution
from secateur.graph.passes.normal_layout import normal_layout
from secateur.graph.passes.normal_linear import normal_linear
from secateur.graph.passes.normal_pooling import normal_pooling
from secateur.graph.passes.normal_quantization import normal_quantization
from secateur.graph.passes.normal_quantized_operators import normal_quantized_operators
from secateur.graph.passes.normal_reductions import normal_reductions
from secateur.graph.passes.normal_resize import normal_resize
from secateur.graph.passes.quantized_activation import quantized_activation
from secateur.graph.passes.quantized_arithmetic import quantized_arithmetic
from secateur.graph.passes.quantized_channels import quantized_channels
from secateur.graph.passes.quantized_concat import quantized_concat
from secateur.graph.passes.quantized_convolution import quantized_convolution
from secateur.graph.passes.quantized_epilogue import quantized_epilogue
from secateur.graph.passes.quantized_linear import quantized_linear
from secateur.graph.passes.quantized_moves import quantized_moves
from secateur.graph.passes.quantized_pooling import quantized_pooling
from secateur.graph.passes.quantized_tables import quantized_tables
from secateur.graph.passes.recognise_activations import recognise_activations
from secateur.graph.passes.recognise_normalization import recognise_normalization
from secateur.graph.passes.recognise_shuffle import recognise_shuffle
from secateur.graph.passes.recognise_squeeze_excite import recognise_squeeze_excite
from secateur.graph.passes.release_weights import release_weights
from secateur.graph.passes.remove_dead import remove_dead
from secateur.graph.passes.remove_dead_channels import remove_dead_channels
from secateur.graph.passes.remove_dead_hidden import remove_dead_hidden
from secateur.graph.quantized.released import is_quantized

__all__ = ["LAST_PASSES", "PASSES", "QUANTIZED_PASSES", "simplify"]

# A round of passes can open the way for another; the deepest graph seen needed five.
MAX_ROUNDS = 20

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    fold_constants,
    normal_activations,
    normal_arithmetic,
    normal_batch_norm,
    normal_convolution,
    normal_layout,
    normal_linear,
    normal_pooling,
    normal_reductions,
    normal_resize,
    drop_identity,
    common_subexpressions,
    # Spelled-out operators are found before their parts are folded into neighbours.
    recognise_activations,
    recognise_normalization,
    recognise_shuffle,
    merge_layouts,
    fold_batch_norm,
    fold_scale,
    fold_pad,
    fuse_residual,
    fuse_activation,
    recognise_squeeze_excite,
    remove_dead_channels,
    remove_dead_hidden,
    remove_dead,
)

# Operators between Dequantize and Quantize are found when they have their float names; a product whose weight is still
# dequantized has to wait for its name.
QUANTIZED_PASSES: tuple[Callable[[Graph], Graph], ...] = (
    normal_quantization,
    normal_quantized_operators,
    *(run for run in PASSES if run not in (fold_constants, normal_linear)),
    quantized_convolution,
    quantized_linear,
    quantized_epilogue,
    quantized_arithmetic,
    quantized_pooling,
    quantized_concat,
    quantized_activation,
    quantized_moves,
    quantized_tables,
)

# Channels are moved as little as possible when all else is done: other passes need not know what a selection is.
LAST_PASSES: tuple[Callable[[Graph], Graph], ...] = (join_selections, merge_selections, drop_identity, remove_dead)


def simplify(graph: Graph) -> Graph:
    """The graph in normal form: all passes in order, until a round changes nothing; then the last ones likewise.

    Weights of a quantized graph stay integers while operators on integers are looked for; then what dequantizes the
    remaining ones is folded.
    """
    if is_quantized(graph):
        graph = _repeated(graph, (fold_constants_but_weights, *QUANTIZED_PASSES))
        graph = quantized_channels(release_weights(graph))
    return _repeated(_repeated(graph, PASSES), LAST_PASSES)


def _repeated(graph: Graph, passes: Sequence[Callable[[Graph], Graph]]) -> Graph:
    for _ in range(MAX_ROUNDS):
        before = graph
        for run in passes:
            graph = run(graph)
        if graph is before:
            break
    return graph
