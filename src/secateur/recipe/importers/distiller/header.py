"""The comments of a Distiller schedule: command line, accuracy, table of nonzeros, MACs, best epoch.

The published files (those of Distiller's examples and of DeGirum) carry their results as comments, in the form in
which Distiller's log printed them, some with its time stamps.
"""

import re
from dataclasses import dataclass, field

from secateur.recipe.importers.provenance import ExpectedLayer

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - ")
_ROW = re.compile(r"^\|\s*\d+\s*\|\s*(\S[^|]*?)\s*\|\s*(\([\d, ]+\)|-)\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|")
_ACCURACY_ROW = re.compile(r"^\|\s*Top(1|5)\s*\|\s*([\d.]+)\s*\|\s*([\d.]+)\s*\|")
_BEST = re.compile(r"Best \[?Top1: ([\d.]+).*?on [Ee]poch:? (\d+)")
_BEST_SHORT = re.compile(r"Best Top1: ([\d.]+) \(epoch (\d+)\)")
_TOP = re.compile(r"Top1: ([\d.]+)(?:\s+Top5: ([\d.]+))?")
_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_MACS = re.compile(rf"(?:Total|Ideal Number of) MAC[sS]: {_NUMBER}\s*(Billion|Million)?")
_LARGEST = 10**15


@dataclass
class Header:
    """What the comments say; nothing of it is certain to be there.

    command         (line, text) of the first command line
    quantization    the same of the first one that quantizes
    """

    command: tuple[int, str] | None = None
    quantization: tuple[int, str] | None = None
    layers: list[ExpectedLayer] = field(default_factory=list)
    weights: int | None = None
    nonzeros: int | None = None
    macs: float | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    best_epoch: int | None = None


def read_header(text: str) -> Header:
    """What the comments of a schedule say; lines that say nothing known are passed over."""
    header, baseline, best = Header(), False, -1.0
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.lstrip().startswith("#"):
            continue
        line = _STAMP.sub("", raw.lstrip().lstrip("#").strip())
        if "compress_classifier.py" in line and "--quantize-eval" in line:
            header.quantization = header.quantization or (number, line[line.index("compress_classifier.py") :])
        elif "compress_classifier.py" in line and header.command is None:
            header.command = (number, line[line.index("compress_classifier.py") :])
        elif found := _ROW.match(line):
            _row(header, *found.groups())
        elif found := _ACCURACY_ROW.match(line):
            header.accuracy[f"top{found[1]}"] = float(found[2])
            header.accuracy[f"base_top{found[1]}"] = float(found[3])
        elif re.match(r"(Baseline )?[Rr]esults:", line):
            baseline = line.startswith("Baseline")
        elif found := re.fullmatch(r"Best epoch \((\d+)\)", line):
            header.best_epoch = _whole(found[1])
        elif found := _BEST_SHORT.search(line):
            header.accuracy["top1"], header.best_epoch = float(found[1]), _whole(found[2])
        elif found := _BEST.search(line):
            # The log lists the best epochs of the whole run; an author's own "Best Top1" above it comes first.
            if header.best_epoch is None or ("top1" not in header.accuracy and float(found[1]) > best):
                best, header.best_epoch = float(found[1]), _whole(found[2])
        elif found := _MACS.search(line):
            if not baseline:
                scale = {"Billion": 1e9, "Million": 1e6}.get(found[2], 1.0)
                header.macs = float(found[1].replace(",", "")) * scale
        elif found := _TOP.match(line):
            kind = "base_" if baseline else ""
            for top, value in zip(("top1", "top5"), found.groups(), strict=True):
                if value is not None:
                    header.accuracy.setdefault(kind + top, float(value))
    return header


def _row(header: Header, name: str, shape: str, dense: str, nonzeros: str) -> None:
    weights, kept = _whole(dense), _whole(nonzeros)
    if name.startswith("Total"):
        header.weights, header.nonzeros = weights, kept
        return
    sides = tuple(_whole(side) for side in re.findall(r"\d+", shape))
    header.layers.append(ExpectedLayer(name, sides, weights, kept))


def _whole(digits: str) -> int:
    # Python refuses to read numbers of more than some thousand digits, with an error of its own.
    return min(int(digits[:16]), _LARGEST)
