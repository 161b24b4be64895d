"""What all sections of a recipe have in common."""

from typing import Annotated, Any, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, strict about its keys, without infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: object) -> object:
        """YAML reads `yes`, `no`, `on` and `off` as truth, which Python would count as 1 and 0."""
        for key, value in cast(dict[str, Any], given).items() if isinstance(given, dict) else ():
            types = _types_in(cls.model_fields[key].annotation) if key in cls.model_fields else set[Any]()
            if isinstance(value, bool) and types & {int, float} and bool not in types:
                raise ValueError(f"{key} is a number, not {str(value).lower()}")
        return given


def _types_in(annotation: Any) -> set[Any]:
    """The types that a union or an annotated type is made of."""
    parts = get_args(annotation)
    return set[Any]().union(*map(_types_in, parts)) if parts else {annotation}
