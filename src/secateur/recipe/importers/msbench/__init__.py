"""MSBench: `sparsity:` of its training, and `sparse:` of its tool for networks that are trained already."""

from secateur.recipe.importers.msbench.file import MSBenchFile

__all__ = ["MSBenchFile"]
