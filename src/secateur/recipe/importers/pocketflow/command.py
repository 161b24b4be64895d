"""Command lines of PocketFlow: a run script, a learner, and absl flags.

    python nets/resnet_at_cifar10_run.py --learner weight-sparse --ws_prune_ratio 0.75

Source: PocketFlow's documentation and flags (Tencent, 2018-2019).
"""

from collections.abc import Sequence
from typing import Any

from secateur.recipe.importers.flags import parse_command
from secateur.recipe.importers.importing import Draft, command_lines
from secateur.recipe.importers.pocketflow.learners import LEARNERS
from secateur.recipe.importers.pocketflow.networks import script_of, training_of
from secateur.recipe.importers.pocketflow.quantizers import QUANTIZERS
from secateur.recipe.importers.provenance import Provenance
from secateur.recipe.importers.reading import Fields, Reading
from secateur.recipe.importers.stages import FINISH
from secateur.registry import unknown

SEARCHES = ("random_layers", "rl_global_tune", "rl_layerwise_tune")
SWITCHES = (
    *(
        "enbl_dst",
        "enbl_warm_start",
        "enbl_multi_gpu",
        "debug",
        "cp_lasso",
        "cp_quadruple",
        "cp_finetune",
        "cp_retrain",
    ),
    *("cpr_skip_frst_layer", "cpr_skip_last_layer", "cpr_warm_start", "cpg_skip_ht_layers", "uql_use_buckets"),
    *("uql_enbl_rl_agent", "uql_quantize_all_layers", "ddpg_enbl_bsln_func", "uqtf_enbl_manual_quant"),
    *("nuql_enbl_rl_agent", "nuql_quantize_all_layers", "nuql_use_buckets"),
    *(f"{learner}_enbl_{what}" for learner in ("uql", "nuql") for what in SEARCHES),
)
RUN_ONLY = (
    *("enbl_multi_gpu", "nb_smpls_train", "nb_smpls_val", "nb_smpls_eval", "batch_size_eval", "summ_step", "save_step"),
    *("model_http_url", "data_disk", "log_dir", "debug", "save_path", "save_path_eval", "save_path_dst", "nb_classes"),
    *("n", "nb_gpus"),  # of its run_local.sh
    *("ws_save_path", "prefetch_size", "nb_threads", "buffer_size", "cycle_length", "data_hdfs_host", "data_dir_hdfs"),
)
PREFIXES = {
    "ws_": "weight-sparse",
    "cp_": "channel",
    "cpr_": "chn-pruned-rmt",
    "cpg_": "chn-pruned-gpu",
    "dcp_": "dis-chn-pruned",
    "uql_": "uniform",
    "uqtf_": "uniform-tf",
    "nuql_": "non-uniform",
}


@command_lines.register("pocketflow")
class PocketFlowCommand:
    """The importer of PocketFlow's command lines."""

    @staticmethod
    def recognises(words: Sequence[str]) -> bool:
        marks = ("--learner", *(f"--{prefix}" for prefix in PREFIXES))
        return any(word.startswith(marks) for word in words) or any(
            "_at_" in w and w.endswith("_run.py") for w in words
        )

    @staticmethod
    def read(words: Sequence[str], reading: Reading) -> Draft:
        command = parse_command(words, reading, switches=SWITCHES, absl=True)
        flags = command.flags
        learner = flags.text("learner", "full-prec")
        learners = {**LEARNERS, **QUANTIZERS}
        if learner not in learners:
            flags.fail("learner", unknown("learner", learner, learners))
        script = script_of(reading, command.script, flags)
        training = training_of(script, flags)
        stages = learners[learner](flags, training)
        for stage in stages:
            if stage.get("allocation") == "ddpg" and script.data == "cifar10":
                # Its search fixes the levels of these two at 0 on CIFAR-10, and on no other images.
                stage |= {"include_first": False, "include_classifier": False}
        if distillation := _distillation(flags):
            for stage in stages:
                stage["distillation"] = distillation
        only_test = flags.text("exec_mode", "train", choices=("train", "eval")) == "eval"
        data = _images(reading, script.data, flags)
        warm = flags.flag("enbl_warm_start")
        flags.ignore(*RUN_ONLY)
        _note_others(flags, learner, any(stage.get("search") for stage in stages))
        flags.finish()
        command.check_words(reading)
        name = reading.model or script.model or ""
        if warm:
            reading.note((), "PocketFlow's checkpoints are TensorFlow's; those of --enbl_warm_start cannot be read.")
        value = {
            "version": 1,
            "model": {"name": name, "weights": reading.weights_for(name, None)},
            "data": {"name": data},
            "seed": 0,
            "stages": [{"stage": "evaluate"}] if only_test else [{"stage": "evaluate"}, *stages, *FINISH],
        }
        return Draft(value, Provenance("pocketflow", reading.document.source, reading.document.text))


def _distillation(flags: Fields) -> dict[str, Any] | None:
    weight, temperature = flags.number("loss_w_dst", 4.0, low=0.0), flags.number("tempr_dst", 4.0, low=1e-9)
    if not flags.flag("enbl_dst"):
        return None
    return {"form": "cross_entropy", "temperature": temperature, "weight": weight, "task_weight": 1.0}


def _images(reading: Reading, known: str | None, flags: Fields) -> str | None:
    folder = flags.text("data_dir_local", None)
    return reading.data or known or (f"imagefolder:{folder}" if folder else None)


def _note_others(flags: Fields, learner: str, searches: bool) -> None:
    """Flags of other learners, and of the search: those of its noise are imported, the others are not."""
    for name in list(flags.value):
        owner = next((whose for prefix, whose in PREFIXES.items() if name.startswith(prefix)), None)
        if owner is not None and owner != learner:
            flags.ignore(name, because=f"it belongs to the learner {owner}")
        elif name.startswith("ddpg_noise_") and not searches:
            flags.ignore(name, because="nothing is searched for")
        elif name.startswith("ddpg_") and name not in flags.known:
            flags.ignore(name, because="the agent of a search has the constants that are PocketFlow's defaults")
