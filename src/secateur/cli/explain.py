"""`secateur explain`: how a network is computed, and where its time goes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option


class Precision(StrEnum):
    float32 = "float32"
    bf16 = "bf16"


class Primitive(StrEnum):
    auto = "auto"
    direct = "direct"
    gemm = "gemm"
    pack = "pack"


def explain(
    model: Annotated[Path, Argument(help="An ONNX file from any tool, or a run folder.")],
    threads: Annotated[int | None, Option(help="Of one run; by default all cores.")] = None,
    batch: Annotated[int, Option(help="Where the model leaves it open.")] = 1,
    primitive: Annotated[
        Primitive,
        Option(help="How convolutions read their input: in place, from an im2col matrix, from packed tiles."),
    ] = Primitive.auto,
    tune: Annotated[
        bool, Option("--tune", help="Time candidates of every layer on this machine; results are kept.")
    ] = False,
    precision: Annotated[
        Precision, Option(help="Of what is multiplied; bf16 where the processor has it.")
    ] = Precision.float32,
    dense: Annotated[
        bool, Option("--dense/--no-dense", help="Also time every layer with its zeros kept: the achieved speedup.")
    ] = True,
    kernels: Annotated[bool, Option("--kernels", help="Also the name of every layer's kernel.")] = False,
    dump: Annotated[
        Path | None, Option(help="Write LLVM IR and assembly of every kernel into this folder.", metavar="FOLDER")
    ] = None,
    as_json: Annotated[
        Path | None, Option("--json", help="Write all of it, unrounded, as JSON; - prints it.", metavar="FILE")
    ] = None,
) -> None:
    """Say layer by layer how the engine computes a network, how fast, and why a layer stays dense.

    Zeros are found, not declared: the file may come from any tool. *expected* is what a layer's zeros promise
    (multiply-adds of all weights / of nonzero ones), *achieved* its time with all weights / its time. GFLOP/s count
    nonzero weights only. What has no kernel runs in ONNX Runtime, and the last lines say which nodes and why.

    `secateur explain model.onnx`

    `secateur explain run --threads 1 --tune --json layers.json`
    """
    import json

    from secateur import inference
    from secateur.engine.dump import dump_kernels
    from secateur.files import write_json

    how = {"primitive": primitive.value, "tune": tune, "precision": precision.value}
    with inference.compile(model, threads=threads, batch=batch, **how) as session:
        profile = session.profile(against_dense=dense)
        files = dump_kernels(session.kernels().values(), session.target, dump) if dump is not None else []
    if as_json is not None and str(as_json) == "-":
        typer.echo(json.dumps(profile.to_dict(), indent=2))
        return
    typer.echo(str(profile))
    if kernels:
        typer.echo("\n" + profile.report.kernels())
    if dump is not None:
        typer.echo(f"{len(files)} files in {dump}")
    if as_json is not None:
        write_json(as_json, profile.to_dict())
        typer.echo(str(as_json))
