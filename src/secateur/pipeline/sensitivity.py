"""One-layer sensitivity analysis: how much worse a network gets when one layer alone is pruned, nothing retrained.

    for every layer, for every level:  prune it, run the images, put its weights back

    top1, top5, loss    on test images
    output_error        sum |y - y_pruned|^2 / sum |y|^2 over the network's outputs; needs no labels

Every layer's rows are one file that is whole or absent, so that a killed analysis goes on at the next layer. The folder
belongs to one network, one set of images and one setting, told by their hash.

Source: Distiller (sensitivity analysis); the output error is our own design.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import zoo
from secateur.errors import ArtifactError, SparsityError
from secateur.export import folded_copy
from secateur.files import read_json, remove_leftovers, write_json, write_text
from secateur.progress import say, track
from secateur.sparsity import Layer, Scorer, Scoring, SensitivityRow, SensitivityTable, layers_of, parse_pattern
from secateur.sparsity.draws import generator_for
from secateur.sparsity.layers import stored_weight, weighted_modules
from secateur.sparsity.plan import PlannedLayer
from secateur.sparsity.selection import select_layers
from secateur.sparsity.sensitivity import Measure, row_of
from secateur.training import distributed, gather_statistics
from secateur.training.checkpoint import digest_of
from secateur.training.evaluate import check_labels
from secateur.training.placement import moved, placed

TABLE_FILE, CSV_FILE, SETTINGS_FILE, LAYERS_FOLDER = "sensitivity.json", "sensitivity.csv", "settings.json", "layers"
LEVELS = tuple(round(0.05 * step, 2) for step in range(20))


@dataclass(frozen=True)
class SensitivitySettings:
    """What is pruned, and what is looked at.

    levels     of every layer alone; where the pattern has one level, that one
    measure    what a cost is; output_error needs no labels, and top1, top5 and loss are then left out
    images     so many test images, evenly spread
    only       names or globs of layers; by default all, the first convolution and the classifier included
    raises     SparsityError  levels that are no levels, an unknown pattern
               RecipeError    an unknown criterion
    """

    pattern: str = "unstructured"
    criterion: str = "magnitude"
    levels: tuple[float, ...] = LEVELS
    measure: Measure = "top1"
    images: int = 512
    batch_size: int = 64
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        Scoring(self.criterion).check(parse_pattern(self.pattern))
        if not any(level > 0 for level in self.levels) or not all(0 <= level <= 1 for level in self.levels):
            raise SparsityError(f"levels are fractions from 0 to 1 and one of them above 0, not {list(self.levels)}.")
        if self.images < 1 or self.batch_size < 1:
            raise SparsityError(f"at least one image a batch is looked at, not {self.images} and {self.batch_size}.")


def analyse_sensitivity(
    network: nn.Module,
    images: zoo.ImageData,
    folder: Path | str,
    settings: SensitivitySettings | None = None,
    *,
    overwrite: bool = False,
) -> SensitivityTable:
    """Prune every layer of `network` alone to every level; the network itself is not changed.

    folder       gets sensitivity.json, sensitivity.csv and one file per layer; an analysis that was stopped goes on
    overwrite    the folder may hold another analysis
    raises       ArtifactError  the folder holds something else;  SparsityError, DataError, ModelError
    """
    settings, folder = settings or SensitivitySettings(), Path(folder)
    preprocessing = zoo.preprocessing_of(network)
    batches = list(zoo.loader(images, "test", preprocessing, batch_size=settings.batch_size, limit=settings.images))
    rule = parse_pattern(settings.pattern)
    selection = select_layers(
        network,
        rule,
        include_first=True,
        include_depthwise=True,
        include_classifier=True,
        only=settings.only,
        exclude=settings.exclude,
    )
    if not selection.chosen:
        reasons = "; ".join(sorted({*selection.skipped.values()}))
        raise SparsityError(f"no layer is left to analyse for the pattern {rule} ({reasons}).")
    _claim(folder, _key(network, preprocessing, batches, settings), settings, overwrite)
    scoring = Scoring(settings.criterion)
    statistics = None
    if scoring.needs & {"activations", "gradients"}:
        statistics = gather_statistics(network, images, preprocessing, scoring.needs, seed=settings.seed)
    levels = tuple(sorted({0.0, *settings.levels})) if rule.fixed_level is None else (0.0, rule.fixed_level)
    if rule.fixed_level is not None and settings.levels not in (LEVELS, (rule.fixed_level,)):
        say(f"sensitivity: {rule} has one level, {rule.fixed_level:g}; the levels that were given do not count")
    model, size = folded_copy(network), preprocessing.input_size
    with placed((model,), distributed.device(), size) as layout, torch.inference_mode():
        scorer = Scorer(model, scoring, statistics)
        subject = _Subject(model, batches, layout, settings.measure != "output_error")
        chosen = [layer for layer in layers_of(network) if layer.name in selection.chosen]
        rows: list[SensitivityRow] = []
        with track(len(chosen) * (len(levels) - 1), "sensitivity") as progress:
            for index, layer in enumerate(chosen):
                path = folder / LAYERS_FOLDER / f"{index:03d}.json"
                known = _known(path, layer, levels, settings.measure)
                if known is None:
                    known = [subject.dense_row(layer.name)]
                    for level in levels[1:]:
                        known.append(_pruned(subject, scorer, layer, level, settings))
                        progress.advance(layer=layer.name)
                    write_json(path, {"layer": layer.name, "rows": [asdict(row) for row in known]})
                else:
                    progress.advance(len(levels) - 1, layer=layer.name)
                rows += known
    table = SensitivityTable(
        measure=settings.measure,
        pattern=str(rule),
        criterion=settings.criterion,
        images=sum(len(labels) for _, labels in batches),
        dense=subject.dense,
        rows=tuple(rows),
        skipped=selection.skipped,
    )
    write_json(folder / TABLE_FILE, table.to_dict())
    write_text(folder / CSV_FILE, table.to_csv())
    return table


class _Subject:
    """A network on its images, with the outputs that it gives unpruned."""

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[tuple[Tensor, Tensor]],
        layout: torch.memory_format,
        labelled: bool,
    ) -> None:
        self.modules = weighted_modules(model)
        self._model, self._batches, self._layout, self._labelled = model, batches, layout, labelled
        self._device = distributed.device()
        self._outputs: list[Tensor] = []
        for inputs, labels in batches:
            outputs = model(moved(inputs, labels, self._device, self._layout)[0]).float()
            if not bool(torch.isfinite(outputs).all()):
                raise SparsityError("the network's outputs hold values that are not finite numbers.")
            if labelled:
                check_labels(outputs, labels)
            self._outputs.append(outputs)
        self._energy = sum(float(outputs.double().square().sum()) for outputs in self._outputs)
        self.dense = self.row("", 0.0, 0.0)

    def dense_row(self, layer: str) -> SensitivityRow:
        """The row of a layer at level 0, where nothing is pruned that was not zero before."""
        return replace(self.dense, layer=layer, sparsity=_zeros(self.modules[layer]))

    def row(self, layer: str, level: float, sparsity: float) -> SensitivityRow:
        """What the network gives as it is now."""
        top1 = top5 = images = 0
        loss = error = 0.0
        for (inputs, labels), before in zip(self._batches, self._outputs, strict=True):
            given, targets = moved(inputs, labels, self._device, self._layout)
            outputs = self._model(given).float()
            error += float((outputs.double() - before.double()).square().sum())
            images += len(labels)
            if self._labelled:
                ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == targets[:, None]
                top1 += int(ranked[:, 0].sum())
                top5 += int(ranked.sum())
                loss += float(F.cross_entropy(outputs, targets, reduction="sum"))
        relative = error / self._energy if self._energy else 0.0
        if not self._labelled:
            return SensitivityRow(layer, level, sparsity, None, None, None, relative)
        return SensitivityRow(layer, level, sparsity, 100 * top1 / images, 100 * top5 / images, loss / images, relative)


def _pruned(
    subject: _Subject, scorer: Scorer, layer: Layer, level: float, settings: SensitivitySettings
) -> SensitivityRow:
    """The row of one layer at one level; its weights come back."""
    module = subject.modules[layer.name]
    planned = PlannedLayer(layer.name, layer.kind, layer.shape, layer.groups, level, 0, 0)
    generator = generator_for(settings.seed, layer.name)
    mask = scorer.mask(planned, module, parse_pattern(settings.pattern), level, generator)
    weight = stored_weight(module)
    dense = weight.detach().clone()
    weight.copy_(dense * mask)
    try:
        return subject.row(layer.name, level, _zeros(module))
    finally:
        weight.copy_(dense)


def _zeros(module: nn.Module) -> float:
    weight = stored_weight(module)
    return 1.0 - int(torch.count_nonzero(weight)) / max(weight.numel(), 1)


def _key(
    network: nn.Module,
    preprocessing: zoo.Preprocessing,
    batches: Sequence[tuple[Tensor, Tensor]],
    settings: SensitivitySettings,
) -> str:
    """Hash of everything that a figure depends on."""
    beginning = {
        "network": digest_of(network),
        "name": getattr(network, "zoo_options", type(network).__qualname__),
        "preprocessing": preprocessing.to_dict(),
        "settings": asdict(settings),
    }
    digest = hashlib.sha256(json.dumps(beginning, sort_keys=True).encode())
    for inputs, labels in batches:
        digest.update(inputs.contiguous().numpy().tobytes())
        if settings.measure != "output_error":
            digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _claim(folder: Path, key: str, settings: SensitivitySettings, overwrite: bool) -> None:
    """Make sure that the folder is this analysis' own. raises ArtifactError, DiskError."""
    marker = folder / SETTINGS_FILE
    if marker.is_file() and not overwrite:
        held = read_json(marker)
        if not isinstance(held, dict) or held.get("key") != key:
            raise ArtifactError(
                f"{folder}: holds the analysis of another network, other images or other settings; choose another "
                "folder, or allow overwriting (--overwrite)."
            )
        remove_leftovers(folder)
        return
    strangers = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if strangers and not overwrite:
        raise ArtifactError(
            f"{folder}: holds other files ({', '.join(strangers[:3])}) and no sensitivity analysis; choose an empty or "
            "new folder, or allow overwriting (--overwrite)."
        )
    if marker.is_file() and _same_key(marker, key):
        return
    for old in (folder / LAYERS_FOLDER).glob("[0-9]*.json"):
        old.unlink()
    write_json(marker, {"key": key, "settings": asdict(settings)})


def _same_key(marker: Path, key: str) -> bool:
    try:
        held = read_json(marker)
    except ArtifactError:
        return False
    return isinstance(held, dict) and held.get("key") == key


def _known(path: Path, layer: Layer, levels: Sequence[float], measure: Measure) -> list[SensitivityRow] | None:
    """The rows of a layer that was analysed before; None when they are missing or damaged."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        rows = [row_of(row, measure) for row in value["rows"]]
    except (ArtifactError, KeyError, TypeError, ValueError):
        return None
    fits = [row.layer for row in rows] == [layer.name] * len(levels) and [row.level for row in rows] == list(levels)
    return rows if fits else None
