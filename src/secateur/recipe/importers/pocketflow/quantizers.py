"""PocketFlow's learners that quantize, as stages.

uniform        uql_*     weights between the extremes of the layer or of buckets, 60 epochs
uniform-tf     uqtf_*    TensorFlow's training rewriter: 8 bits for both, a hundredth of the rate
non-uniform    nuql_*    code books
"""

from typing import Any

from secateur.recipe.importers.reading import Fields

FLOAT_BITS = 32
# What the first two learners multiply the script's rate by is not among their flags; the third says 1e-2.
RATE = 1e-2


def uniform(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `uql_*`."""
    return [_stage(flags, training, "uql", {"scheme": "uniform"})]


def non_uniform(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `nuql_*`."""
    trained = flags.text("nuql_opt_mode", "weights", choices=("weights", "clusters", "both"))
    keys = {
        "scheme": "codebook",
        "centres": flags.text("nuql_init_style", "quantile", choices=("quantile", "uniform")),
        "trained": {"clusters": "centres"}.get(trained, trained),
    }
    return [_stage(flags, training, "nuql", keys)]


def tensorflow(flags: Fields, training: dict[str, Any]) -> list[dict[str, Any]]:
    """F `uqtf_*`."""
    if flags.flag("uqtf_enbl_manual_quant"):
        flags.note("uqtf_enbl_manual_quant", "which values are quantized follows from the exported file's graph here.")
    keys: dict[str, Any] = {
        "scheme": "tensorflow",
        "weight_bits": flags.whole("uqtf_weight_bits", 8, low=2, high=8),
        "activation_bits": _activations(flags, "uqtf_activation_bits", 8),
        "quant_delay": flags.whole("uqtf_quant_delay", 0),
    }
    # Without the flag TensorFlow never freezes norms: later than any step.
    given = flags.text("uqtf_freeze_bn_delay", "None") if _is_none(flags) else None
    keys["freeze_bn_delay"] = flags.whole("uqtf_freeze_bn_delay", 10**9) if given is None else 10**9
    rate = flags.number("uqtf_lrn_rate_dcy", RATE, low=1e-12)
    flags.ignore("uqtf_save_path", "uqtf_save_path_eval")
    return [_finished(keys, training, rate)]


def _is_none(flags: Fields) -> bool:
    return str(flags.raw("uqtf_freeze_bn_delay", None)) == "None"


def _stage(flags: Fields, training: dict[str, Any], prefix: str, keys: dict[str, Any]) -> dict[str, Any]:
    keys = keys | {
        "weight_bits": flags.whole(f"{prefix}_weight_bits", 4, low=2, high=8),
        "activation_bits": _activations(flags, f"{prefix}_activation_bits", FLOAT_BITS),
    }
    kind = flags.text(f"{prefix}_bucket_type", "channel", choices=("channel", "split"))
    size = flags.whole(f"{prefix}_bucket_size", 256, low=2)
    if flags.flag(f"{prefix}_use_buckets"):
        keys |= {"bucket": kind, **({"bucket_size": size} if kind == "split" else {})}
    if not flags.flag(f"{prefix}_quantize_all_layers"):
        keys |= {"include_first": False, "include_classifier": False}
    epochs = flags.whole(f"{prefix}_quant_epochs", 60, low=1, high=10_000)
    _search(flags, prefix)
    flags.note(None, f"PocketFlow's rates for this learner are not flags; the script's rate times {RATE:g} is taken.")
    flags.note(
        None,
        "integers cannot tell these weights, so the written file keeps them as floating-point numbers of few values.",
    )
    flags.ignore(*(f"{prefix}_{name}" for name in ("save_path", "save_quant_model_path", "quantize_bn")))
    return _finished(keys, {**training, "epochs": epochs}, RATE)


def _search(flags: Fields, prefix: str) -> None:
    """The search for the bits of each layer, which is a stage of its own kind here."""
    wanted = flags.flag(f"{prefix}_enbl_rl_agent")
    equivalent = flags.number(f"{prefix}_equivalent_bits", 4.0, low=1.0, high=32.0)
    names = ("nb_rlouts", "w_bit_min", "w_bit_max", "tune_layerwise_steps", "tune_global_steps", "tune_save_path")
    more = ("tune_disp_steps", "enbl_random_layers", "enbl_rl_global_tune", "enbl_rl_layerwise_tune")
    flags.ignore(*(f"{prefix}_{name}" for name in (*names, *more)))
    if wanted:
        flags.note(
            f"{prefix}_enbl_rl_agent",
            f"bits of layers are not searched for before this training; all get the same. A stage quantize of method "
            f"ptq with mixed: {{budget: {equivalent:g}}} gives layers bits by how much the network suffers from them.",
        )


def _activations(flags: Fields, name: str, default: int) -> int | None:
    bits = flags.whole(name, default, low=2, high=FLOAT_BITS)
    if 8 < bits < FLOAT_BITS:
        flags.fail(name, f"'{name}' is 2 to 8, or {FLOAT_BITS} for float, not {bits}.")
    return None if bits == FLOAT_BITS else bits


def _finished(keys: dict[str, Any], training: dict[str, Any], rate: float) -> dict[str, Any]:
    training = {**training, "learning_rate": float(f"{training['learning_rate'] * rate:.10g}")}
    steps = [epoch for epoch in training.get("step_epochs", ()) if epoch < training["epochs"]]
    if training.get("decay") == "step":
        training |= {"step_epochs": steps} if steps else {"decay": "constant"}
        if not steps:
            del training["step_epochs"]
    return {"stage": "quantize", "method": "qat", "qat": keys, "training": training}


QUANTIZERS = {"uniform": uniform, "uniform-tf": tensorflow, "non-uniform": non_uniform}
