"""Matrix times vector: outputs in lanes, because there are no pixels to fill them (ENGINE.md 3.5 K9).

    dense   y[n .. n+J L) = activation(bias + sum_k x[k] W[k][n .. n+J L))         L lanes, J vectors per slab
    sparse  y[n .. n+L)   = activation(bias + sum_i value[i][lane] x[index[i][lane]])

The sparse format keeps for each slab of L outputs the nonzeros of each output in one lane, filled up with zeros to the
longest output of the slab (ELLPACK in slices).
"""

from dataclasses import dataclass, field
from functools import cached_property

from llvmlite import ir

from secateur.engine.emit.activations import activate, symbol
from secateur.engine.emit.builder import F32, I16, I32, I64, PTR, KernelBody, KernelModule, Value, Var
from secateur.graph.ir import Activation

FIELDS = ("x", "y", "residual", "bias", "weights", "indices", "starts", "inputs", "outputs", "rows")


@dataclass(frozen=True)
class LinearKernel:
    """y (rows, outputs) = activation(x (rows, inputs) W^T + bias + residual); a unit is a slab of outputs.

    slab      J, vectors of outputs per slab; 1 when sparse
    sparse    weights are values and u16 indices; `starts` holds the first entry of each slab
    """

    slab: int
    sparse: bool
    activation: Activation | None = None
    residual: bool = False
    fields: tuple[str, ...] = field(default=FIELDS, init=False, repr=False)

    @cached_property
    def name(self) -> str:
        """For example f32_linear_dense_4_relu."""
        form = "sparse" if self.sparse else "dense"
        kind = f"_{symbol(self.activation)}" if self.activation else ""
        return f"f32_linear_{form}_{self.slab}{kind}" + ("_residual" if self.residual else "")

    def emit(self, module: KernelModule) -> None:
        """Write the kernel."""
        with module.kernel(self.name, self.fields) as f:
            x, y, bias = f.pointer("x"), f.pointer("y"), f.pointer("bias")
            inputs, outputs = f.integer("inputs"), f.integer("outputs")
            with f.loop(f.begin, f.end) as slab, f.loop(0, f.integer("rows")) as row:
                first = f.b.mul(slab, f.i64(self.slab * f.lanes))
                acc = [f.var(f.vector, f.load(bias, f.b.add(first, f.i64(j * f.lanes)))) for j in range(self.slab)]
                source = f.element(x, f.b.mul(row, inputs))
                (self._sparse_sums if self.sparse else self._dense_sums)(f, slab, source, inputs, acc)
                target = f.b.add(f.b.mul(row, outputs), first)
                for j, value in enumerate(acc):
                    left = f.b.sub(outputs, f.b.add(first, f.i64(j * f.lanes)))
                    self._store(f, value.get(), y, f.b.add(target, f.i64(j * f.lanes)), f.first_lanes(left))

    def _dense_sums(self, f: KernelBody, slab: Value, x: Value, inputs: Value, acc: list[Var]) -> None:
        stride = self.slab * f.lanes
        weights = f.element(f.pointer("weights"), f.b.mul(slab, f.b.mul(inputs, f.i64(stride))))
        with f.loop(0, inputs) as k:
            value = f.splat(f.load_scalar(x, k))
            at = f.b.mul(k, f.i64(stride))
            for j, total in enumerate(acc):
                total.set(
                    f.fma(value, f.load(weights, f.b.add(at, f.i64(j * f.lanes)), align=4 * f.lanes), total.get())
                )

    def _sparse_sums(self, f: KernelBody, slab: Value, x: Value, inputs: Value, acc: list[Var]) -> None:
        starts, weights, indices = f.pointer("starts"), f.pointer("weights"), f.pointer("indices")
        lanes = f.lanes
        index_type = ir.VectorType(I16, lanes)
        wide, pointers = ir.VectorType(I64, lanes), ir.VectorType(PTR, lanes)
        gather = f.module.intrinsic(
            f"llvm.masked.gather.v{lanes}f32.v{lanes}p0", f.vector, [pointers, I32, f.module.mask, f.vector]
        )
        everywhere = ir.Constant(f.module.mask, [1] * lanes)
        with f.loop(f.load_i64(starts, slab), f.load_i64(starts, f.b.add(slab, f.i64(1)))) as entry:
            at = f.b.mul(entry, f.i64(lanes))
            index = f.b.load(f.element(indices, at, I16), typ=index_type, align=2)
            places = f.b.gep(x, [f.b.zext(index, wide)], source_etype=F32)
            places.type = pointers  # llvmlite gives the type of the scalar form
            values = f.b.call(gather, [places, ir.Constant(I32, 4), everywhere, f.splat(0.0)])
            acc[0].set(f.fma(f.load(weights, at, align=4 * lanes), values, acc[0].get()))

    def _store(self, f: KernelBody, value: Value, y: Value, at: Value, mask: Value) -> None:
        if self.residual:
            value = f.b.fadd(value, f.load_masked(mask, f.pointer("residual"), at))
        f.store_masked(mask, activate(f, value, self.activation), y, at)
