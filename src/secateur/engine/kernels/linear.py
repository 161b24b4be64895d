"""Matrix products with the outputs in lanes (ENGINE.md 3.5 K9).

    dense   y[m][n .. n+J L) = activation(bias + sum_k x[m][k] W[k][n .. n+J L))       L lanes, J vectors per slab
    sparse  y[m][n .. n+L)   = activation(bias + sum_i value[i][lane] x[m][index[i][lane / B]])

Several rows of x are computed together, so that the weights are read once for all of them. The sparse format keeps for
each slab of L outputs the nonzero blocks of B neighbouring outputs in their lanes, filled up with zeros to the longest
block row of the slab (ELLPACK in slices); B = 1 is unstructured. Inputs and weights are floats, pairs of bf16 numbers,
or quads of 8-bit integers, whose sums are requantized.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import F32, I16, I32, KernelBody, KernelModule, Value, Var
from secateur.engine.emit.integers import dot
from secateur.engine.emit.pairs import pair_dot
from secateur.engine.kernels.requantize import INTEGERS, Requantize, Results
from secateur.graph.ir import Activation

# Floats between a prefetch of weights and their use.
AHEAD = 1024
# Inputs per turn of the loop: one would spend a tenth of the instructions on the loop itself.
UNROLLED = 2

FIELDS = (
    *("x", "y", "residual", "bias", "slope", "weights", "indices", "starts", "inputs", "outputs"),
    *("tiles", "large", "part", "parts"),
)
# Of kernels that requantize: a scale for each output of the slabs, and the constants of requantize.
MORE_FIELDS = ("scales", "numbers", *INTEGERS)


@dataclass(frozen=True)
class LinearKernel:
    """y (rows, outputs) = activation(x (rows, inputs) W^T + bias + residual); a unit is a slab and a part of the rows.

    slab        J, vectors of outputs per slab; 1 when sparse
    rows        rows of each tile size that occurs, largest first; `large` tiles have the first size
    block       B, outputs that share an index; 0 when dense
    prefetch    ask for weights ahead of their use: few rows wait for them more than they compute
    requantize  quads are multiplied, and this happens to their sums; None for floats. Integers are written as bytes
    pairs       inputs and weights are pairs of bf16 numbers; everything else is float32
    """

    slab: int
    rows: tuple[int, ...]
    block: int
    activation: Activation | None = None
    residual: bool = False
    prefetch: bool = False
    requantize: Requantize | None = None
    pairs: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Argument slots."""
        return (*FIELDS, *MORE_FIELDS) if self.requantize else FIELDS

    @property
    def type(self) -> Any:
        """Of a sum."""
        return I32 if self.requantize else F32

    @property
    def element(self) -> Any:
        """The type of an input, and of a weight."""
        return I32 if self.requantize or self.pairs else F32

    @property
    def name(self) -> str:
        """For example f32_linear_dense_4x1_relu."""
        form = f"sparse{self.block}" if self.block else "dense"
        kind = f"_{symbol(self.activation)}" if self.activation else ""
        sizes = "x".join(map(str, (self.slab, *self.rows)))
        element, ends = ("i8", self.requantize.symbol) if self.requantize else ("bf16" if self.pairs else "f32", "")
        return (
            f"{element}_linear_{form}_{sizes}{kind}"
            + ("_residual" if self.residual else "")
            + ("_prefetch" if self.prefetch else "")
            + ends
        )

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as f:
            b, parts, part, large = f.b, f.integer("parts"), f.integer("part"), f.integer("large")
            with f.loop(f.begin, f.end) as unit:
                slab, begin = b.sdiv(unit, parts), b.mul(b.srem(unit, parts), part)
                end = f.smaller(f.integer("tiles"), b.add(begin, part))
                with f.loop(begin, f.smaller(end, large)) as tile:
                    self._tile(f, slab, b.mul(tile, f.i64(self.rows[0])), self.rows[0])
                for size in self.rows[1:]:
                    before = b.mul(large, f.i64(self.rows[0] - size))
                    with f.loop(f.larger(begin, large), end) as tile:
                        self._tile(f, slab, b.add(b.mul(tile, f.i64(size)), before), size)

    def _tile(self, f: KernelBody, slab: Value, row: Value, rows: int) -> None:
        inputs, outputs = f.integer("inputs"), f.integer("outputs")
        first = f.b.mul(slab, f.i64(self.slab * f.lanes))
        places = [f.b.add(first, f.i64(j * f.lanes)) for j in range(self.slab)]
        bias = [f.load(f.pointer("bias"), place, type=self.type) for place in places]
        acc = [[f.var(bias[j].type, bias[j]) for j in range(self.slab)] for _ in range(rows)]
        numbers = [f.b.add(row, f.i64(r)) for r in range(rows)]
        sources = [f.element(f.pointer("x"), f.b.mul(number, inputs)) for number in numbers]
        if not self.block:
            self._prefetch_outputs(f, numbers, first)
        (self._sparse_sums if self.block else self._dense_sums)(f, slab, sources, inputs, acc)
        for number, sums in zip(numbers, acc, strict=True):
            target = f.b.add(f.b.mul(number, outputs), first)
            for j, value in enumerate(sums):
                output = f.b.add(first, f.i64(j * f.lanes))
                at, mask = f.b.add(target, f.i64(j * f.lanes)), f.first_lanes(f.b.sub(outputs, output))
                self._store(f, value.get(), output, at, mask)

    def _prefetch_outputs(self, f: KernelBody, rows: list[Value], first: Value) -> None:
        """Ask for the lines that the tile will write, for writing: 2 to 9 % for 197 rows of 576 to 1536 outputs."""
        for row in rows:
            at = f.b.add(f.b.mul(row, f.integer("outputs")), first)
            if self.requantize and self.requantize.quads:
                f.prefetch(f.at(f.pointer("y"), at), write=True)
                continue
            for j in range(self.slab):
                f.prefetch(f.element(f.element(f.pointer("y"), at), j * f.lanes), write=True)

    def _dense_sums(
        self, f: KernelBody, slab: Value, sources: list[Value], inputs: Value, acc: list[list[Var]]
    ) -> None:
        stride = self.slab * f.lanes
        weights = f.element(f.pointer("weights"), f.b.mul(slab, f.b.mul(inputs, f.i64(stride))))
        even = f.b.and_(inputs, f.i64(-UNROLLED))
        with f.loop(0, even, UNROLLED) as k:
            for i in range(UNROLLED):
                self._input(f, weights, sources, f.b.add(k, f.i64(i)), acc)
        with f.loop(even, inputs) as k:
            self._input(f, weights, sources, k, acc)

    def _input(self, f: KernelBody, weights: Value, sources: list[Value], k: Value, acc: list[list[Var]]) -> None:
        """Input k of all rows times its weights."""
        at = f.b.mul(k, f.i64(self.slab * f.lanes))
        if self.prefetch:
            for j in range(self.slab):
                f.prefetch(f.element(weights, f.b.add(at, f.i64(j * f.lanes + AHEAD))))
        vectors = [self._load(f, weights, f.b.add(at, f.i64(j * f.lanes)), 4 * f.lanes) for j in range(self.slab)]
        for source, sums in zip(sources, acc, strict=True):
            value = f.splat(f.load_scalar(source, k, self.element))
            for total, vector in zip(sums, vectors, strict=True):
                total.set(self._add(f, value, vector, total.get()))

    def _sparse_sums(
        self, f: KernelBody, slab: Value, sources: list[Value], inputs: Value, acc: list[list[Var]]
    ) -> None:
        starts, weights, indices = f.pointer("starts"), f.pointer("weights"), f.pointer("indices")
        count = f.lanes // self.block
        with f.loop(f.load_i64(starts, slab), f.load_i64(starts, f.b.add(slab, f.i64(1)))) as entry:
            values = self._load(f, weights, f.b.mul(entry, f.i64(f.lanes)), 4 * f.lanes)
            at = f.b.mul(entry, f.i64(count))
            places = [f.load_i64(indices, f.b.add(at, f.i64(i)), I16) for i in range(count)]
            for source, (total,) in zip(sources, acc, strict=True):
                total.set(self._add(f, self._expanded(f, source, places), values, total.get()))

    def _load(self, f: KernelBody, array: Value, index: Value, align: int) -> Value:
        """A vector of weights."""
        return f.load(array, index, align, self.element)

    def _add(self, f: KernelBody, x: Value, w: Value, total: Value) -> Value:
        """total + x w, for floats, pairs or quads."""
        if self.pairs:
            return pair_dot(f, total, x, w)
        return dot(f, total, x, w) if self.requantize else f.fma(w, x, total)

    def _expanded(self, f: KernelBody, x: Value, places: list[Value]) -> Value:
        """x at each place, in all lanes of its block.

        Element by element: a gather takes as long as 26 cycles where its microcode guards against data sampling.
        """
        if len(places) == 1:
            return f.splat(f.load_scalar(x, places[0], self.element))
        few = ir.VectorType(self.element, len(places))
        found = ir.Constant(few, ir.Undefined)
        for lane, place in enumerate(places):
            found = f.b.insert_element(found, f.load_scalar(x, place, self.element), ir.Constant(I32, lane))
        if self.block == 1:
            return found
        return f.shuffle(found, ir.Constant(few, ir.Undefined), [lane // self.block for lane in range(f.lanes)])

    def _store(self, f: KernelBody, value: Value, output: Value, at: Value, mask: Value) -> None:
        slope = None
        if self.activation and self.activation.kind == "prelu":
            slope = f.load(f.pointer("slope"), output)
        if self.requantize:
            results = Results(f, self.requantize, self.activation)
            added = results.added_bytes(mask, f.at(f.pointer("residual"), at)) if self.residual else None
            value = results.row(value, f.load(f.pointer("scales"), output), added, slope)
            if self.requantize.quads:
                results.store_bytes(mask, value, f.at(f.pointer("y"), at))
                return
        else:
            if self.residual:
                value = f.b.fadd(value, f.load_masked(mask, f.pointer("residual"), at))
            value = activate(f, value, self.activation, slope)
        f.store_masked(mask, value, f.pointer("y"), at)
