"""One registry per extension point: a decorator and a dict.

patterns = Registry("pattern")

@patterns.register("unstructured")
class Unstructured: ...

patterns["unstructred"]   # RecipeError: unknown pattern 'unstructred'. Did you mean 'unstructured'? ...
"""

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

from secateur.errors import RecipeError

T = TypeVar("T")
Entry = TypeVar("Entry")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be, if any is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not known: says the nearest one and lists a few."""
    names = sorted(known)
    guess = nearest(name, names)
    hint = f" Did you mean '{guess}'?" if guess else ""
    listed = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"unknown {kind} '{name}'.{hint} Known: {listed}."


class Registry(dict[str, T]):
    """Names of one kind of thing; looking up a name that is not there raises RecipeError with the nearest name."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, *names: str) -> Callable[[Entry], Entry]:
        """Decorator that files the decorated object under every one of `names`."""

        def add(entry: Entry) -> Entry:
            for name in names:
                if name in self:
                    raise ValueError(f"{self.kind} '{name}' is registered twice")
                self[name] = entry  # type: ignore[assignment]
            return entry

        return add

    def __missing__(self, name: str) -> T:
        raise RecipeError(unknown(self.kind, name, self))
