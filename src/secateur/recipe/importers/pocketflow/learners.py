"""PocketFlow's learners as stages.

full-prec         plain training
weight-sparse     single weights, gradual in iterations, with a backup of what is removed
channel           channels by a share of the FLOPs that stays (auto) or of each layer's channels (uniform)
chn-pruned-rmt, chn-pruned-gpu, dis-chn-pruned    channels by a share of them that goes

Those that quantize are in quantizers.py.
"""

from collections.abc import Callable
from typing import Any

from secateur.recipe.importers.reading import Fields

BATCHES = 25  # of the held-out images that judge a table
REGRESSION = "layers are not regressed on their dense outputs in this version; the network is fine-tuned instead"

# Of the batches that the learner `channel` looks at; its documentation says 60.
BATCHES_SAMPLED = 30

Learner = Callable[[Fields, dict[str, Any]], list[dict[str, Any]]]


def full_precision(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"stage": "train", "training": training}]


def weight_sparse(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `ws_*`: AGP in iterations; masks keep what is strictly greater than a percentile of the backup."""
    level = flags.number("ws_prune_ratio", 0.75, low=0.0, high=0.9999)
    share = flags.text("ws_prune_ratio_prtl", "optimal", choices=("optimal", "uniform", "heurist"))
    if share == "heurist":
        flags.note(
            "ws_prune_ratio", "heuristic levels may exceed 1 in PocketFlow; here they are capped and spread again."
        )
    begin = flags.number("ws_iter_ratio_beg", 0.1, low=0.0, high=0.9999)
    end = flags.number("ws_iter_ratio_end", 0.5, low=0.0, high=1.0)
    if end <= begin:
        flags.fail("ws_iter_ratio_end", f"'ws_iter_ratio_end' ({end:g}) lies after 'ws_iter_ratio_beg' ({begin:g}).")
    if "ws_update_mask_step" in flags:
        flags.note(
            "ws_update_mask_step",
            "the flag is ws_mask_update_step; PocketFlow's search configuration misnames it. It is taken for that.",
        )
    every = flags.whole("ws_update_mask_step", 500, low=1)
    schedule = {
        "kind": "agp_iterations",
        "begin": begin,
        "end": end,
        "exponent": flags.number("ws_prune_ratio_exp", 3.0, low=1e-9),
        "every": flags.whole("ws_mask_update_step", every, low=1),
    }
    search = _search(flags, training, "ws") | {
        "reward": flags.text("ws_reward_type", "single-obj", choices=("single-obj", "multi-obj")).removesuffix("-obj"),
        "regression": {
            "iterations": flags.whole("ws_nb_iters_rg", 20, low=1),
            "learning_rate": flags.number("ws_lrn_rate_rg", 3e-2, low=1e-12),
        },
        "iterations": flags.whole("ws_nb_iters_ft", 400),
        "learning_rate": flags.number("ws_lrn_rate_ft", 3e-4, low=1e-12),
        "images": flags.whole("ws_nb_iters_feval", BATCHES, low=1) * training["batch_size"],
    }
    if share == "optimal":
        flags.note(
            "ws_prune_ratio_prtl",
            f"'optimal' levels are searched for in {search['rollouts']} roll-outs before the training (allocation "
            "ddpg); the rate of ws_lrn_rate_rg is relative to the size of the weights here.",
        )
    flags.note(
        None, "PocketFlow trains from scratch whatever weights it loads; here training starts from the given weights."
    )
    return [
        {
            "stage": "sparsify",
            "pattern": "unstructured",
            "sparsity": level,
            "base": "selected",
            "include_first": True,
            "include_classifier": True,
            **{
                "uniform": {"allocation": "uniform"},
                "heurist": {"allocation": "heuristic"},
                "optimal": {"allocation": "ddpg", "search": search},
            }[share],
            "rounding": "percentile",
            "ties": "threshold",
            "schedule": schedule,
            "mask": {"update": "backup", "reset_optimizer": True},
            "training": training,
        }
    ]


def channel(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `cp_*`: the share of FLOPs (auto) or of channels (uniform, list) that stays."""
    option = flags.text("cp_prune_option", "auto", choices=("auto", "uniform", "list"))
    flops = flags.number("cp_preserve_ratio", 0.5, low=0.0001, high=1.0)
    uniform = flags.number("cp_uniform_preserve_ratio", 0.6, low=0.0001, high=1.0)
    listed = flags.text("cp_prune_list_file", "ratio.list")
    search = _search(flags, training, "cp") | {
        "reward": flags.text("cp_reward_policy", "accuracy", choices=("accuracy", "flops")),
        "tolerance": flags.number("cp_noise_tolerance", 0.15, low=1e-9, high=0.9999),
        "images": BATCHES * training["batch_size"],
    }
    kept, base = (flops, "macs") if option == "auto" else (uniform, "channels")
    if option == "auto":
        flags.note("cp_preserve_ratio", f"{kept:g} is the share of FLOPs that stays (base macs), not of channels.")
        flags.note(
            "cp_prune_option",
            f"'auto' ratios are searched for in {search['rollouts']} roll-outs before the training, group by group.",
        )
    elif option == "uniform":
        flags.note("cp_uniform_preserve_ratio", f"{kept:g} is the share of channels that stays, not of FLOPs.")
    else:
        flags.note(
            "cp_prune_list_file",
            f"the ratios of {listed} are shares of the channels that each convolution reads and that stay, in the "
            "order in which the network defines them; a channel that a sum shares goes where all its readers agree.",
        )
    sampled = flags.whole("cp_nb_batches", BATCHES_SAMPLED, low=1)
    if "cp_nb_batches" not in flags:
        flags.note(
            "cp_nb_batches", f"PocketFlow's code samples {sampled} batches, its documentation says 60; {sampled} it is."
        )
    chosen = {
        "criterion": "lasso" if flags.flag("cp_lasso", True) else "feature_maps",
        "positions": flags.whole("cp_nb_points_per_layer", 10, low=1),
        "statistics_images": sampled * training["batch_size"],
    }
    flags.ignore(
        *(
            "cp_list_group",
            "cp_finetune",
            "cp_retrain",
            "cp_lrn_rate_ft",
            "cp_nb_iters_ft_ratio",
            "cp_channel_pruned_path",
        ),
        *("cp_best_path", "cp_original_path"),
    )
    stage = _removal(kept, base, training, 4 if flags.flag("cp_quadruple") else 1) | chosen
    more = {"auto": {"search": search}, "list": {"ratios_file": listed}, "uniform": dict[str, Any]()}
    return [stage | more[option]]


def remote(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `cpr_*`: the share of channels that goes."""
    gone = flags.number("cpr_prune_ratio", 0.5, low=0.0, high=0.9999)
    skipped = flags.text("cpr_skip_op_names", None)
    flags.note("cpr_prune_ratio", f"{gone:g} is the share of channels that goes, not of FLOPs.")
    chosen = {
        "criterion": "lasso",
        "solver": "ista",
        "positions": flags.whole("cpr_nb_crops_per_smpl", 10, low=1),
        "statistics_images": flags.whole("cpr_nb_smpls", 5000, low=1),
    }
    flags.note(
        None,
        "the steps of both solvers are our own: ISTA with momentum, least squares in closed form, as many as needed.",
    )
    if skipped:
        flags.note(
            "cpr_skip_op_names",
            f"{skipped} are names of TensorFlow's graph; write the layers to leave alone as 'exclude'.",
        )
    if not flags.flag("cpr_skip_frst_layer", True):
        flags.note("cpr_skip_frst_layer", "the first layer is pruned with its group, like any other.")
    if flags.flag("cpr_skip_last_layer"):
        _note_last(flags, "cpr_skip_last_layer")
    flags.ignore(
        *("cpr_ista_lrn_rate", "cpr_ista_nb_iters", "cpr_lstsq_lrn_rate", "cpr_lstsq_nb_iters"),
        *("cpr_warm_start", "cpr_save_path", "cpr_save_path_ws", "cpr_save_path_eval"),
    )
    return [_removal(1 - gone, "channels", training) | chosen]


def on_gpu(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `cpg_*`: proximal gradient on groups."""
    listed = flags.text("cpg_prune_ratio_file", None)
    if flags.text("cpg_prune_ratio_type", "uniform", choices=("uniform", "list")) == "list":
        flags.fail(
            "cpg_prune_ratio_type",
            f"the ratios of {listed or 'cpg_prune_ratio_file'} are shares that go, and lists of ours hold those that "
            "stay; write 1 minus each into another file and give it as --learner channel --cp_prune_option list "
            "--cp_prune_list_file FILE.",
        )
    flags.ignore("cpg_prune_ratio_file", because="it belongs to cpg_prune_ratio_type list")
    gone = flags.number("cpg_prune_ratio", 0.5, low=0.0, high=0.9999)
    if flags.flag("cpg_skip_ht_layers", True):
        _note_last(flags, "cpg_skip_ht_layers")
    flags.note("cpg_prune_ratio", f"{gone:g} is the share of channels that goes, not of FLOPs.")
    flags.note(None, f"channels are chosen by their L2 norm, not by proximal gradients; {REGRESSION}.")
    flags.ignore(
        *("cpg_lrn_rate_pgd_init", "cpg_lrn_rate_pgd_incr", "cpg_lrn_rate_pgd_decr", "cpg_lrn_rate_adam"),
        *("cpg_nb_iters_layer", "cpg_save_path", "cpg_save_path_eval"),
    )
    return [_removal(1 - gone, "channels", training)]


def discriminative(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `dcp_*`: channels that help to discriminate stay."""
    gone = flags.number("dcp_prune_ratio", 0.5, low=0.0, high=0.9999)
    flags.note("dcp_prune_ratio", f"{gone:g} is the share of channels that goes, not of FLOPs.")
    flags.note(None, f"channels are chosen by their L2 norm, not by auxiliary losses; {REGRESSION}.")
    flags.ignore(
        "dcp_nb_stages",
        "dcp_lrn_rate_adam",
        "dcp_nb_iters_block",
        "dcp_nb_iters_layer",
        "dcp_save_path",
        "dcp_save_path_eval",
    )
    return [_removal(1 - gone, "channels", training)]


def _note_last(flags: Fields, name: str) -> None:
    flags.note(
        name,
        f"'{name}' keeps the channels that the last layer reads; here they are pruned like all others, unless the "
        "layer that makes them stands under 'exclude'. Channels of the image stay always.",
    )


def _search(flags: Fields, training: dict[str, Any], prefix: str) -> dict[str, Any]:
    """F `ddpg_*` and the numbers of roll-outs: the learner of E9 and E10."""
    rollouts = flags.whole(f"{prefix}_nb_rlouts", 200, low=2)
    of_actions = flags.text("ddpg_noise_type", "param", choices=("param", "action")) == "action"
    adaptive = flags.text("ddpg_noise_prtl", "tdecy", choices=("tdecy", "adapt")) == "adapt"
    if of_actions and adaptive:
        flags.note("ddpg_noise_prtl", "noise on actions falls with time here; only noise on parameters is adapted.")
    return {
        "rollouts": rollouts,
        "warmup": min(flags.whole(f"{prefix}_nb_rlouts_min", 50, low=1), rollouts - 1),
        "noise": "actions" if of_actions else "adaptive" if adaptive else "parameters",
        "batch_size": training["batch_size"],
    }


def _removal(kept: float, base: str, training: dict[str, Any], round_to: int = 1) -> dict[str, Any]:
    return {
        "stage": "remove_channels",
        "target": round(1 - kept, 10),
        "base": base,
        "criterion": "l2",
        "scope": "uniform",
        "round_to": round_to,
        "training": training,
    }


LEARNERS: dict[str, Learner] = {
    "full-prec": full_precision,
    "weight-sparse": weight_sparse,
    "channel": channel,
    "chn-pruned-rmt": remote,
    "chn-pruned-gpu": on_gpu,
    "dis-chn-pruned": discriminative,
}
