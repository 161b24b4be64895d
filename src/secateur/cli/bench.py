"""`secateur bench`: times that may be compared."""

import json
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

ENGINE = "secateur"


def bench(
    target: Annotated[Path, Argument(help="A run folder (dense and compressed side by side) or an ONNX file.")],
    against: Annotated[
        str | None,
        Option(help="Runtimes to compare Secateur's engine with, comma-separated; by default all installed."),
    ] = None,
    batch: Annotated[str, Option(help="Batch sizes, comma-separated.")] = "1",
    threads: Annotated[str | None, Option(help="Thread counts; by default one, and all cores.")] = None,
    repeats: Annotated[int, Option(help="Timed runs of each candidate.")] = 100,
    warmup: Annotated[int, Option(help="Runs before that.")] = 20,
    max_seconds: Annotated[float, Option(help="Time limit of one batch and thread count.")] = 30.0,
    data: Annotated[str | None, Option("--data", "-d", help="Also measure accuracy on these images.")] = None,
    images: Annotated[int, Option(help="How many of them.")] = 512,
    input_size: Annotated[str | None, Option(help="For an ONNX file that does not say it.", metavar="CxHxW")] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time networks in every runtime, interleaved in one process, with memory and spread.

    All candidates take turns, so that a change of the machine's speed meets all of them. *times faster* is the least
    time that any runtime takes without using zeros / the time of the row. The lines below the table say which runtimes
    ignore zeros: there no speedup is to be expected from them.

    `secateur bench model.onnx --against onnxruntime,openvino`

    `secateur bench run --batch 1,8 --threads 1,2`
    """
    from secateur import inference
    from secateur.cli.values import numbers, shape, words

    result = inference.benchmark(
        target,
        runtimes=tuple(dict.fromkeys((ENGINE, *words(against)))) if against else (),
        batches=numbers("--batch", batch),
        threads=numbers("--threads", threads) if threads else (),
        repeats=repeats,
        warmup=warmup,
        max_seconds=max_seconds,
        data=data,
        images=images,
        input_size=shape("--input-size", input_size),
    )
    table = inference.speedups(target, result) if len({row.subject for row in result.rows}) > 1 else None
    if as_json:
        typer.echo(json.dumps({"benchmark": result.to_dict(), "speedups": table and table.to_dict()}, indent=2))
        return
    typer.echo(str(result))
    if table:
        typer.echo("\n" + str(table))
