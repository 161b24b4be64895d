"""Resize in normal form."""

from collections.abc import Sequence

import numpy as np

from secateur.graph.ir import Graph, Node
from secateur.graph.passes.normal_layout import integers
from secateur.graph.rewrite import Draft, axes_of, fused, is_onnx, rewrite_nodes


def normal_resize(graph: Graph) -> Graph:
    """ONNX's Resize with complete scales and sizes.

    1. The tensor is float32; scales or sizes are constants.
    2. `scales` are what positions are computed with; `sizes` are the output's shape; `by` says which of them the file
       gave, because the other is only a consequence.
    3. With axes, the other axes have the scale 1.
    4. tf_crop_and_resize, and policies that keep the aspect ratio, stay as they are.
    """
    return rewrite_nodes(graph, _rule)


def _rule(draft: Draft, node: Node) -> Sequence[Node] | None:
    if not is_onnx(node, "Resize") or not draft.floats(node.inputs[0], node.outputs[0]):
        return None
    attributes = node.attributes
    coordinate = str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if coordinate == "tf_crop_and_resize" or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    x, out = draft.shape(node.inputs[0]), draft.shape(node.outputs[0])
    axes = axes_of(attributes.get("axes", range(len(x))), len(x))
    by_sizes = bool(node.input(3)) and draft.types[node.input(3)].size > 0
    scales = [new / old for new, old in zip(out, x, strict=True)]
    if by_sizes:
        if integers(draft, node.input(3)) is None:
            return None
    else:
        given = draft.array(node.input(2))
        if given is None or axes is None or given.shape != (len(axes),):
            return None
        scales = [1.0] * len(x)
        for axis, scale in zip(axes, given, strict=True):
            scales[axis] = float(np.float32(scale))
    return [
        fused(
            *("Resize", node, node.inputs[:1]),
            mode=str(attributes.get("mode", "nearest")),
            coordinate=coordinate,
            nearest_mode=str(attributes.get("nearest_mode", "round_prefer_floor")),
            cubic_coeff_a=float(attributes.get("cubic_coeff_a", -0.75)),
            exclude_outside=int(attributes.get("exclude_outside", 0)),
            antialias=int(attributes.get("antialias", 0)),
            scales=tuple(scales),
            sizes=out,
            by="sizes" if by_sizes else "scales",
        )
    ]
