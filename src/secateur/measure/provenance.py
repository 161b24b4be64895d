"""When, where and with what figures were measured: what stands above every recorded table."""

import contextlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from secateur.measure.machine import machine


def provenance(*packages: str, **more: Any) -> dict[str, Any]:
    """Plain JSON: the date, the processor and what it can, usable CPUs, versions of those packages that are installed.

    more    further facts, such as threads
    """
    here = machine()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": here.cpu,
        "cpus": here.cpus,
        "features": list(here.features),
        "versions": dict(_installed(packages)),
        **more,
    }


def provenance_line(about: Mapping[str, Any], remark: str = "") -> str:
    """One line of the facts that `provenance` gave, for the head of a table.

    remark    what else the times depend on, such as `one thread`
    """
    versions = (f"{name} {version}" for name, version in about["versions"].items())
    cpus = f"{about['cpus']} CPUs" if about["cpus"] != 1 else "1 CPU"
    parts = [about["date"], about["cpu"], f"{cpus} ({', '.join(about['features'])})", remark, *versions]
    return ", ".join(part for part in parts if part)


def _installed(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in sorted(packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
