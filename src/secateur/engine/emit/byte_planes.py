"""Quads from four planes of bytes, and the order of pixels that they come in.

A plane of bytes has one channel. Vectors of four planes become four vectors of quads, which is what `dot` multiplies:

    quad[v] lane l = (a[p], b[p], c[p], d[p])     p = 16 (l // 4) + 4 v + l % 4

Interleaving works inside blocks of 16 bytes on every processor, so vector v has the v-th four pixels of each block.
Sums stay like that until they are stored.
"""

from collections.abc import Iterator, Sequence

from llvmlite import ir

from secateur.engine.emit.builder import I8, I16, KernelBody, Value
from secateur.engine.emit.integers import octets, transposed, words

# Vectors of quads that come from one vector of each plane.
TOGETHER = 4
_BLOCK = 16


class Interleaving:
    """Quads from four planes, in blocks (see above), written one instruction at each `step`.

    pointers    where the four planes are read
    vectors     of quads: TOGETHER; or 1, neighbouring pixels for which a quarter of a vector is read of each plane
    """

    def __init__(self, f: KernelBody, pointers: Sequence[Value], vectors: int) -> None:
        kind = octets(f) if vectors > 1 else ir.VectorType(I8, f.lanes)
        planes = [f.b.load(pointer, typ=kind, align=1) for pointer in pointers]
        self._f = f
        self._made: list[Value] = []
        self._steps = self._whole(planes) if vectors > 1 else self._narrow(planes)

    def step(self) -> None:
        """Write the next instruction, if one is left."""
        next(self._steps, None)

    def finish(self) -> list[Value]:
        """Write what is left; the quads."""
        for _ in self._steps:
            pass
        return self._made

    def _whole(self, planes: Sequence[Value]) -> Iterator[None]:
        f, (a, b, c, d) = self._f, planes
        wide = ir.VectorType(I16, 2 * f.lanes)
        halves: list[Value] = []
        for half in (0, 1):
            for pair in ((a, b), (c, d)):
                halves.append(f.b.bitcast(_zip(f, *pair, half), wide))
                yield
        for low, high in (halves[:2], halves[2:]):
            for part in (0, 1):
                self._made.append(f.b.bitcast(_zip(f, low, high, part), words(f)))
                yield

    def _narrow(self, planes: Sequence[Value]) -> Iterator[None]:
        f, (a, b, c, d) = self._f, planes
        halves = [f.shuffle(*pair, range(2 * f.lanes)) for pair in ((a, b), (c, d))]
        whole = f.b.bitcast(f.shuffle(halves[0], halves[1], range(4 * f.lanes)), words(f))
        yield
        # Fours of pixels of each plane side by side, then bytes within each block of 16.
        blocks = f.lanes // 4
        fours = f.shuffle(whole, whole, [blocks * (i % 4) + i // 4 for i in range(f.lanes)])
        yield
        self._made.append(f.b.bitcast(transposed(f, fours), words(f)))


def apart(f: KernelBody, quads: Sequence[Value]) -> list[Value]:
    """The inverse for quads in order: TOGETHER vectors of them as a vector of bytes for each channel."""
    # Each block of 16 bytes: four of channel 0, four of channel 1, and so on.
    fours = [f.b.bitcast(transposed(f, quad), words(f)) for quad in quads]
    made: list[Value] = []
    for channel in range(4):
        halves = [_every_fourth(f, fours[i], fours[i + 1], channel) for i in (0, 2)]
        whole = f.shuffle(halves[0], halves[1], range(f.lanes))
        made.append(f.b.bitcast(whole, octets(f)))
    return made


def in_order(f: KernelBody, vectors: Sequence[Value]) -> list[Value]:
    """Vectors of numbers of pixels in blocks as vectors of neighbouring pixels."""
    blocks = f.lanes // 4
    # Four pixels of a block are place 4 block + vector of all.
    return _fours(
        f, vectors, [[((blocks * v + k) % 4, (blocks * v + k) // 4) for k in range(blocks)] for v in range(4)]
    )


def in_blocks(f: KernelBody, vectors: Sequence[Value]) -> list[Value]:
    """The inverse of `in_order`."""
    blocks = f.lanes // 4
    return _fours(f, vectors, [[divmod(4 * k + v, blocks) for k in range(blocks)] for v in range(4)])


def _zip(f: KernelBody, low: Value, high: Value, half: int) -> Value:
    """Elements of two vectors in turns, from the first or second half of each block of 16 bytes."""
    count = low.type.count
    block = count * _BLOCK // (4 * f.lanes)
    lanes = [
        source + start + half * block // 2 + i
        for start in range(0, count, block)
        for i in range(block // 2)
        for source in (0, count)
    ]
    return f.shuffle(low, high, lanes)


def _every_fourth(f: KernelBody, low: Value, high: Value, first: int) -> Value:
    """Elements first, first + 4, ... of two vectors one behind the other."""
    return f.shuffle(low, high, range(first, 2 * f.lanes, 4))


def _fours(f: KernelBody, vectors: Sequence[Value], places: Sequence[Sequence[tuple[int, int]]]) -> list[Value]:
    """Vectors whose k-th four lanes are the four of (vector, four) = places[result][k]."""
    if f.lanes == 4:
        return [vectors[place[0][0]] for place in places]
    if f.lanes == 8:
        return [_joined(f, vectors, place) for place in places]
    # An instruction takes lanes from two vectors: halves first, of which results are made.
    made: list[Value] = []
    for place in places:
        halves = [_joined(f, vectors, place[i : i + 2]) for i in (0, 2)]
        made.append(f.shuffle(halves[0], halves[1], range(16)))
    return made


def _joined(f: KernelBody, vectors: Sequence[Value], place: Sequence[tuple[int, int]]) -> Value:
    """Two fours of two vectors, one behind the other."""
    (a, i), (b, j) = place
    return f.shuffle(vectors[a], vectors[b], [*range(4 * i, 4 * i + 4), *range(f.lanes + 4 * j, f.lanes + 4 * j + 4)])
