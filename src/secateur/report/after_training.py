"""Sparsity after training: its images, the level that each layer got, and what every step brought."""

from dataclasses import dataclass, replace

from secateur.report.fields import Fields
from secateur.report.format import duration, percent, share
from secateur.report.table import Column, Table


@dataclass(frozen=True)
class Step:
    """A step, and the answers' distance to the dense network's after it, in nats; `tried` where it was undone."""

    name: str
    distance: float
    kept: bool
    tried: float | None = None


@dataclass(frozen=True)
class Choice:
    """What the choice from the database gave a layer; error relative to the energy of its output, costs as shares."""

    name: str
    pattern: str
    zeros: int
    weights: int
    error: float
    cost_share: float | None
    note: str


@dataclass(frozen=True)
class AfterTraining:
    """One stage `posttraining`.

    data, images, of       which images calibrated, how many of how many, with which seed
    errors, solver, cost   how the levels were chosen, and which cost they share out; None where a list gave them
    predicted, budget      of that cost for the whole network, as shares of the dense network's
    seconds, limit         spent, and the time box; None without one
    """

    data: str
    images: int
    of: int
    seed: int
    steps: tuple[Step, ...] = ()
    choices: tuple[Choice, ...] = ()
    errors: str | None = None
    solver: str | None = None
    cost: str | None = None
    predicted: float | None = None
    budget: float | None = None
    seconds: float | None = None
    limit: float | None = None


def after_training(made: Fields | None) -> AfterTraining | None:
    """From the result of the stage; None for one that recorded no calibration images. raises ArtifactError."""
    if made is None or "calibration" not in made:
        return None
    images = made.fields("calibration")
    count = len(images.value["indices"]) if isinstance(images.value.get("indices"), list) else 0
    box = made.fields("budget") if "budget" in made else None
    found = AfterTraining(
        data=images.text("data"),
        images=count,
        of=images.integer("of"),
        seed=images.integer("seed"),
        steps=tuple(_step(row) for row in made.rows("steps")),
        seconds=box.optional_number("spent") if box else None,
        limit=box.optional_number("seconds") if box else None,
    )
    return _with_levels(found, made.fields("levels")) if "levels" in made else found


def leads(found: AfterTraining) -> tuple[str, ...]:
    """Which images, how much time, and how the levels were chosen."""
    time = ""
    if found.limit is not None and found.seconds is not None:
        time = f" {duration(found.seconds)} of at most {duration(found.limit)} were used."
    lines = [
        f"{found.images:,} of the {found.of:,} training images of {found.data} calibrated, without labels "
        f"(seed {found.seed}).{time}"
    ]
    if found.errors is not None:
        minimised = _ERRORS.get(found.errors, found.errors)
        lines.append(f"Levels of all layers were chosen together ({found.solver}); minimised: {minimised}.")
    return tuple(lines)


def steps_table(found: AfterTraining) -> Table | None:
    """What each step brought."""
    rows = tuple((step.name, step.distance, step.tried, "yes" if step.kept else "no: undone") for step in found.steps)
    columns = (
        Column("step", "Step"),
        Column("distance", "KL distance to the dense network", "tiny", "nats"),
        Column("tried", "Tried", "tiny", "nats", quiet=True),
        Column("kept", "Kept"),
    )
    note = "On held-out images that nothing was fitted to. A step that does not bring the network nearer is undone."
    return Table("steps", "Steps", columns, rows, note) if rows else None


def choices_table(found: AfterTraining) -> Table | None:
    """The level that each layer got, and what it costs there."""
    rows = tuple(
        (
            choice.name,
            choice.pattern,
            choice.weights,
            choice.zeros,
            choice.zeros / choice.weights if choice.weights else None,
            choice.error,
            choice.cost_share,
            choice.note or None,
        )
        for choice in found.choices
    )
    weights, zeros = (sum(getattr(choice, key) for choice in found.choices) for key in ("weights", "zeros"))
    total = ("total", None, weights, zeros, zeros / weights if weights else None, None, found.predicted, None)
    columns = (
        Column("layer", "Layer"),
        Column("pattern", "Pattern"),
        Column("weights", "Weights", "integer", quiet=True),
        Column("zeros", "Zeros", "integer", quiet=True),
        Column("sparsity", "Zeros", "fraction", "% of layer", 1),
        Column("error", "Output error", "tiny"),
        Column("cost", f"Left of the {found.cost or 'cost'}", "fraction", "% of dense", 1),
        Column("note", "Remark", quiet=True),
    )
    note = (
        "Output error: squared error of the layer's output, relative to its energy, when it alone is sparse. "
        "Left: predicted from the database."
    )
    if found.budget is not None and found.predicted is not None:
        note += f" The target allows {share(found.budget)}, the choice needs {percent(100 * found.predicted, 1)}."
    return Table("chosen_levels", "Chosen levels", columns, rows, note, total) if rows else None


_ERRORS = {
    "loss": "the divergence of the network's answers, with one layer sparse at a time",
    "output": "relative errors of the layers' outputs",
    "absolute": "errors of the layers' outputs",
}


def _step(row: Fields) -> Step:
    kept = bool(row.value.get("kept"))
    return Step(row.text("step"), row.number("distance"), kept, None if kept else row.optional_number("tried"))


def _with_levels(found: AfterTraining, levels: Fields) -> AfterTraining:
    dense = levels.number("dense")
    choices = tuple(_choice(row) for row in levels.rows("layers"))
    target = levels.fields("target")
    return replace(
        found,
        choices=choices,
        errors=levels.text("errors"),
        solver=levels.text("solver"),
        cost={"sparsity": "weights"}.get(target.text("kind"), target.text("kind")),
        predicted=levels.number("cost") / dense if dense else None,
        budget=levels.number("budget") / dense if dense else None,
    )


def _choice(row: Fields) -> Choice:
    dense = row.number("dense")
    return Choice(
        row.text("name"),
        row.text("pattern"),
        row.integer("zeros"),
        row.integer("weights"),
        row.number("error"),
        row.number("cost") / dense if dense else None,
        row.optional_text("note") or "",
    )
