"""The files of a quantized network: written by the stage, taken into the artifact by `export`.

model.int8.onnx             with QuantizeLinear and DequantizeLinear (or model.fp16.onnx, model.bf16.onnx)
weights.int8.safetensors    the same in little space: integers, sparse ones compact, and the graph
scales.json                 the step and zero point of every value and weight, and what stays float
"""

import shutil
from pathlib import Path

import onnx

from secateur.export import QUANTIZED_NAMES, QUANTIZED_WEIGHTS, SCALES_FILE, save_packed_onnx
from secateur.files import QUANTIZED_FILES, atomic_path
from secateur.pipeline.onnx_files import write_model
from secateur.quantization.table import ScaleTable


def write_quantized(folder: Path, numbers: str, model: onnx.ModelProto, table: ScaleTable | None) -> list[Path]:
    """The files that were written. raises ExportError, ArtifactError, DiskError"""
    written = [folder / QUANTIZED_FILES[numbers], folder / QUANTIZED_WEIGHTS[numbers]]
    write_model(model, written[0])
    save_packed_onnx(written[1], model)
    if table is not None:
        written.append(folder / SCALES_FILE)
        table.save(written[-1])
    return written


def take_quantized(source: Path, folder: Path) -> list[Path]:
    """Copy what a stage has written into the artifact; the files there. raises DiskError"""
    taken = [folder / name for name in QUANTIZED_NAMES if (source / name).is_file()]
    for path in taken:
        with atomic_path(path) as temporary:
            shutil.copyfile(source / path.name, temporary)
    return taken
