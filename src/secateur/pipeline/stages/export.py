"""Stage `export`: the artifact, and the proof that it is the same function.

model.onnx, weights.safetensors, plan.json, recipe.yaml       the compressed network
model.int8.onnx, weights.int8.safetensors, scales.json        its quantized form, where a stage `quantize` made one
model.tflite, model.int8.tflite                               where they were asked for
dense/model.onnx, dense/weights.safetensors                   the baseline it is compared with
levels/NN/                                                    one level of a table, without a baseline of its own
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from secateur import zoo
from secateur.export import (
    DENSE_FOLDER,
    MODEL_FILE,
    PLAN_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    check_onnx,
    export_onnx,
    pack_tensor,
    stored_bytes,
)
from secateur.files import write_json
from secateur.pipeline.context import STAGES_FOLDER, Context, stage_handlers
from secateur.pipeline.network import save_artifact_weights
from secateur.pipeline.posttraining.images import Batches, images_for
from secateur.pipeline.quantization.files import take_quantized
from secateur.pipeline.record import StageRecord
from secateur.pipeline.tflite import write_tflite
from secateur.progress import say, track
from secateur.recipe import ExportStage, QuantizeStage, save_recipe
from secateur.sparsity import census, masks, structure

CHECK_BATCH = 32


@stage_handlers.register("export")
def export_stage(context: Context, stage: ExportStage) -> dict[str, Any]:
    """returns    file sizes, how far ONNX Runtime is from torch, the counts, and the form of every tensor

    raises        ExportError  a network that cannot be exported, or whose file computes something else
    """
    networks = {"compressed": context.network}
    home = context.folder / stage.folder
    if context.dense is not None and not stage.folder:
        networks["dense"] = context.dense
    checks, formats, sizes = {}, {}, {}
    with track(len(networks), "export") as progress:
        for name, network in networks.items():
            folder = home / (DENSE_FOLDER if name == "dense" else "")
            dynamic = stage.batch == "dynamic"
            export_onnx(
                network,
                folder / MODEL_FILE,
                context.preprocessing.input_size,
                dynamic_batch=dynamic,
                batch=1 if dynamic else int(stage.batch),
                opset=stage.opset,
            )
            checks[name] = check_onnx(network, folder / MODEL_FILE, _images(context, stage.check_images))
            tensors = save_artifact_weights(network, folder / WEIGHTS_FILE)
            formats[name] = {key: _form(tensor) for key, tensor in tensors.items()}
            for file in (folder / MODEL_FILE, folder / WEIGHTS_FILE):
                sizes[file.relative_to(context.folder).as_posix()] = file.stat().st_size
            progress.advance()
    say(f"export: {checks['compressed']}")
    quantized = _last_quantized(context)
    if quantized is not None:
        taken = take_quantized(context.folder / STAGES_FOLDER / quantized.name, home)
        sizes |= {path.relative_to(context.folder).as_posix(): path.stat().st_size for path in taken}
    lite: dict[str, Any] = {}
    if stage.tflite:
        calibration = _calibration(context)
        images = _images(context, stage.check_images)
        files, lite = write_tflite(context.network, home, context.preprocessing.input_size, images, calibration)
        sizes |= {path.relative_to(context.folder).as_posix(): path.stat().st_size for path in files}
    counts = {name: census(network) for name, network in networks.items()}
    if context.dense is not None:
        counts["compressed"] = counts["compressed"].relative_to(counts.get("dense") or census(context.dense))
    write_json(home / PLAN_FILE, _plan(context, counts["compressed"].to_dict()))
    save_recipe(context.recipe, home / RECIPE_FILE)
    return {
        "folder": stage.folder,
        "files": sizes,
        "check": asdict(checks["compressed"]),
        "check_dense": asdict(checks["dense"]) if "dense" in checks else None,
        "census": {name: count.to_dict() for name, count in counts.items()},
        "structure": [asdict(row) for row in structure(context.network).rows],
        "formats": formats["compressed"],
        "tflite": lite,
    }


def _images(context: Context, limit: int) -> Iterator[np.ndarray]:
    split = "test" if len(context.images.test) else "train"
    batches = zoo.numpy_batches(context.images, split, context.preprocessing, CHECK_BATCH, limit=limit)
    return (images for images, _ in batches)


def _form(tensor: Tensor) -> dict[str, Any]:
    """The form in which a tensor is stored, and its bytes in that form and dense."""
    sizes = stored_bytes(tensor)
    packed = pack_tensor(tensor)
    form = "dense" if packed is None else packed.description["format"]
    return {"format": form, "bytes": sizes[form], "dense_bytes": sizes["dense"]}


def _calibration(context: Context) -> Batches | None:
    """The images of the last stage `quantize` that made integers."""
    stages = context.recipe.stages[: len(context.finished)]
    quantized = [each for each in stages if isinstance(each, QuantizeStage) and each.numbers == "int8"]
    if not quantized:
        return None
    return images_for(context.images, quantized[-1], context.recipe.seed, context.preprocessing)[1]


def _last_quantized(context: Context) -> StageRecord | None:
    made = [stage for stage in context.finished if stage.kind == "quantize"]
    return made[-1] if made else None


def _numbers(context: Context) -> dict[str, Any] | None:
    """Bits of every layer of the quantized network, or why it stays float."""
    quantized = _last_quantized(context)
    return None if quantized is None else {key: quantized.result[key] for key in ("numbers", "layers", "floats")}


def _plan(context: Context, counts: dict[str, Any]) -> dict[str, Any]:
    """What was decided (pattern, levels, reasons) and what came of it, layer by layer."""
    return {
        "version": 1,
        "model": getattr(context.network, "zoo_options", None),
        "preprocessing": context.preprocessing.to_dict(),
        "classes": list(context.images.classes) if context.images.labelled else [],
        "sparsify": [plan for stage in context.finished for plan in stage.result.get("plans", [])],
        "masked_layers": sorted(masks(context.network)),
        "quantize": _numbers(context),
        "census": counts,
    }
