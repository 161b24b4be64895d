"""Why a measurement has no figure: a category instead of a blank."""

from enum import StrEnum

from secateur.errors import MeasureError


class Failure(StrEnum):
    """The categories of a result row that could not be filled, or whose figure must not be trusted."""

    MISSING = "runtime not installed"
    NOT_SUPPORTED = "not supported by runtime"
    CRASHED = "crashed"
    TIME_LIMIT = "did not finish in the limit"
    ACCURACY = "accuracy unusable"
    NOT_TUNABLE = "not tunable"
    IGNORES_ZEROS = "runtime ignores zeros"


class RunError(MeasureError):
    """A runtime cannot do what was asked of it; `category` says which kind of no it is."""

    def __init__(self, category: Failure, message: str) -> None:
        super().__init__(message)
        self.category = category

    def __reduce__(self) -> tuple[type["RunError"], tuple[Failure, str]]:
        return RunError, (self.category, str(self))


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or its class name."""
    # OpenVINO begins with the places in its source that an exception came through.
    lines = (line.strip() for line in str(error).splitlines() if not line.strip().startswith("Exception from "))
    return next((line for line in lines if line), type(error).__name__)
