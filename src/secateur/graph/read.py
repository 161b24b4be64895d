"""Reading an ONNX file that nobody vouches for.

1. The file is no larger than allowed, is protobuf, and holds a graph with operators.
2. External data lies in the model's own folder, links followed, and inside its file; all of it together is no
   larger than allowed.
3. Every tensor has as many bytes as its shape says.
4. Every value an operator reads exists before it: a file that was cut off does not pass for a smaller model.
5. Names are text.
6. Local functions do not unfold into more operators than allowed.

What breaks a rule is a ModelError that says which and where.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import helper

from secateur.errors import ModelError
from secateur.graph.stored import Bytes, StoredModel, is_plain, large_data, put_back
from secateur.graph.wire import Place, read_array, without_large_tensors

MAX_BYTES = 8 << 30
MAX_NODES = 1_000_000

_TENSOR_TEXT = tuple(
    field
    for field in onnx.TensorProto.DESCRIPTOR.fields
    if field.name == "external_data"
    or (field.cpp_type in (field.CPPTYPE_STRING, field.CPPTYPE_MESSAGE) and not field.name.endswith("_data"))
)


def read_model(path: Path | str, *, max_bytes: int = MAX_BYTES) -> onnx.ModelProto:
    """The model in an ONNX file, external data loaded, checked by the rules above.

    max_bytes    of the file and its external data together
    raises       ModelError
    """
    return read_stored(path, max_bytes=max_bytes).whole()


def read_stored(path: Path | str, *, max_bytes: int = MAX_BYTES) -> StoredModel:
    """The same with the data of large initializers beside the model, which saves copying them.

    max_bytes    of the file and its external data together
    raises       ModelError
    """
    file = Path(path)
    if not file.is_file():
        raise ModelError(f"{file}: there is no such file.")
    size = file.stat().st_size
    if size > max_bytes:
        raise ModelError(f"{file}: has {size:,} bytes, more than the {max_bytes:,} that are allowed.")
    model = onnx.ModelProto()
    data: dict[int, Bytes] = {}
    try:
        with FileIO(str(file)) as opened:
            light, places = without_large_tensors(opened, size)
            model.ParseFromString(light)
            del light
            for index, place in places.items():
                _keep(model.graph.initializer[index], read_array(opened, place), index, data)
    except (DecodeError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"{file}: is not an ONNX model, or is damaged or cut off.") from error
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}.") from error
    try:
        _check_text(model)
        _load_external_data(model, file.parent, max_bytes - size, data)
        _check(model, data)
    except ModelError as error:
        raise ModelError(f"{file}: {one_line(str(error))}") from error
    return StoredModel(model, data)


def stored(model: onnx.ModelProto) -> StoredModel:
    """A model in memory, checked by the rules above, which it must obey without external data. raises ModelError."""
    _check_text(model)
    data = large_data(model)
    _check(model, data)
    return StoredModel(model, data)


def one_line(text: str) -> str:
    """Text from a file, fit for an error sentence: line breaks and terminal controls become '?'."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_model(model: onnx.ModelProto) -> None:
    """Check a model in memory by rules 1 and 3 to 6. raises ModelError."""
    _check_text(model)
    _check(model, {})


def _check(model: onnx.ModelProto, data: Mapping[int, Bytes]) -> None:
    """Rules 1, 3, 4 and 6."""
    if model.ir_version < 1 or not model.opset_import:
        raise ModelError("this is not an ONNX model: it names no format version or no operator set.")
    if not model.graph.node:
        raise ModelError("the model has no operators.")
    for index, tensor in enumerate(_tensors(model)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"the data of tensor '{tensor.name}' is in another file and was not loaded.")
        _check_size(tensor, data.get(index))
    _check_order(model.graph, frozenset())
    _check_unfolding(model)


def _check_text(message: Message) -> None:
    """Rule 5: protobuf hands out bytes, or fails late, where a name is not UTF-8."""
    try:
        # The values of a tensor can be large and hold no names; listing its fields would copy them.
        tensor = isinstance(message, onnx.TensorProto)
        present = ((field, getattr(message, field.name)) for field in _TENSOR_TEXT) if tensor else message.ListFields()
        for field, value in present:
            if field.cpp_type == field.CPPTYPE_MESSAGE:
                for entry in (value,) if isinstance(value, Message) else value:
                    _check_text(entry)
            elif field.type == field.TYPE_STRING:
                for entry in (value,) if isinstance(value, str | bytes) else value:
                    if not isinstance(entry, str):
                        raise ModelError("a name in the model is not text; the file is damaged.")
    except UnicodeDecodeError as error:
        raise ModelError("a name in the model is not text; the file is damaged.") from error


def _keep(tensor: onnx.TensorProto, array: Bytes, index: int, data: dict[int, Bytes]) -> None:
    """Keep the bytes of an initializer beside the model, or in it where they are no plain numbers."""
    if is_plain(tensor):
        array.flags.writeable = False
        data[index] = array
    else:
        put_back(tensor, array)


