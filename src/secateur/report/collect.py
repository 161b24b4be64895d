"""From the record of a run to the facts of its report."""

from secateur.pipeline.record import COMPRESSING, TRAINING, RunRecord, stage_name
from secateur.recipe import recipe_to_yaml
from secateur.report import facts
from secateur.report.after_training import after_training
from secateur.report.content import Accuracy, AccuracyChange, Content, Epoch, Level, StageTime
from secateur.report.fields import Fields
from secateur.report.latencies import latencies, read_benchmark, runtime_accuracies
from secateur.report.levels import level
from secateur.report.quantization import quantization


def collect(record: RunRecord, title: str | None = None) -> Content:
    """The facts in a record; without a title, model and data name the page.

    raises    ArtifactError  with file and key, when a stage's result is not what that stage writes
    """
    results = _results(record)
    export = _last([(kind, fields) for kind, fields in results if not _is_level(kind, fields)], "export")
    measured = _last(results, "benchmark")
    benchmark = read_benchmark(measured)
    plans = _plans(results)
    dense, compressed = facts.censuses(export)
    stages = _stages(record)
    return Content(
        title=title or _title(record),
        model=record.recipe.model.name,
        data=record.recipe.data.name,
        command=record.command,
        started=record.started,
        finished=all(stage.seconds is not None for stage in stages),
        recipe=recipe_to_yaml(record.recipe),
        machine=facts.machine_lines(record.machine),
        stages=stages,
        technique=facts.technique(plans),
        accuracy=_accuracy(results),
        agreement=facts.agreement(_last(results, "posttraining")),
        after_training=after_training(_last(results, "posttraining")),
        quantization=quantization(_last(results, "quantize"), benchmark),
        runtime_accuracy=runtime_accuracies(benchmark),
        dense=dense,
        compressed=compressed,
        layers=facts.layers(compressed, plans, export),
        structure=facts.structure(export),
        files=facts.files(export),
        latencies=latencies(benchmark, compressed, facts.is_smaller(measured)),
        layer_times=facts.layer_times(measured),
        advice=facts.advice(measured),
        load=benchmark.machine.load_average if benchmark else None,
        cpus=benchmark.machine.cpus if benchmark else None,
        checks=facts.checks(export),
        epochs=_epochs(results),
        levels=_levels(results),
    )


def _results(record: RunRecord) -> list[tuple[str, Fields]]:
    return [
        (stage.kind, Fields(stage.result, str(record.folder / "stages" / stage.name / "result.json")))
        for stage in record.stages
    ]


def _last(results: list[tuple[str, Fields]], kind: str) -> Fields | None:
    found = [fields for name, fields in results if name == kind]
    return found[-1] if found else None


def _title(record: RunRecord) -> str:
    for stage in record.recipe.stages:
        if stage.stage == "report" and stage.title:
            return stage.title
    return f"{record.recipe.model.name} on {record.recipe.data.name}"


def _plans(results: list[tuple[str, Fields]]) -> list[Fields]:
    """The plans of the last stage that made any: one for each of its parts."""
    planning = [fields for kind, fields in results if kind in ("sparsify", "posttraining")]
    made = [fields for fields in planning if "plans" in fields or "plan" in fields]
    if not made:
        return []
    # Before a stage could have several parts, it recorded one plan, by itself.
    return made[-1].rows("plans") if "plans" in made[-1] else [made[-1].fields("plan")]


def _accuracy(results: list[tuple[str, Fields]]) -> AccuracyChange | None:
    """Dense is the last evaluation before the first zeros, compressed the last one after them."""
    dense: Accuracy | None = None
    compressed: Accuracy | None = None
    compressing = False
    for kind, fields in results:
        compressing = compressing or kind in COMPRESSING
        if kind == "train" and not compressing:
            dense = None  # what was measured before belongs to a network that is gone
        if kind != "evaluate":
            continue
        if compressing:
            compressed = facts.accuracy(fields)
        else:
            dense = facts.accuracy(fields)
    return AccuracyChange(dense, compressed) if dense or compressed else None


def _is_level(kind: str, fields: Fields) -> bool:
    """Whether a stage exported one level of a table, and not the result of the run."""
    return kind == "export" and "folder" in fields and bool(fields.text("folder"))


def _levels(results: list[tuple[str, Fields]]) -> tuple[Level, ...]:
    levels: list[Level] = []
    accuracy: Accuracy | None = None
    for kind, fields in results:
        if kind == "evaluate":
            accuracy = facts.accuracy(fields)
        elif kind in TRAINING:
            accuracy = None
        elif _is_level(kind, fields):
            levels.append(level(fields, accuracy))
    return tuple(levels)


def _epochs(results: list[tuple[str, Fields]]) -> tuple[Epoch, ...]:
    epochs: list[Epoch] = []
    for number, (kind, fields) in enumerate(results):
        if kind not in TRAINING:
            continue
        for row in fields.rows("history"):
            epochs.append(_epoch(len(epochs) + 1, stage_name(number, kind), row))
    return tuple(epochs)


def _epoch(index: int, stage: str, row: Fields) -> Epoch:
    return Epoch(
        index=index,
        stage=stage,
        epoch=row.integer("epoch") + 1,
        learning_rate=row.optional_number("learning_rate"),
        loss=row.optional_number("loss"),
        train_top1=row.optional_number("train_accuracy"),
        top1=row.optional_number("top1"),
        top5=row.optional_number("top5"),
        test_loss=row.optional_number("test_loss"),
        sparsity=row.optional_number("sparsity"),
        seconds=row.optional_number("seconds"),
    )


def _stages(record: RunRecord) -> tuple[StageTime, ...]:
    """The stages of the recipe, without the report: the page is the same before and after it is recorded."""
    done = {stage.name: stage.seconds for stage in record.stages}
    names = [(stage_name(index, stage.stage), stage.stage) for index, stage in enumerate(record.recipe.stages)]
    return tuple(StageTime(name, kind, done.get(name)) for name, kind in names if kind != "report")
