"""The order of the page: sections with their lead sentence, charts and tables; what a run did not do is left out."""

from collections.abc import Callable
from dataclasses import dataclass

from secateur.report import network_tables as network
from secateur.report import quantization_tables as quantized
from secateur.report import run_tables as run
from secateur.report.after_training import choices_table, leads, steps_table
from secateur.report.charts import Chart, latency_chart, layers_chart, training_chart
from secateur.report.content import Content
from secateur.report.levels import levels_chart, levels_table
from secateur.report.table import Table

# The benchmark itself may fill every CPU; what is beyond that comes from elsewhere.
_BUSY = 1.5


@dataclass(frozen=True)
class Section:
    """One heading with what stands below it; `codes` are (label, text) shown word for word."""

    id: str
    title: str
    leads: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    codes: tuple[tuple[str, str], ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.charts or self.tables or self.codes)


def sections(content: Content) -> tuple[Section, ...]:
    """All sections that have something to show, in reading order."""
    found = [build(content) for build in _ORDER]
    return tuple(section for section in found if not section.empty)


def zeros_sentence(content: Content) -> str | None:
    """Which runtimes gain nothing from zeros."""
    names = list(dict.fromkeys(row.title for row in content.latencies if row.ignores_zeros))
    if not names:
        return None
    listed = f"{', '.join(names[:-1])} and {names[-1]} ignore" if len(names) > 1 else f"{names[0]} ignores"
    return f"{listed} zeros: no speedup is to be expected (docs/why-not-faster.md)."


def load_sentence(content: Content) -> str | None:
    """A warning, where more programs wanted to run than the machine has CPUs for."""
    if content.load is None or not content.cpus or content.load < _BUSY * content.cpus:
        return None
    return (
        f"The machine was busy: a load average of {content.load:.1f} on {content.cpus} usable CPUs. "
        "Times and speedups may be far off; measure again on an idle machine."
    )


def layer_times_sentence(content: Content) -> str | None:
    """Why a table is missing that readers look for."""
    if content.layer_times or not content.latencies or content.dense is None:
        return None
    return "The benchmark of this run recorded no times of single layers."


def _tables(content: Content, *builds: Callable[[Content], Table | None]) -> tuple[Table, ...]:
    return tuple(table for table in (build(content) for build in builds) if table is not None)


def _charts(content: Content, build: Callable[[Content], Chart | None]) -> tuple[Chart, ...]:
    chart = build(content)
    return () if chart is None else (chart,)


def _accuracy(content: Content) -> Section:
    tables = _tables(content, network.accuracy_table, run.runtime_accuracy_table)
    return Section("accuracy", "Accuracy", tables=tables)


def _levels(content: Content) -> Section:
    return Section("levels", "Levels", (), _charts(content, levels_chart), _tables(content, levels_table))


def _after_training(content: Content) -> Section:
    found = content.after_training
    if found is None:
        return Section("after-training", "Sparsity after training")
    tables = tuple(table for table in (steps_table(found), choices_table(found)) if table is not None)
    return Section("after-training", "Sparsity after training", leads(found), tables=tables)


def _quantization(content: Content) -> Section:
    found = content.quantization
    if found is None:
        return Section("quantization", "Quantization")
    chart = quantized.noise_chart(found)
    builds = (quantized.runtimes_table, quantized.times_table, quantized.files_table, quantized.numbers_table)
    tables = tuple(table for table in (build(found) for build in builds) if table is not None)
    charts = () if chart is None else (chart,)
    return Section("quantization", "Quantization", quantized.leads(found), charts, tables)


def _speed(content: Content) -> Section:
    found = (
        load_sentence(content),
        zeros_sentence(content),
        *dict.fromkeys(content.advice),
        layer_times_sentence(content),
    )
    leads = tuple(sentence for sentence in found if sentence)
    tables = (
        *_tables(content, run.speedup_table, run.latency_table),
        *run.layer_times_tables(content),
        *_tables(content, run.runtimes_table),
    )
    return Section("speed", "Speed", leads, _charts(content, latency_chart), tables)


def _size(content: Content) -> Section:
    return Section("size", "Size", tables=_tables(content, network.sizes_table, network.reductions_table))


def _layers(content: Content) -> Section:
    dense = [layer for layer in content.layers if layer.skipped]
    leads = ()
    if dense:
        leads = (f"{len(dense)} of {len(content.layers)} layers were left dense; the table says why.",)
    notes = content.compressed.notes if content.compressed else ()
    tables = _tables(content, network.layers_table, network.structure_table)
    return Section("layers", "Layers", (*leads, *notes), _charts(content, layers_chart), tables)


def _export(content: Content) -> Section:
    return Section("export", "Export", tables=_tables(content, run.export_table))


def _training(content: Content) -> Section:
    return Section("training", "Training", (), _charts(content, training_chart), _tables(content, run.training_table))


def _run(content: Content) -> Section:
    tables = _tables(content, run.stages_table, run.machine_table)
    codes = (("Command", content.command), ("Recipe, every default written out", content.recipe))
    return Section("run", "How it was made", (), (), tables, tuple((label, text) for label, text in codes if text))


_ORDER: tuple[Callable[[Content], Section], ...] = (
    _accuracy,
    _levels,
    _after_training,
    _quantization,
    _speed,
    _size,
    _layers,
    _export,
    _training,
    _run,
)