def _load_external_data(model: onnx.ModelProto, folder: Path, budget: int, data: dict[int, Bytes]) -> None:
    """Rule 2."""
    root = folder.resolve()
    for index, tensor in enumerate(_tensors(model)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        source = _inside(root, entries.get("location", ""), tensor.name)
        expected = _bytes_of(tensor)
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", expected or 0))
        except ValueError as error:
            raise ModelError(f"tensor '{tensor.name}': offset or length is not a number.") from error
        if offset < 0 or length < 0 or offset + length > source.stat().st_size:
            raise ModelError(
                f"tensor '{tensor.name}': bytes {offset} to {offset + length} lie outside {source.name}, "
                f"which has {source.stat().st_size}; the data file is cut off or belongs to another model."
            )
        budget -= length
        if budget < 0:
            raise ModelError("the external data is larger than allowed.")
        try:
            with FileIO(str(source)) as opened:
                array = read_array(opened, Place(offset, length))
        except EOFError as error:
            raise ModelError(f"tensor '{tensor.name}': its data file '{source.name}' is being changed.") from error
        except OSError as error:
            reason = error.strerror or error
            raise ModelError(f"tensor '{tensor.name}': its data file cannot be read: {reason}.") from error
        if index < len(model.graph.initializer):
            _keep(tensor, array, index, data)
        else:
            put_back(tensor, array)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inside(root: Path, location: str, name: str) -> Path:
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    if not location or "\0" in location or absolute:
        raise ModelError(f"tensor '{name}': '{location}' is no relative path, so its data is not read.")
    source = (root / location).resolve()
    if not source.is_relative_to(root):
        raise ModelError(f"tensor '{name}': '{location}' lies outside the model's folder, so it is not read.")
    if not source.is_file():
        raise ModelError(f"tensor '{name}': its data file '{location}' is missing.")
    return source


def _bytes_of(tensor: onnx.TensorProto) -> int | None:
    """Bytes that the shape asks for; None for text and for types smaller than a byte."""
    if any(side < 0 for side in tensor.dims):
        raise ModelError(f"tensor '{tensor.name}' has a negative side: {list(tensor.dims)}.")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        name = helper.tensor_dtype_to_string(tensor.data_type)
    except (KeyError, ValueError) as error:
        raise ModelError(f"tensor '{tensor.name}' has the unknown type {tensor.data_type}.") from error
    if dtype.hasobject or name.endswith(("INT4", "INT2", "FLOAT4E2M1")):
        return None
    return math.prod(tensor.dims) * dtype.itemsize


def _check_size(tensor: onnx.TensorProto, data: Bytes | None) -> None:
    expected = _bytes_of(tensor)
    if expected is None:
        return
    if data is not None or tensor.HasField("raw_data"):
        size = len(tensor.raw_data) if data is None else len(data)
        if size != expected:
            raise ModelError(
                f"tensor '{tensor.name}' of shape {list(tensor.dims)} needs {expected:,} bytes and has {size:,}."
            )
        return
    held = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
    # Complex numbers are stored as two.
    parts = 2 if helper.tensor_dtype_to_string(tensor.data_type).startswith("TensorProto.COMPLEX") else 1
    if held != parts * math.prod(tensor.dims):
        raise ModelError(f"tensor '{tensor.name}' of shape {list(tensor.dims)} has {held:,} values.")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
                yield attribute.sparse_tensor.indices
            if attribute.HasField("g"):
                yield from _tensors_of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _tensors_of_graph(graph)


def _check_order(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    known = set(outer)
    known.update(value.name for value in graph.input)
    known.update(tensor.name for tensor in graph.initializer)
    known.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                raise ModelError(
                    f"operator {node.op_type} '{node.name}' reads '{name}', which nothing before it "
                    f"produces; the file is damaged or cut off."
                )
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _check_order(inner, frozenset(known))
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise ModelError(f"nothing produces the output '{value.name}'; the file is damaged or cut off.")


def _check_unfolding(model: onnx.ModelProto) -> None:
    """Rule 6: counts what a model unfolds into without unfolding it; a function must not call itself."""
    functions = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in inside:
                raise ModelError(f"the local function {node.op_type} calls itself.")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key], (*inside, key))
            total += sizes.get(key, 1)
            for attribute in node.attribute:
                for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                    total += size(graph.node, inside)
        return total

    if len(functions) > 500:
        # Each function may call the next: deeper nesting than Python's own stack would allow.
        raise ModelError(f"the model has {len(functions)} local functions, more than the 500 that are allowed.")
    if size(model.graph.node, ()) > MAX_NODES:
        raise ModelError(f"the model's functions unfold into more than {MAX_NODES:,} operators.")
