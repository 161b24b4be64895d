"""One-shot:   s(t) = s   from the first step on; the masks are chosen once."""

from dataclasses import dataclass

from secateur.sparsity.schedule import Unit, check_levels, schedules


@schedules.register("one_shot")
@dataclass(frozen=True)
class OneShot:
    """All zeros at position 0; the masks are chosen once."""

    final: float
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        check_levels(self.final)

    @property
    def first(self) -> int:
        return 0

    @property
    def stop(self) -> int | None:
        return None

    def sparsity_at(self, position: int) -> float:
        return self.final

    def due(self, position: int) -> bool:
        return position == 0
