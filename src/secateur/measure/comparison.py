"""What every runtime makes of a network and of its quantized form, on the same images.

    same class    share of the images whose largest logit is that of the float network in ONNX Runtime
    difference    mean over the images of the largest difference of a logit, in percent of the largest float logit

The accuracy that counts is the one that a runtime gives: the same file may be computed in integers by one and in floats
by another. Beside them stands the simulated one, which ONNX Runtime gives with all graph optimizations off: rounding to
integers and back around operators that compute in float32, as training frameworks show it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from secateur.errors import ArtifactError, MeasureError
from secateur.graph.table import text_table
from secateur.measure.accuracy import RuntimeAccuracy, label_rank, run_all
from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.machine import usable_cpus
from secateur.measure.onnxruntime_runtime import OnnxRuntime, open_session
from secateur.measure.result import RowFailure
from secateur.measure.runtime import Images, Runner, Subject, can_read, installed_runtimes, runtimes

SIMULATED = "simulated"
BATCH = 16
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, OSError, ImportError, MemoryError, MeasureError)
_HEADERS = ("network", "runtime", "top-1", "top-5", "same class", "difference", "images", "note")


@dataclass(frozen=True)
class Answers:
    """Of one network in one runtime.

    accuracy      None without labels
    same_class    percent;  difference    percent;  see above
    failure       why there are no figures
    """

    subject: str
    runtime: str
    images: int
    accuracy: RuntimeAccuracy | None = None
    same_class: float | None = None
    difference: float | None = None
    failure: RowFailure | None = None


@dataclass(frozen=True)
class Comparison:
    """A row for every network in every runtime; printed, a table."""

    rows: tuple[Answers, ...]

    def row(self, subject: str, runtime: str) -> Answers | None:
        return next((row for row in self.rows if (row.subject, row.runtime) == (subject, runtime)), None)

    def to_dict(self) -> dict[str, Any]:
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            if row["failure"]:
                row["failure"]["category"] = row["failure"]["category"].value
        return {"rows": rows}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Comparison":
        """What `to_dict` described. raises ArtifactError when it is none."""
        try:
            rows = []
            for row in value["rows"]:
                accuracy = None if row["accuracy"] is None else RuntimeAccuracy(**row["accuracy"])
                failure = row["failure"] and RowFailure(Failure(row["failure"]["category"]), row["failure"]["message"])
                rows.append(Answers(**{**row, "accuracy": accuracy, "failure": failure or None}))
            return cls(tuple(rows))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"this is no comparison of runtimes: {type(error).__name__} {error}.") from error

    def __str__(self) -> str:
        lines = [text_table(_HEADERS, [_cells(row) for row in self.rows], left=2)]
        lines += dict.fromkeys(f"{row.runtime}: {row.failure.message}" for row in self.rows if row.failure)
        return "\n".join(lines)


def compare_runtimes(
    network: Subject,
    quantized: Subject,
    batches: Iterable[tuple[Images, np.ndarray | None]],
    *,
    runtime_names: Sequence[str] = (),
    threads: int | None = None,
    batch: int = BATCH,
    on_batch: Callable[[], None] = lambda: None,
) -> Comparison:
    """Run both networks in every runtime, all of them on each batch as it comes.

    batches          pairs (images, labels); labels are None where there are none
    runtime_names    by default every one that is installed here and reads the files
    batch            images that runtimes get at once; of files with a fixed batch that one
    raises           MeasureError  no images, or ONNX Runtime cannot run the float network
    """
    count = threads or usable_cpus()
    names = tuple(runtime_names) or installed_runtimes()
    engines = [(name, runtimes[name]()) for name in names]
    asked = [
        (subject, name, engine.load)
        for subject in (network, quantized)
        for name, engine in engines
        if can_read(engine, subject)
    ]
    reference = OnnxRuntime().load(network, count, batch)
    runs = [_Run(subject, name, load, count, batch) for subject, name, load in asked]
    runs.append(_Run(quantized, SIMULATED, load_simulated, count, batch))
    images = 0
    for pixels, labels in batches:
        wanted = run_all(reference, pixels, batch)
        for run in runs:
            run.add(pixels, labels, wanted)
        images += len(pixels)
        on_batch()
    if not images:
        raise MeasureError("runtimes cannot be compared without images.")
    return Comparison(tuple(run.answers(images) for run in runs))


def load_simulated(subject: Subject, threads: int, batch: int) -> Runner:
    """A quantized file as training frameworks simulate it. raises RunError."""
    path = subject.onnx_file(SIMULATED)
    session = open_session(str(path), threads, optimize=False)
    name = session.get_inputs()[0].name

    def run(images: Images) -> np.ndarray:
        try:
            return np.asarray(session.run(None, {name: images})[0])
        except Exception as error:  # its exceptions share no public base class
            raise RunError(Failure.CRASHED, f"{path}: ONNX Runtime: {first_line(error)}.") from error

    return run


class _Run:
    """One network in one runtime, and what it has answered so far; one that fails is not asked again."""

    def __init__(
        self, subject: Subject, runtime: str, load: Callable[[Subject, int, int], Runner], threads: int, batch: int
    ) -> None:
        self.subject, self.runtime, self.batch = subject.name, runtime, batch
        self.failure: RowFailure | None = None
        self.same = self.top1 = self.top5 = self.labelled = 0
        self.difference = self.largest = 0.0
        try:
            self.run: Runner | None = load(subject, threads, batch)
        except _RUN_ERRORS as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.run = None
        category = error.category if isinstance(error, RunError) else Failure.CRASHED
        self.failure = RowFailure(category, first_line(error))

    def add(self, images: Images, labels: np.ndarray | None, wanted: np.ndarray) -> None:
        if self.run is None:
            return
        try:
            logits = run_all(self.run, images, self.batch)
            if logits.shape != wanted.shape:
                raise RunError(
                    Failure.CRASHED, f"outputs have shape {logits.shape}, those of the float network {wanted.shape}."
                )
            if not np.all(np.isfinite(logits)):
                raise RunError(Failure.ACCURACY, "the outputs hold values that are not numbers.")
        except _RUN_ERRORS as error:
            self._fail(error)
            return
        flat, right = logits.reshape(len(logits), -1), wanted.reshape(len(wanted), -1)
        self.same += int((flat.argmax(1) == right.argmax(1)).sum())
        self.difference += float(np.abs(flat.astype(np.float64) - right).max(axis=1).sum())
        self.largest = max(self.largest, float(np.abs(right).max()))
        if labels is not None:
            rank = label_rank(flat, labels)
            self.top1 += int(np.count_nonzero(rank < 1))
            self.top5 += int(np.count_nonzero(rank < 5))
            self.labelled += len(labels)

    def answers(self, images: int) -> Answers:
        if self.failure is not None:
            return Answers(self.subject, self.runtime, images, failure=self.failure)
        accuracy = None
        if self.labelled:
            accuracy = RuntimeAccuracy(
                100.0 * self.top1 / self.labelled, 100.0 * self.top5 / self.labelled, self.labelled
            )
        mean = self.difference / images
        share = 100.0 * mean / self.largest if self.largest else mean
        return Answers(self.subject, self.runtime, images, accuracy, 100.0 * self.same / images, share)


def _cells(row: Answers) -> tuple[str, ...]:
    def figure(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        row.subject,
        row.runtime,
        figure(row.accuracy.top1 if row.accuracy else None),
        figure(row.accuracy.top5 if row.accuracy else None),
        figure(row.same_class),
        figure(row.difference, 3),
        str(row.images),
        row.failure.category.value if row.failure else "",
    )
