"""Whether nodes have the operands and attributes that ONNX gives their operators.

Everything behind the loader may then take a node's inputs and attributes by position and name without asking.
"""

from dataclasses import dataclass
from typing import Any, cast

import onnx

from secateur.errors import ModelError
from secateur.graph.read import one_line


@dataclass(frozen=True)
class Signature:
    """What ONNX says of an operator.

    inputs, outputs    least and largest number
    single             whether the input at an index must be there
    attributes         name -> ONNX's number for its type
    required           attributes that have no default
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    single: tuple[bool, ...]
    attributes: dict[str, int]
    required: tuple[str, ...]


def signature_of(op: str, version: int, domain: str = "") -> Signature | None:
    """The signature of an operator in a version of its set; None for an operator that ONNX does not know."""
    if not onnx.defs.has(op, version, domain):
        return None
    schema = onnx.defs.get_schema(op, version, domain)
    option = onnx.defs.OpSchema.FormalParameterOption.Single
    return Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(parameter.option == option for parameter in schema.inputs),
        {name: int(cast(Any, attribute.type).value) for name, attribute in schema.attributes.items()},
        tuple(name for name, attribute in schema.attributes.items() if attribute.required),
    )


def check_signatures(graph: onnx.GraphProto, opset: int) -> None:
    """Check every node of ONNX's own operators. raises ModelError."""
    signatures: dict[str, Signature | None] = {}
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            if node.op_type not in signatures:
                signatures[node.op_type] = signature_of(node.op_type, opset)
            signature = signatures[node.op_type]
            fault = _fault(node, signature) if signature else None
            if fault:
                raise ModelError(f"operator {one_line(node.op_type)} '{one_line(node.name)}' {fault}.")


def _fault(node: onnx.NodeProto, signature: Signature) -> str | None:
    least, most = signature.inputs
    if not least <= len(node.input) <= most:
        return f"has {len(node.input)} inputs; opset allows {least} to {most}"
    if not signature.outputs[0] <= len(node.output) <= signature.outputs[1]:
        return f"has {len(node.output)} outputs; opset allows {signature.outputs[0]} to {signature.outputs[1]}"
    for index, (name, single) in enumerate(zip(node.input, signature.single, strict=False)):
        if single and not name:
            return f"lacks its input {index}"
    names = [attribute.name for attribute in node.attribute]
    for attribute in node.attribute:
        if attribute.type != signature.attributes.get(attribute.name, attribute.type):
            return f"has the attribute '{one_line(attribute.name)}' with the wrong type"
    missing = [name for name in signature.required if name not in names]
    if missing:
        return f"lacks its attribute '{missing[0]}'"
    return "has an attribute twice" if len(set(names)) < len(names) else None
