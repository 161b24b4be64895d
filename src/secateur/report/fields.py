"""Reading the results of stages: every value is checked, and what is wrong is told with its file and key.

fields = Fields({"top1": 91.7}, "run/stages/01-evaluate/result.json")
fields.number("top1")       # 91.7
fields.number("top5")       # ArtifactError: run/stages/01-evaluate/result.json: 'top5' is missing; ...
"""

import math
from collections.abc import Iterator
from typing import Any, NoReturn

from secateur.errors import ArtifactError


class Fields:
    """A mapping of plain JSON whose values are read with the type that they must have."""

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise ArtifactError(f"{where}: damaged: a mapping is expected, found {type(value).__name__}.")
        self.value: dict[str, Any] = value

    def __contains__(self, key: str) -> bool:
        return self.value.get(key) is not None

    def fail(self, problem: str) -> NoReturn:
        raise ArtifactError(f"{self.where}: damaged: {problem}; run that stage again.")

    def number(self, key: str) -> float:
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(f"'{key}' is {_short(value)} and not a finite number")
        return value

    def integer(self, key: str) -> int:
        value = self.number(key)
        if value != int(value):
            self.fail(f"'{key}' is {value!r} and not a whole number")
        return int(value)

    def text(self, key: str) -> str:
        value = self._required(key)
        if not isinstance(value, str):
            self.fail(f"'{key}' is {_short(value)} and not a text")
        return value

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self else None

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self else None

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) else self.fail(f"'{key}' is no shape") for side in self._list(key))

    def fields(self, key: str) -> "Fields":
        return Fields(self._required(key), f"{self.where}: {key}")

    def rows(self, key: str) -> list["Fields"]:
        """The mappings in a list; none when the key is absent."""
        if key not in self:
            return []
        return [Fields(row, f"{self.where}: {key}[{index}]") for index, row in enumerate(self._list(key))]

    def items(self) -> Iterator[tuple[str, "Fields"]]:
        """Every key with the mapping under it."""
        for key in self.value:
            yield key, self.fields(key)

    def _list(self, key: str) -> list[Any]:
        value = self._required(key)
        return value if isinstance(value, list) else self.fail(f"'{key}' is {_short(value)} and not a list")

    def _required(self, key: str) -> Any:
        if key not in self:
            self.fail(f"'{key}' is missing")
        return self.value[key]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
