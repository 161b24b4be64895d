"""What a reader in a hurry must know: a sentence on accuracy, one on speed, and a few large numbers."""

import math
from dataclasses import dataclass

from secateur.report.content import AccuracyChange, Content, Latency
from secateur.report.format import NO_BREAK, bytes_text, count_text, percent, share

# Below five percent a difference of two medians on a busy machine is no speedup to speak of.
_NOTABLE = 1.05
_WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class Card:
    """One large number: what it is, its value, and the base or the figures behind it."""

    label: str
    value: str
    detail: str


def cards(content: Content) -> tuple[Card, ...]:
    """The headline numbers that this run has."""
    found = [_accuracy_card(content), _parameter_card(content), _compute_card(content), _file_card(content)]
    return (*(card for card in found if card is not None), *_latency_cards(content))


def summary(content: Content) -> str:
    """What was done, in a sentence."""
    technique = content.technique
    if technique is None:
        return f"{content.model} on {content.data}."
    return (
        f"{content.model} on {content.data}: {technique.pattern} sparsity of {share(technique.sparsity, 0)} asked for "
        f"(base {technique.base}), chosen by {technique.criterion}, spread {technique.allocation} over the layers."
    )


def verdicts(content: Content) -> tuple[str, ...]:
    """What came of it: accuracy, then speed."""
    sentences = [_accuracy_verdict(content.accuracy), _speed_verdict(content)]
    return tuple(sentence for sentence in sentences if sentence)


def fastest(content: Content) -> dict[str, Latency]:
    """For each runtime the setting with the least compressed time per image, in order of appearance."""
    best: dict[str, Latency] = {}
    for row in content.latencies:
        if row.compressed is None:
            continue
        rival = best.get(row.title)
        if rival is None or _per_image(row) < _per_image(rival):
            best[row.title] = row
    return best


def _accuracy_verdict(change: AccuracyChange | None) -> str | None:
    if change is None or change.drop is None or change.drop_error is None:
        return None
    drop, error = round(change.drop, 2), change.drop_error
    if drop > 0:
        moved = f"Compression cost {drop:.2f} points of top-1"
    elif drop < 0:
        moved = f"The compressed network gained {-drop:.2f} points of top-1"
    else:
        return "Top-1 is unchanged to two decimals."
    size = "which is inside" if abs(drop) <= 2 * error else "which is more than"
    return f"{moved}, {size} twice the standard error of the test set ({error:.2f} points)."


def _speed_verdict(content: Content) -> str | None:
    rows = [row for row in content.latencies if row.achieved is not None]
    if not rows:
        return None
    best = max(rows, key=lambda row: row.achieved or 0.0)
    efficiency = best.efficiency(best.expected_macs)
    if (best.achieved or 0.0) < _NOTABLE:
        return "No runtime measured here turned the zeros into speed."
    promise = ""
    if best.expected_macs and efficiency:
        promise = f": {share(efficiency, 0)} of the {best.expected_macs:.2f}× that the removed MACs promise"
    return (
        f"The largest speedup is {best.achieved:.2f}×, in {best.title} "
        f"(batch {best.batch}, {_threads(best.threads)}){promise}."
    )


def _accuracy_card(content: Content) -> Card | None:
    change = content.accuracy
    if change is None:
        return None
    value = change.compressed or change.dense
    if value is None:
        return None
    images = f"{value.images:,} test images"
    if change.dense is None or change.drop is None or change.drop_error is None or change.compressed is None:
        which = "compressed" if change.compressed else "dense"
        return Card("Top-1 accuracy", percent(value.top1), f"{which}, ± {value.standard_error:.2f} points, {images}")
    moved = "drop" if change.drop >= 0 else "gain"
    detail = f"dense {percent(change.dense.top1)}; {moved} {abs(change.drop):.2f} ± {change.drop_error:.2f} points, {images}"
    return Card("Top-1 accuracy", percent(value.top1), detail)


def _parameter_card(content: Content) -> Card | None:
    count = content.compressed
    if count is None or not math.isfinite(count.parameter_reduction):
        return None
    detail = f"{share(count.sparsity)} zeros among {count_text(count.weights)} conv and linear weights"
    return Card("Fewer parameters", f"{count.parameter_reduction:.2f}×", detail)


def _compute_card(content: Content) -> Card | None:
    count = content.compressed
    if count is None or not math.isfinite(count.compute_reduction):
        return None
    size = "×".join(str(side) for side in count.input_shape)
    detail = f"{count_text(count.macs)} → {count_text(count.sparse_macs)} MACs for one {size} image"
    return Card("Less compute", f"{count.compute_reduction:.2f}×", detail)


def _file_card(content: Content) -> Card | None:
    for file in content.files:
        if file.name == _WEIGHTS_FILE and file.ratio and file.dense is not None:
            return Card(
                "Smaller file",
                f"{file.ratio:.2f}×",
                f"{file.name}: {bytes_text(file.dense)} → {bytes_text(file.compressed)}",
            )
    return None


def _latency_cards(content: Content) -> list[Card]:
    found = []
    for title, row in fastest(content).items():
        assert row.compressed is not None
        setting = f"batch {row.batch}, {_threads(row.threads)}"
        detail = f"compressed, {setting}"
        if row.dense is not None and row.achieved is not None:
            detail = f"dense {_milliseconds(row.dense.median)}; achieved {row.achieved:.2f}×, {setting}"
        found.append(Card(f"{title} latency", _milliseconds(row.compressed.median), detail))
    return found


def _per_image(row: Latency) -> float:
    return row.compressed.median / row.batch if row.compressed else math.inf


def _milliseconds(value: float) -> str:
    return f"{value:.3g}{NO_BREAK}ms" if value < 1000 else f"{value:,.0f}{NO_BREAK}ms"


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"
