"""Stage `quantize`: the network in numbers of fewer bits, as the file that runtimes compute with.

ptq    the float network is exported, calibrated on a few images without labels, and written in other numbers; it stays
       as it is
qat    it is trained with those numbers first, and keeps the rounded weights

stages/NN-quantize/
  model.onnx            the float network, with which every figure is compared
  model.int8.onnx ...   see pipeline/quantization/files.py; `export` takes them into the artifact
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from secateur.export import MODEL_FILE, export_onnx
from secateur.files import QUANTIZED_FILES
from secateur.graph import read_model
from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.methods import hooks_of
from secateur.pipeline.posttraining.images import Batches, images_for
from secateur.pipeline.quantization.carry_out import Made, as_arrays, quantize_file
from secateur.pipeline.quantization.files import write_quantized
from secateur.pipeline.quantization.judge import judged
from secateur.pipeline.quantization.outcome import result_of
from secateur.pipeline.stages.train import train_network
from secateur.quantization.noise import measure_noise
from secateur.quantization.qdq import write_qdq
from secateur.quantization.training import finish_, prepare_
from secateur.quantization.uncalibrated import ranges_of_network
from secateur.quantization.verify import verify
from secateur.recipe import QuantizationTraining, QuantizeStage


@stage_handlers.register("quantize")
def quantize_stage(context: Context, stage: QuantizeStage) -> dict[str, Any]:
    """returns    layers with their bits or the reason why they stay float; how near the files are; what every runtime
    makes of them; files; the rows of the training history, if there was one

    raises        QuantizationError, DataError, ExportError
    """
    folder = context.stage_folder
    calibration, batches, held_out = images_for(context.images, stage, context.recipe.seed, context.preprocessing)
    history: list[dict[str, Any]] = []
    float_file = folder / MODEL_FILE
    if stage.method == "qat":
        history, made = _trained(context, stage, batches, held_out, float_file)
    else:
        export_onnx(context.network, float_file, context.preprocessing.input_size)
        norms = None
        if stage.ranges == "bn":
            norms = ranges_of_network(context.network, context.preprocessing.input_size)
        made = quantize_file(read_model(float_file), stage, batches, held_out, context.recipe.seed, norms)
    written = write_quantized(folder, stage.numbers, made.model, made.table)
    found = judged(
        float_file,
        folder / QUANTIZED_FILES[stage.numbers],
        stage.numbers,
        context.images,
        context.preprocessing,
        min(stage.judge_images, context.recipe.data.test_limit or stage.judge_images),
    )
    result = result_of(stage, made, calibration, found, [float_file, *written])
    files = [path.relative_to(context.folder).as_posix() for path in (float_file, *written)]
    return result | {"files": files, **({"history": history} if history else {})}


def _trained(
    context: Context, stage: QuantizeStage, batches: Batches, held_out: Batches, float_file: Path
) -> tuple[list[dict[str, Any]], Made]:
    """Train the network with its numbers; (rows of the history, the quantized file and what it was made from)."""
    context.keep_dense()
    network = context.network
    prepared = prepare_(
        network,
        stage.qat or QuantizationTraining(),
        input_size=context.preprocessing.input_size,
        batches=batches(),
    )
    history = train_network(context, stage, hooks=(*hooks_of(stage), prepared.hook()))
    network.eval()
    finished = finish_(prepared, float_file, batches)
    model = read_model(float_file)
    table = replace(finished.table, floats={**finished.table.floats, **finished.floats})
    quantized = write_qdq(model, table)
    judges = as_arrays(held_out)
    report = {"verification": verify(model, quantized, judges).to_dict()}
    return history, Made(quantized, model, table, measure_noise(model, table, judges), report)
