"""MSBench's mask generators and fake-sparse modules: pattern, criterion, counts, and when masks change.

NormalMaskGenerator    unstructured magnitude, or filters with structured: True (p1: L1, p2: L2)
FPGMMaskGenerator      filters nearest to all others (func l1, l2, cos)
NuclearMaskGenerator   filters whose absence costs the least nuclear norm
NMMaskGenerator        2:4, where C_in is a multiple of 4
counts                 n - int((1 - s) n) go, and what is not greater than the last of them
"""

import re
from dataclasses import dataclass
from typing import Any

from secateur.recipe.importers.reading import Fields
from secateur.registry import unknown

COUNTS = {"rounding": "complement", "ties": "threshold"}
FILTER_COUNTS = {"rounding": "complement", "ties": "exact"}
LEARNED = {"ProbMaskGenerator": "probmask", "STRMaskGenerator": "str", "FCPTSMaskGenerator": "str"}
GENERATORS = ("NormalMaskGenerator", "FPGMMaskGenerator", "NuclearMaskGenerator", "NMMaskGenerator", *LEARNED)
FAKE_SPARSE = ("FakeSparse", "DefaultFakeSparse", "ProbMaskFakeSparse", "STRFakeSparse", "FCPTSFakeSparse")


@dataclass(frozen=True)
class Masks:
    """What is removed together, by which score, and how masks are chosen.

    name      of the generator
    keys      of a part: pattern, criterion, rounding, ties
    level     given to the generator, if it is
    static    masks are chosen once; otherwise at every step from the weights as they are
    method    probmask or str, where a way of training chooses the masks
    learned   settings of that way
    correct   weight correction is asked for
    """

    name: str
    keys: dict[str, Any]
    level: float | None
    static: bool
    method: str | None
    learned: dict[str, Any]
    correct: bool

    @property
    def fixed(self) -> float | None:
        """The share of zeros that the pattern says itself."""
        return _zeros_of(self.keys["pattern"])


def check_level(fields: Fields, name: str, level: float | None, pattern: str) -> None:
    """raises    RecipeError  a level beside a pattern that has another"""
    zeros = _zeros_of(pattern)
    if level is not None and zeros is not None and abs(level - zeros) > 1e-9:
        fields.fail(
            name, f"'{name}' {level:g} and {pattern} contradict each other: that pattern has {zeros:g} zeros always."
        )


def _zeros_of(pattern: str) -> float | None:
    found = re.match(r"(\d+):(\d+)", pattern)
    return 1 - int(found[1]) / int(found[2]) if found else None


def read_masks(root: Fields) -> Masks:
    """The sections mask_generator and fake_sparse. raises RecipeError for unknown types and arguments."""
    generator = root.section("mask_generator", "'mask_generator'")
    name = generator.text("type", "NormalMaskGenerator")
    if name not in GENERATORS:
        generator.fail("type", unknown("mask generator", name, GENERATORS))
    options = generator.section("kwargs", "'kwargs' of the mask generator")
    level = options.number("sparsity", None, low=0.0, high=1.0)
    static = options.flag("freeze_mask")
    learned: dict[str, Any] = {}
    keys = _keys(name, options, learned)
    check_level(options, "sparsity", level, keys["pattern"])
    options.finish()
    generator.finish()
    static, correct = _fake_sparse(root, static, learned)
    return Masks(name, keys, level, static, LEARNED.get(name), learned, correct)


def _keys(name: str, options: Fields, learned: dict[str, Any]) -> dict[str, Any]:
    if name == "NormalMaskGenerator":
        structured = options.flag("structured")
        func = options.text("func", "p1", choices=("p1", "p2"))
        if not structured:
            return {"pattern": "unstructured", "criterion": "magnitude", **COUNTS}
        return {"pattern": "filter", "criterion": {"p1": "l1", "p2": "l2"}[func], **COUNTS}
    if name == "FPGMMaskGenerator":
        func = options.text("func", "l2", choices=("l1", "l2", "cos"))
        return {"pattern": "filter", "criterion": f"fpgm-{func}", **FILTER_COUNTS}
    if name == "NuclearMaskGenerator":
        return {"pattern": "filter", "criterion": "nuclear", **FILTER_COUNTS}
    if name == "NMMaskGenerator":
        options.ignore("N", "M")
        n, m = options.whole("N", 2, low=1), options.whole("M", 4, low=2)
        if n >= m:
            options.fail("N", f"of M weights N stay, so N is less than M, found {n} of {m}.")
        return {"pattern": f"{n}:{m}", "criterion": "magnitude"}
    if name == "ProbMaskGenerator":
        learned["tau"] = options.number("tau", 3.0, low=1e-9)
    return {"pattern": "unstructured", "criterion": "magnitude", **COUNTS}


def _fake_sparse(root: Fields, static: bool, learned: dict[str, Any]) -> tuple[bool, bool]:
    fake = root.section("fake_sparse", "'fake_sparse'")
    name = fake.text("type", "DefaultFakeSparse")
    if name not in FAKE_SPARSE:
        fake.fail("type", unknown("fake-sparse module", name, FAKE_SPARSE))
    options = fake.section("kwargs", "'kwargs' of the fake-sparse module")
    static = options.flag("mask_is_static", static)
    correct = options.flag("weight_correction")
    if (constant := options.number("score_init_constant", None, low=1e-9, high=1.0)) is not None:
        learned["score_init"] = constant
    for key in ("sInit_value", "s_init_value"):
        if (value := options.number(key, None)) is not None:
            learned["threshold_init"] = value
    options.finish()
    fake.finish()
    return static, correct
