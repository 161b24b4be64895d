"""How an imported recipe ends: as one from the command line does."""

from typing import Any

FINISH: tuple[dict[str, Any], ...] = (
    {"stage": "evaluate"},
    {"stage": "export"},
    {"stage": "benchmark"},
    {"stage": "report"},
)
