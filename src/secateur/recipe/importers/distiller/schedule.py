"""Distiller's schedule files, as they are: sections of instances, and policies that say when each acts.

    pruners, regularizers, lr_schedulers, extensions, quantizers    {instance: {class, arguments}}
    policies    [{pruner | regularizer | lr_scheduler | extension | quantizer: {instance_name, args},
                  starting_epoch, ending_epoch, frequency | epochs}]

The command line in the comments gives network, images, epochs and learning rate, as the file itself has none of them.

Source: Distiller's documentation of schedules (Intel, 2018-2020) and its published files.
"""

from typing import Any

from secateur.recipe.importers.distiller import ranked  # noqa: F401  (registers the pruners that rank)
from secateur.recipe.importers.distiller.flags import ClassifierFlags, read_flags, read_quantization
from secateur.recipe.importers.distiller.header import Header, read_header
from secateur.recipe.importers.distiller.networks import layer_of, network_of
from secateur.recipe.importers.distiller.policies import SECTIONS, Policy, read_policies
from secateur.recipe.importers.distiller.post_training import post_training_stages
from secateur.recipe.importers.distiller.pruners import read_pruner
from secateur.recipe.importers.distiller.quantizers import POST_TRAINING, instance_of, read_quantizers
from secateur.recipe.importers.distiller.rates import check_rates, read_rate
from secateur.recipe.importers.distiller.regularizers import read_regularizer
from secateur.recipe.importers.distiller.timeline import Penalty, Pruning, Timeline, stages_of
from secateur.recipe.importers.importing import Draft, importers
from secateur.recipe.importers.provenance import ExpectedLayer, Provenance
from secateur.recipe.importers.reading import Reading
from secateur.recipe.importers.stages import FINISH
from secateur.registry import unknown

REMOVERS = {
    "FilterRemover": "remove_filters",
    "ChannelRemover": "remove_channels",
    "StructureRemover": "",
}


@importers.register("distiller")
class DistillerSchedule:
    """The importer of Distiller's schedules."""

    @staticmethod
    def recognises(value: dict[str, Any]) -> bool:
        """By `policies`, or by a section of instances: our own recipes have neither."""
        return "stages" not in value and any(key in value for key in ("policies", *SECTIONS.values()))

    @staticmethod
    def read(reading: Reading) -> Draft:
        root = reading.fields((), "a Distiller schedule")
        root.ignore("version", "policies", *SECTIONS.values())
        root.finish()
        header = read_header(reading.document.text)
        policies = read_policies(reading, root.value) if "policies" in root.value else ()
        if not policies and root.value.get("quantizers"):
            return _quantized_only(reading, header)
        if not policies:
            root.fail(None, "a Distiller schedule has 'policies', which say what acts when; there are none here.")
        flags = read_flags(reading, header.command) if header.command else ClassifierFlags()
        return draft(reading, policies, flags, header)


def draft(reading: Reading, policies: tuple[Policy, ...], flags: ClassifierFlags, header: Header) -> Draft:
    """The recipe of a schedule and the flags that it is run with."""
    removals = tuple(policy for policy in policies if policy.kind == "extension")
    arch = flags.arch or _arch_of_removers(reading, removals)
    renamed = _renamed_arch(reading, arch)
    prunings = tuple(
        Pruning(policy, tuple(read_pruner(reading, policy, renamed))) for policy in policies if policy.kind == "pruner"
    )
    penalties = tuple(
        Penalty(policy, tuple(read_regularizer(reading, policy, renamed)))
        for policy in policies
        if policy.kind == "regularizer"
    )
    quantizing = read_quantizers(reading, policies, renamed)
    quantized_afterwards = post_training_stages(reading, renamed) or flags.quantize
    if not quantized_afterwards and header.quantization is not None:
        quantized_afterwards = read_quantization(reading, header.quantization)
    rates = sorted((read_rate(reading, p) for p in policies if p.kind == "lr_scheduler"), key=lambda r: r.policy.start)
    check_rates(reading, rates)
    _note_unused(reading, policies)
    _check_removers(reading, removals, arch)
    epochs = flags.epochs
    if epochs is None:
        epochs = max(policy.end for policy in policies)
        reading.note(
            ("policies",),
            f"the file does not say how many epochs are trained; taken are {epochs}, where its policies end.",
        )
    for policy in policies:
        thins_result = policy.kind == "extension" and policy.start == epochs
        if policy.start >= epochs and policy.kind != "lr_scheduler" and not thins_result:
            reading.note(policy.at, f"'{policy.instance}' begins in epoch {policy.start}, after the last of {epochs}.")
    line = Timeline(
        tuple(p for p in prunings if p.policy.start < epochs),
        tuple(p for p in penalties if p.policy.start < epochs),
        tuple(rates),
        removals,
        epochs,
        flags.learning_rate,
        flags.training,
        quantizing if quantizing is not None and quantizing.policy.start < epochs else None,
    )
    stages = [*stages_of(reading, line), *quantized_afterwards]
    value = {
        "version": 1,
        "model": _model(reading, arch, flags),
        "data": {"name": reading.data or _images(arch, flags), "workers": min(flags.workers, 64)},
        "seed": flags.seed,
        "stages": [{"stage": "evaluate"}, *stages, *FINISH],
    }
    return Draft(value, _provenance(reading, header, renamed))


