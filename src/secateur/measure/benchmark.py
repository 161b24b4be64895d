"""Every network in every runtime, side by side, on the same images.

For each batch size and thread count, all candidates (network x runtime) are loaded in this process and timed
in interleaved rounds. What cannot be measured becomes a row with a category and a sentence; nothing is left
out, and one runtime that fails does not cost the others their figures.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secateur.errors import MeasureError
from secateur.measure.accuracy import RuntimeAccuracy, accuracy_of, fill
from secateur.measure.clock import time_interleaved
from secateur.measure.failure import Failure, RunError, first_line
from secateur.measure.machine import machine, usable_cpus
from secateur.measure.memory import peak_memory
from secateur.measure.result import BenchmarkResult, Row, RowFailure
from secateur.measure.runtime import Images, Runner, Runtime, Subject, can_read, installed_runtimes, runtimes
from secateur.progress import Tracker, track

# What runtimes raise when they cannot go on; anything else is a defect and should be seen as one.
_RUN_ERRORS = (RuntimeError, ValueError, TypeError, OSError, ImportError, MemoryError, MeasureError)

Batches = Sequence[tuple[Images, np.ndarray]]


@dataclass(frozen=True)
class _Candidate:
    """A network that a runtime has loaded and run once."""

    row: Row
    run: "_Guarded"
    first_call_ms: float


class _Guarded:
    """A runner that fails once and then does nothing, so that the rounds of the others go on."""

    def __init__(self, run: Runner) -> None:
        self.run = run
        self.failure: Exception | None = None

    def __call__(self, images: Images) -> None:
        if self.failure is None:
            try:
                self.run(images)
            except _RUN_ERRORS as error:
                self.failure = error


def benchmark(
    subjects: Sequence[Subject],
    *,
    runtime_names: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    threads: Sequence[int] = (),
    data: Iterable[tuple[Images, np.ndarray]] = (),
    input_shape: Sequence[int] = (3, 224, 224),
    repeats: int = 100,
    warmup: int = 20,
    max_seconds: float = 30.0,
    memory: bool = True,
) -> BenchmarkResult:
    """Times, memory and accuracy of `subjects`.

    runtime_names    by default every one that is installed here, for the networks that come in a form it reads
    threads          by default one, and all cores
    data             pairs (images, labels): accuracy is measured on them, and times on the first images;
                     without them times are taken on random images of `input_shape` and there is no accuracy
    repeats, warmup  see time_interleaved
    max_seconds      time limit of one batch and thread count, and of one call
    memory           measure peak memory too, in a process per network, runtime and batch
    raises           MeasureError  when there is nothing to measure, RecipeError  for an unknown runtime
    """
    names = tuple(runtime_names) or installed_runtimes()
    counts = tuple(threads) or tuple(sorted({1, usable_cpus()}))
    if not subjects or not names or min((*counts, *batches), default=0) < 1:
        raise MeasureError("a benchmark needs a network, a runtime, and batches and threads of at least 1.")
    if not max_seconds > 0:
        raise MeasureError(f"a benchmark needs time: more than 0 seconds, not {max_seconds:g}.")
    if len({subject.name for subject in subjects}) != len(subjects):
        raise MeasureError("the networks of a benchmark need different names.")
    pairs = [(np.ascontiguousarray(images, dtype=np.float32), labels) for images, labels in data]
    images = pairs[0][0] if pairs else _random_images(input_shape, max(batches))
    engines = [runtimes[name]() for name in names]
    # What is asked for by name and cannot be had becomes a row that says so.
    chosen = [
        (engine, subject) for engine in engines for subject in subjects if runtime_names or can_read(engine, subject)
    ]
    if not chosen:
        raise MeasureError(f"no runtime that is installed here reads {subjects[0].name}.")
    job = _Job(chosen, images, pairs, repeats, warmup, max_seconds, memory)
    settings = [(batch, count) for batch in batches for count in counts]
    rows: list[Row] = []
    with track(len(settings) * repeats, "benchmark") as progress:
        for batch, count in settings:
            rows += job.measure(batch, count, progress)
    return BenchmarkResult(tuple(rows), machine(), tuple(images.shape[1:]))


def _random_images(shape: Sequence[int], count: int) -> Images:
    return np.random.default_rng(0).standard_normal((count, *shape), dtype=np.float32)


class _Job:
    """What stays the same over all batch sizes and thread counts, and figures that are taken only once."""

    def __init__(
        self,
        chosen: Sequence[tuple[Runtime, Subject]],
        images: Images,
        data: Batches,
        repeats: int,
        warmup: int,
        max_seconds: float,
        memory: bool,
    ) -> None:
        self.chosen, self.images, self.data = chosen, images, data
        self.repeats, self.warmup, self.max_seconds, self.memory = repeats, warmup, max_seconds, memory
        # Neither depends on the number of threads, and accuracy does not depend on the batch either.
        self._memory: dict[tuple[str, str, int], int | RowFailure] = {}
        self._accuracy: dict[tuple[str, str], RuntimeAccuracy | RowFailure] = {}

    def measure(self, batch: int, threads: int, progress: Tracker) -> list[Row]:
        feed = fill(self.images, batch)
        loaded = [self._load(subject, engine, batch, threads, feed) for engine, subject in self.chosen]
        candidates = {index: entry for index, entry in enumerate(loaded) if isinstance(entry, _Candidate)}
        rounds = 0

        def count_round() -> None:
            nonlocal rounds
            rounds += 1
            progress.advance()

        timings = {}
        if candidates:
            timings = time_interleaved(
                {str(index): candidate.run for index, candidate in candidates.items()},
                feed,
                repeats=self.repeats,
                warmup=self.warmup,
                max_seconds=self.max_seconds,
                on_round=count_round,
            )
        # Rounds that the time limit cut off are done as far as the bar is concerned.
        progress.advance(self.repeats - rounds)
        rows = []
        for index, entry in enumerate(loaded):
            if not isinstance(entry, _Candidate):
                rows.append(entry)
            elif entry.run.failure is not None:
                rows.append(replace(entry.row, failure=_failure(entry.row, entry.run.failure)))
            else:
                timing = replace(timings[str(index)], first_call_ms=entry.first_call_ms)
                rows.append(self._complete(replace(entry.row, timing=timing), entry.run.run))
        return rows

    def _load(self, subject: Subject, engine: Runtime, batch: int, threads: int, feed: Images) -> _Candidate | Row:
        row = Row(subject.name, engine.name, "", engine.uses_zeros, batch, threads)
        try:
            reason = engine.available()
            if reason is not None:
                raise RunError(getattr(engine, "unavailable", Failure.MISSING), reason)
            row = replace(row, version=engine.version())
            run = engine.load(subject, threads, batch)
            first_call = _first_call_ms(run, feed)
            again = _first_call_ms(run, feed)
            if again > 1000 * self.max_seconds:
                raise RunError(
                    Failure.TIME_LIMIT,
                    f"{subject.name}: one call takes {again / 1000:.0f} s in {engine.name}.",
                )
            return _Candidate(row, _Guarded(run), first_call)
        except _RUN_ERRORS as error:
            return replace(row, failure=_failure(row, error))

    def _complete(self, row: Row, run: Runner) -> Row:
        """The row with memory and accuracy; the first of them that fails is its failure."""
        found = []
        if self.memory:
            found.append(self._peak_memory(row))
        if self.data:
            found.append(self._accuracy_of(row, run))
        for figure in found:
            if isinstance(figure, RowFailure):
                row = replace(row, failure=row.failure or figure)
            elif isinstance(figure, RuntimeAccuracy):
                row = replace(row, accuracy=figure)
            else:
                row = replace(row, peak_memory=figure)
        return row

    def _peak_memory(self, row: Row) -> int | RowFailure:
        key = (row.subject, row.runtime, row.batch)
        if key not in self._memory:
            subject = next(subject for _, subject in self.chosen if subject.name == row.subject)
            shape = self.images.shape[1:]
            try:
                self._memory[key] = peak_memory(row.runtime, subject, shape, threads=row.threads, batch=row.batch)
            except RunError as error:
                self._memory[key] = RowFailure.of(error)
        return self._memory[key]

    def _accuracy_of(self, row: Row, run: Runner) -> RuntimeAccuracy | RowFailure:
        key = (row.subject, row.runtime)
        if key not in self._accuracy:
            try:
                self._accuracy[key] = accuracy_of(run, self.data, row.batch)
            except RunError as error:
                self._accuracy[key] = RowFailure.of(error)
            except MeasureError as error:
                self._accuracy[key] = RowFailure(Failure.ACCURACY, f"{row.subject} in {row.runtime}: {error}")
        return self._accuracy[key]


def _failure(row: Row, error: Exception) -> RowFailure:
    if isinstance(error, RunError):
        return RowFailure.of(error)
    return RowFailure(Failure.CRASHED, f"{row.subject}: {row.runtime} failed: {first_line(error)}.")


def _first_call_ms(run: Runner, feed: Images) -> float:
    start = time.monotonic_ns()
    run(feed)
    return (time.monotonic_ns() - start) / 1e6
