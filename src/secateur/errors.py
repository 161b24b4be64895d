"""Errors are sentences: what was wrong, where, and what would be right.

Every error that a user can cause is one of these classes. The command line prints the sentence alone and exits
with code 2; a traceback always means a defect of Secateur itself.
"""


class SecateurError(Exception):
    """An error that its message explains completely; `str(error)` is one full sentence."""


class RecipeError(SecateurError):
    """A recipe or a command line asks for something that does not exist or contradicts itself."""


class ModelError(SecateurError):
    """A model is unknown, cannot be built, or its file cannot be read."""


class WeightsError(SecateurError):
    """A weights file is missing, damaged, or belongs to another model."""


class DataError(SecateurError):
    """Images or labels are missing, damaged, or do not fit the model."""


class SparsityError(SecateurError):
    """A pattern, level or allocation cannot be applied to these layers."""


class TrainingError(SecateurError):
    """Training cannot go on: a loss that is not a number, a checkpoint of another run."""


class PosttrainingError(SecateurError):
    """Weights cannot be removed after training: a layer whose inputs cannot be laid out, images that do not fit."""


class SingularGramError(PosttrainingError):
    """The inputs of a layer are so dependent that no damping makes their Gram matrix positive definite."""


class QuantizationError(SecateurError):
    """Numbers of few bits that cannot be chosen, fitted or written."""


class ExportError(SecateurError):
    """A model cannot be exported, or the exported file is not the same function."""


class ArtifactError(SecateurError):
    """A run folder or one of its files is incomplete, damaged, or of another version."""


class EngineError(SecateurError):
    """The engine cannot compile or run a model as asked: an unknown processor, a wrong input, an unusable setting."""


class MeasureError(SecateurError):
    """A runtime is missing or cannot run this model."""


class DiskError(SecateurError):
    """A file cannot be written: no space, no permission, not a folder."""