def _quantized_only(reading: Reading, header: Header) -> Draft:
    """A file that says nothing but how a trained network is quantized."""
    command = header.command or header.quantization
    flags = read_flags(reading, command) if command else ClassifierFlags()
    stages = post_training_stages(reading, _renamed_arch(reading, flags.arch))
    if not stages:
        reading.fail(("quantizers",), "these quantizers act in training, so 'policies' must say when.")
    value = {
        "version": 1,
        "model": _model(reading, flags.arch, flags),
        "data": {"name": reading.data or _images(flags.arch, flags), "workers": min(flags.workers, 64)},
        "seed": flags.seed,
        "stages": [{"stage": "evaluate"}, *stages, *FINISH],
    }
    return Draft(value, _provenance(reading, header, flags.arch))


def _arch_of_removers(reading: Reading, removals: tuple[Policy, ...]) -> str | None:
    for policy in removals:
        found = reading.fields(("extensions", policy.instance), f"extension '{policy.instance}'").text("arch", None)
        if found:
            return found
    return None


def _renamed_arch(reading: Reading, arch: str | None) -> str | None:
    """The architecture by which layers are renamed: none where the user gives another network."""
    if arch is None or (reading.model is not None and reading.model != network_of(arch).model):
        return None
    return arch


def _model(reading: Reading, arch: str | None, flags: ClassifierFlags) -> dict[str, Any]:
    network = network_of(arch) if arch is not None else None
    name = reading.model or (network.model if network else None)
    if name is None:
        reading.fail((), "the file does not say which network it is for; give MODEL, such as resnet50.")
    same = network is not None and name == network.model
    weights = reading.weights_for(name, flags.weights if same else None)
    return {"name": name, "weights": weights, "options": network.options if same and network else {}}


def _images(arch: str | None, flags: ClassifierFlags) -> str | None:
    known = network_of(arch).data if arch is not None else None
    return known or (f"imagefolder:{flags.images}" if flags.images else None)


def _check_removers(reading: Reading, removals: tuple[Policy, ...], arch: str | None) -> None:
    for policy in removals:
        fields = reading.fields(("extensions", policy.instance), f"extension '{policy.instance}'")
        name = fields.text("class")
        if name not in REMOVERS:
            fields.fail("class", unknown("class", name, REMOVERS))
        does = fields.text("thinning_func_str", REMOVERS[name], choices=("remove_filters", "remove_channels"))
        if REMOVERS[name] and does != REMOVERS[name]:
            fields.fail("thinning_func_str", f"{name} and '{does}' contradict each other.")
        given = fields.text("arch", None)
        if given is not None and arch is not None and given != arch:
            fields.note("arch", f"'{given}' is not the network of the command line, {arch}; the latter is taken.")
        fields.ignore("dataset", "layers", "optimizer")
        fields.finish()
        fields.note(
            None,
            "channels that are entirely zero are taken out; where a sum joins layers, only those zero in all of them.",
        )


def _note_unused(reading: Reading, policies: tuple[Policy, ...]) -> None:
    used = {(SECTIONS[policy.kind], policy.instance) for policy in policies}
    for section in SECTIONS.values():
        for instance in reading.fields((section,), f"'{section}'").value if section in reading.document.value else ():
            unused = (section, instance) not in used
            if section == "quantizers":
                unused = unused and instance_of(reading, instance).text("class") != POST_TRAINING
            if unused:
                reading.note((section, instance), f"no policy uses '{instance}', so it does nothing.")


def _provenance(reading: Reading, header: Header, arch: str | None) -> Provenance:
    layers = tuple(
        ExpectedLayer(layer_of(row.name, arch), row.shape, row.weights, row.nonzeros) for row in header.layers
    )
    return Provenance(
        "distiller",
        reading.document.source,
        header.command[1] if header.command else None,
        layers,
        header.weights,
        header.nonzeros,
        header.macs,
        header.accuracy,
        header.best_epoch,
    )
