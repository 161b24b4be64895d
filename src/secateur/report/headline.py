"""What a reader in a hurry must know: a sentence on accuracy, one on speed, and a few large numbers."""

import math
from dataclasses import dataclass

from secateur.graph import BASES, Census
from secateur.report.content import AccuracyChange, Content, Latency, runtime_title
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
    """The headline numbers of the network that this run has."""
    found = (_accuracy_card(content), _parameter_card(content), _compute_card(content), _file_card(content))
    return tuple(card for card in found if card is not None)


def latency_cards(content: Content) -> tuple[Card, ...]:
    """The best latency of the compressed network in each runtime."""
    return tuple(_latency_card(row) for row in fastest(content))


def summary(content: Content) -> str:
    """What was done, in a sentence."""
    technique = content.technique
    if technique is None:
        return f"{content.model} on {content.data}."
    base = BASES.get(technique.base, technique.base)
    return (
        f"{content.model} on {content.data}. Pattern {technique.pattern}, sparsity {share(technique.sparsity)} of the "
        f"{base} (base {technique.base}); criterion {technique.criterion}, allocation {technique.allocation}."
    )


def verdicts(content: Content) -> tuple[str, ...]:
    """What came of it: accuracy, nearness to the dense network, then speed."""
    sentences = [_accuracy_verdict(content.accuracy), _agreement_verdict(content), _speed_verdict(content)]
    return tuple(sentence for sentence in sentences if sentence)


def fastest(content: Content) -> tuple[Latency, ...]:
    """For each runtime the setting with the least compressed time per image, in order of appearance."""
    best: dict[str, Latency] = {}
    for row in content.latencies:
        rival = best.get(row.runtime)
        if row.compressed is not None and (rival is None or _per_image(row) < _per_image(rival)):
            best[row.runtime] = row
    return tuple(best.values())


def _accuracy_verdict(change: AccuracyChange | None) -> str | None:
    if change is None or change.drop is None or change.drop_error is None:
        return None
    drop, error = round(change.drop, 2), change.drop_error
    if drop == 0:
        return "Top-1 is unchanged to two decimals."
    moved = f"Top-1 fell by {drop:.2f} points" if drop > 0 else f"Top-1 rose by {-drop:.2f} points"
    size = "within twice" if abs(drop) <= 2 * error else "more than twice"
    return f"{moved}, {size} the standard error of the difference ({error:.2f} points)."


def _agreement_verdict(content: Content) -> str | None:
    found = content.agreement
    if found is None:
        return None
    unmeasured = "" if content.accuracy else " Without labels no accuracy was measured."
    return (
        f"{percent(found.same_class)} of {found.images:,} held-out images get the class that the dense network gives "
        f"them; the KL divergence from its answers is {found.divergence:.4g}.{unmeasured}"
    )


def _speed_verdict(content: Content) -> str | None:
    rows = [row for row in content.latencies if row.achieved is not None and row.compressed is not None]
    if not rows:
        return None
    # Where zeros are multiplied like any number, a difference is noise, however large it came out.
    best = max((row for row in rows if not row.ignores_zeros), key=lambda row: row.achieved or 0.0, default=None)
    if best is None:
        return "No runtime measured here turned the zeros into speed: each of them ignores zeros."
    achieved = best.achieved or 0.0
    if achieved < _NOTABLE or (best.within is not None and best.within.no_difference):
        return "No runtime measured here turned the zeros into speed."
    promise = ""
    if best.expected_macs and best.efficiency_macs:
        promise = f", {share(best.efficiency_macs, 0)} of the {best.expected_macs:.2f}× that the removed MACs promise"
    return (
        f"{best.title} runs the compressed network {achieved:.2f}× as fast as the fastest dense one "
        f"({runtime_title(best.best_dense or '')}; {_setting(best)}){promise}."
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
    detail = (
        f"dense {percent(change.dense.top1)}; {moved} {abs(change.drop):.2f} ± {change.drop_error:.2f} points, {images}"
    )
    return Card("Top-1 accuracy", percent(value.top1), detail)


def _parameter_card(content: Content) -> Card | None:
    count = content.compressed
    if count is None or not _removed_some(count):
        return None
    detail = f"{share(count.sparsity)} zeros among {count_text(count.weights)} conv and linear weights"
    return Card("Fewer parameters", f"{count.parameter_reduction:.2f}×", detail)


def _compute_card(content: Content) -> Card | None:
    count = content.compressed
    if count is None or not _removed_some(count):
        return None
    size = "×".join(str(side) for side in count.input_shape)
    detail = f"{count_text(count.macs)} → {count_text(count.sparse_macs)} MACs for one {size} image"
    return Card("Less compute", f"{count.compute_reduction:.2f}×", detail)


def _removed_some(count: Census) -> bool:
    """Is there a reduction to speak of: something is zero, and not everything."""
    return 0 < count.nonzeros < count.weights and count.sparse_macs > 0


def _file_card(content: Content) -> Card | None:
    for file in content.files:
        if file.name == _WEIGHTS_FILE and file.ratio and file.dense is not None:
            return Card(
                "Smaller weights file",
                f"{file.ratio:.2f}×",
                f"{bytes_text(file.dense)} → {bytes_text(file.compressed)}",
            )
    return None


def _latency_card(row: Latency) -> Card:
    value = _milliseconds(row.compressed.median_ms) if row.compressed else ""
    if row.dense is None or row.within is None:
        return Card(row.title, value, f"compressed; {_setting(row)}")
    gain = "no difference" if row.within.no_difference else f"{row.within.median:.2f}×"
    return Card(row.title, value, f"dense {_milliseconds(row.dense.median_ms)}: {gain}; {_setting(row)}")


def _per_image(row: Latency) -> float:
    return row.compressed.median_ms / row.batch if row.compressed else math.inf


def _milliseconds(value: float) -> str:
    return f"{value:.3g}{NO_BREAK}ms" if value < 1000 else f"{value:,.0f}{NO_BREAK}ms"


def _setting(row: Latency) -> str:
    return f"batch {row.batch}, {row.threads} thread{'s' * (row.threads != 1)}"
