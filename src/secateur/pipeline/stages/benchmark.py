"""Stage `benchmark`: the compressed and the dense network, side by side, in every runtime."""

from typing import Any

from secateur.pipeline.context import Context, stage_handlers
from secateur.pipeline.folder_benchmark import measure_folder
from secateur.recipe import BenchmarkStage
from secateur.sparsity import census


@stage_handlers.register("benchmark")
def benchmark_stage(context: Context, stage: BenchmarkStage) -> dict[str, Any]:
    """returns    times, memory and accuracy of every runtime, and what the zeros promised and gave, also per layer

    raises        RecipeError  nothing has been exported yet
    """
    return measure_folder(
        context.folder,
        stage,
        context.images,
        context.preprocessing,
        own=census(context.network),
        dense=None if context.dense is None else census(context.dense),
        test_limit=context.recipe.data.test_limit,
    )
