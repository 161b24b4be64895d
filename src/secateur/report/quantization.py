"""Quantization: bits and noise of every layer, what stays float, and what every runtime makes of the file."""

from dataclasses import dataclass

from secateur.errors import ArtifactError
from secateur.measure import BenchmarkResult, Comparison, Timing
from secateur.report.fields import Fields


@dataclass(frozen=True)
class LayerNumbers:
    """One layer.

    bits, activation_bits    of weight and input; None where it stays float
    own, total               signal to noise in decibels: of its own numbers, and of all before it too
    beyond                   share of what it reads that lies outside of the range
    reason                   why it stays float
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int | None
    activation_bits: int | None
    own: float | None
    total: float | None
    beyond: float | None
    reason: str | None


@dataclass(frozen=True)
class Timed:
    """Float and quantized file in one runtime at one batch and thread count; what was not measured has no timing."""

    runtime: str
    batch: int
    threads: int
    float_timing: Timing | None
    quantized: Timing | None

    @property
    def gain(self) -> float | None:
        """Float / quantized, medians."""
        if self.float_timing is None or self.quantized is None:
            return None
        return self.float_timing.median_ms / self.quantized.median_ms


@dataclass(frozen=True)
class Guard:
    """Percent of calibration images that get the float network's class, before and after layers went back to float."""

    bound: float
    before: float
    after: float
    held: bool
    returned: int


@dataclass(frozen=True)
class Quantization:
    """One stage `quantize`.

    data, images       which images calibrated, and how many
    floats             operators without a weight that stay float -> why
    runtimes           what every runtime makes of both files
    files              (name, bytes) of the quantized network, and `float_bytes` of model.onnx
    timed              of both files; the float one is the network that was quantized, zeros and all
    """

    numbers: str
    method: str
    data: str
    images: int
    layers: tuple[LayerNumbers, ...]
    floats: tuple[tuple[str, str], ...]
    runtimes: Comparison | None
    files: tuple[tuple[str, int], ...]
    float_bytes: int
    timed: tuple[Timed, ...]
    guard: Guard | None = None

    @property
    def bits(self) -> str:
        """Bits of the weights: `8`, or `4 to 8`; `16` of halves."""
        found = sorted({layer.bits for layer in self.layers if layer.bits is not None})
        if not found:
            return "8" if self.numbers == "int8" else "16"
        return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def quantization(made: Fields | None, benchmark: BenchmarkResult | None) -> Quantization | None:
    """From the results of the stages `quantize` and `benchmark`. raises ArtifactError"""
    if made is None:
        return None
    images, sizes = made.fields("calibration"), made.fields("bytes").value
    numbers = made.text("numbers")
    files = tuple((str(name), int(size)) for name, size in sizes.items() if name != "model.onnx")
    try:
        runtimes = Comparison.from_dict(made.fields("runtimes").value) if "runtimes" in made else None
    except ArtifactError as error:
        made.fail(f"'runtimes': {error}")
    return Quantization(
        numbers=numbers,
        method=made.text("method"),
        data=images.text("data"),
        images=len(images.value["indices"]) if isinstance(images.value.get("indices"), list) else 0,
        layers=tuple(_layer(row) for row in made.rows("layers")),
        floats=tuple((str(name), str(reason)) for name, reason in made.fields("floats").value.items()),
        runtimes=runtimes,
        files=files,
        float_bytes=int(sizes.get("model.onnx", 0)),
        timed=_timed(benchmark, numbers),
        guard=_guard(made.fields("guard")) if "guard" in made else None,
    )


def _layer(row: Fields) -> LayerNumbers:
    bits, inputs = row.optional_number("bits"), row.optional_number("activation_bits")
    return LayerNumbers(
        row.text("name"),
        row.text("kind"),
        row.shape("shape"),
        None if bits is None else int(bits),
        None if inputs is None else int(inputs),
        row.optional_number("own_noise"),
        row.optional_number("noise"),
        row.optional_number("beyond"),
        row.optional_text("reason"),
    )


def _guard(row: Fields) -> Guard:
    held, returned = bool(row.value.get("held")), row.rows("returned")
    return Guard(row.number("bound"), row.number("before"), row.number("after"), held, len(returned))


def _timed(benchmark: BenchmarkResult | None, numbers: str) -> tuple[Timed, ...]:
    """Rows of the quantized file; beside each the network that it was made from."""
    if benchmark is None:
        return ()
    found: list[Timed] = []
    for row in benchmark.rows:
        if row.subject != numbers:
            continue
        names = ("compressed", "dense")
        others = (benchmark.row(name, row.runtime, row.batch, row.threads) for name in names)
        plain = next((other.timing for other in others if other is not None), None)
        found.append(Timed(row.runtime, row.batch, row.threads, plain, row.timing))
    return tuple(found)
