"""An ONNX file without its large tensors: enough of protobuf's wire format to leave them where they lie.

    file    = fields of a ModelProto; field 7 is the graph
    graph   = fields of a GraphProto; field 5 is an initializer
    tensor  = fields of a TensorProto; field 9 is raw_data
    field   = varint(number << 3 | kind), then a varint (0), 8 bytes (1), a length and as many bytes (2), or 4 bytes (5)

Protobuf would copy every tensor when it parses and again each time one is looked at. Here only the lengths around the
large ones are rewritten; whatever is not as simple as above, or is damaged, goes to protobuf as it is, whose word on
it counts.

Source: protobuf.dev/programming-guides/encoding; field numbers from onnx.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO

import numpy as np
from numpy.typing import NDArray

LARGE = 16 << 10
_MOST_FIELDS = 2_000_000
_WINDOW = 16 << 10
_LONGEST_VARINT = 10
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Place:
    """Where the raw data of an initializer lies in the file."""

    start: int
    size: int


def without_large_tensors(file: FileIO, size: int) -> tuple[bytes, dict[int, Place]]:
    """The file's first `size` bytes with empty raw data in large initializers, and where that lies by their index.

    raises    EOFError  the file is shorter
    """
    try:
        return _cut(_Reader(file, size))
    except ValueError:
        return read_array(file, Place(0, size)).tobytes(), {}


def read_array(file: FileIO, place: Place) -> NDArray[np.uint8]:
    """Bytes of a file, in memory of their own.

    raises    EOFError  the file is shorter
    """
    array = np.empty(place.size, np.uint8)
    view, got = array.data, 0
    file.seek(place.start)
    while got < place.size:
        count = file.readinto(view[got : got + (1 << 30)])
        if not count:
            raise EOFError
        got += count
    return array


@dataclass(frozen=True)
class _Field:
    """A field: its key is at `start`, its content from `begin` to `end`."""

    number: int
    kind: int
    start: int
    begin: int
    end: int


class _Reader:
    """Looks at a file here and there. What breaks the rules of the wire format is a ValueError."""

    def __init__(self, file: FileIO, size: int) -> None:
        self.size = size
        self._file = file
        self._fields = 0
        self._window, self._at = b"", 0

    def bytes(self, begin: int, end: int) -> bytes:
        return read_array(self._file, Place(begin, end - begin)).tobytes()

    def fields(self, begin: int, end: int) -> Iterator[_Field]:
        """The fields of a message."""
        at = begin
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise ValueError("too many fields to look at one by one")
            key, content = self._varint(at)
            if key & 7 == _VARINT:
                _, after = self._varint(content)
            elif key & 7 == _BYTES:
                length, content = self._varint(content)
                after = content + length
            elif key & 7 in (_FIXED32, _FIXED64):
                after = content + (8 if key & 7 == _FIXED64 else 4)
            else:
                raise ValueError("a group or an unknown kind of field")
            if after > end:
                raise ValueError("a field that does not end within its message")
            yield _Field(key >> 3, key & 7, at, content, after)
            at = after

    def _varint(self, at: int) -> tuple[int, int]:
        """The number at a place of the file, and the place behind it."""
        if not self._at <= at <= self._at + len(self._window) - _LONGEST_VARINT:
            self._window, self._at = self.bytes(at, min(at + _WINDOW, self.size)), at
        value = 0
        begin = at - self._at
        for index, byte in enumerate(self._window[begin : begin + _LONGEST_VARINT]):
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value, at + index + 1
        raise ValueError("a number without end")


def _cut(reader: _Reader) -> tuple[bytes, dict[int, Place]]:
    graphs = [field for field in reader.fields(0, reader.size) if field.number == _GRAPH]
    if len(graphs) != 1 or graphs[0].kind != _BYTES:
        raise ValueError("not one graph")  # protobuf joins several
    (graph,) = graphs
    places: dict[int, Place] = {}
    body: list[bytes] = []
    kept = graph.begin
    index = 0
    for field in reader.fields(graph.begin, graph.end):
        if field.number != _INITIALIZER or field.kind != _BYTES:
            continue
        raw = _large_data(reader, field)
        if raw is not None:
            places[index] = Place(raw.begin, raw.end - raw.begin)
            tensor = reader.bytes(field.begin, raw.start) + _key(_RAW_DATA) + b"\0" + reader.bytes(raw.end, field.end)
            body += [reader.bytes(kept, field.start), _key(_INITIALIZER), _number(len(tensor)), tensor]
            kept = field.end
        index += 1
    body.append(reader.bytes(kept, graph.end))
    length = sum(map(len, body))
    head, tail = reader.bytes(0, graph.start), reader.bytes(graph.end, reader.size)
    return b"".join([head, _key(_GRAPH), _number(length), *body, tail]), places


def _large_data(reader: _Reader, tensor: _Field) -> _Field | None:
    """The raw data of a tensor, None where it is small or stands there twice: then the last counts."""
    if tensor.end - tensor.begin < LARGE:
        return None
    found = [field for field in reader.fields(tensor.begin, tensor.end) if field.number == _RAW_DATA]
    single = len(found) == 1 and found[0].kind == _BYTES
    return found[0] if single and found[0].end - found[0].begin >= LARGE else None


def _key(number: int) -> bytes:
    return bytes([number << 3 | _BYTES])


def _number(value: int) -> bytes:
    """The varint of a number."""
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])
