"""The layers of the network that a schedule is for, and which of them a name or an expression of Distiller means.

    weights, levels, ...    names of parameters, each exactly one layer
    overrides               regular expressions that fit a whole name of a module

Recipes are read without building networks, so the names are those that the families below have by their construction.
Of other networks nothing is known here: names are taken as they are, and expressions only where a glob says the same.
"""

import re
from typing import NoReturn

from secateur.recipe.importers.distiller.networks import layer_of, network_of, parameter_of
from secateur.recipe.importers.reading import Fields, Reading
from secateur.registry import unknown

_BLOCKS = {"18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_BASIC = ("18", "34")
_VGG = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}
# An expression beyond this could take forever to compare, and no schedule needs it.
_LONGEST, _MOST_REPEATS = 200, 6
_AS_GLOB = {".*": "*", ".+": "?*", ".": "?", "\\.": ".", "\\d": "[0-9]"}
_WILD = re.compile(r"[*?\[\]]")


def known_layers(reading: Reading, arch: str | None) -> tuple[str, ...] | None:
    """Our names of all convolutions and linear layers, in order; None where the network is not one of those here."""
    model = reading.model or (network_of(arch).model if arch is not None else None)
    return layers_in(model) if model is not None else None


def layers_in(model: str) -> tuple[str, ...] | None:
    """The same of a network by its name."""
    if (found := re.fullmatch(r"resnet(\d+)|wide_resnet(50|101)_2", model)) and (found[1] or found[2]) in _BLOCKS:
        depth = found[1] or found[2]
        return _resnet(_BLOCKS[depth], 2 if depth in _BASIC else 3, shortcuts=True)
    if (found := re.fullmatch(r"resnet(\d{2,3})(b?)_cifar10", model)) and int(found[1]) % 6 == 2:
        names = _resnet((int(found[1]) // 6,) * 3, 2, shortcuts=bool(found[2]))
        return names if found[2] else (*names[:-1], "linear")
    if re.fullmatch(r"mobilenet_v1_\d{3}_imagenet", model):
        blocks = (f"blocks.{block}.{part}" for block in range(13) for part in ("depthwise", "pointwise"))
        return ("stem.conv", *blocks, "classifier")
    if found := re.fullmatch(r"vgg(11|13|16|19)(_bn)?", model):
        return _vgg(_VGG[found[1]], 3 if found[2] else 2)
    if model == "alexnet":
        return (*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6)))
    return None


def _resnet(blocks: tuple[int, ...], convolutions: int, shortcuts: bool) -> tuple[str, ...]:
    names = ["conv1"]
    for group, count in enumerate(blocks, 1):
        for block in range(count):
            names += [f"layer{group}.{block}.conv{number}" for number in range(1, convolutions + 1)]
            # Where the number of channels changes; blocks of three convolutions widen in the first group already.
            if shortcuts and block == 0 and (group > 1 or convolutions == 3):
                names.append(f"layer{group}.{block}.downsample.0")
    return (*names, "fc")


def _vgg(groups: tuple[int, ...], modules: int) -> tuple[str, ...]:
    """A convolution is two modules, three with its norm; behind each group there is one that pools."""
    names, at = list[str](), 0
    for count in groups:
        names += [f"features.{at + modules * number}" for number in range(count)]
        at += modules * count + 1
    return (*names, *(f"classifier.{index}" for index in (0, 3, 6)))


def layer_named(fields: Fields, name: str, arch: str | None, key: str | None = None) -> str:
    """The layer whose parameter has exactly this name.

    key       under which the name stands; by default the name is a key itself
    raises    RecipeError  a pattern, and a name that the network, where it is known, does not have
    """
    key = name if key is None else key
    if _WILD.search(name):
        fields.fail(key, f"'{name}' in {fields.where} is no name of a parameter: there are no patterns; name each one.")
    layer, known = layer_of(name, arch), known_layers(fields.reading, arch)
    if known is not None and layer not in known:
        fields.fail(key, unknown("layer", layer, known))
    return layer


def layers_fitting(fields: Fields, expression: str, arch: str | None) -> tuple[str, ...] | None:
    """The layers whose whole name an expression fits; None where the network is not known. raises RecipeError."""
    known = known_layers(fields.reading, arch)
    if known is None:
        return None
    pattern = _compiled(fields, expression)
    return tuple(name for name in known if pattern.match(parameter_of(name, arch)))


def glob_of(fields: Fields, expression: str, arch: str | None) -> str | None:
    """A name or glob of our layers that says the same as an expression; None where there is none."""
    _compiled(fields, expression)
    name = _unwrapped(expression)
    if re.fullmatch(r"[\w-]+(\\?\.[\w-]+)*", name):  # a name, whose dots are meant as such
        return layer_of(name.replace("\\", ""), arch)
    if layer_of("fc", arch) != "fc":
        return "*" if name == ".*" else None  # a glob is of our names, and these are others
    tokens: list[str] = re.findall(r"\.\*|\.\+|\\\.|\\d|\[[\w-]+\]|.", name)
    if any(token in "\\[](){}|*+?^$" for token in tokens):
        return None
    return "".join(_AS_GLOB.get(token, token) for token in tokens)


def _compiled(fields: Fields, expression: str) -> re.Pattern[str]:
    """As Distiller compiles it: fitting a whole name."""
    name = _unwrapped(expression)
    repeats = len(re.findall(r"(?<!\\)[*+{]", name))
    if len(name) > _LONGEST or repeats > _MOST_REPEATS or re.search(r"\)[*+{]", name):
        fields.fail(expression, f"'{expression[:60]}' in {fields.where} is too involved to compare; list the layers.")
    try:
        return re.compile(f"^(?:{name})$")
    except re.error as error:
        fields.fail(expression, f"'{expression}' in {fields.where} is no regular expression: {error}.")


def _unwrapped(expression: str) -> str:
    name = expression.removeprefix("^").removesuffix("$")
    return name.removeprefix("module.").removeprefix(r"module\.")


def not_sayable(fields: Fields, expression: str) -> NoReturn:
    """raises RecipeError for an expression that no glob can say, of a network whose layers are not known here"""
    fields.fail(
        expression,
        f"'{expression}' in {fields.where} is more than a glob can say, and the layers of this network are not known "
        "here; list the layers.",
    )
