"""Things of the user's own code, named `package.module:callable`."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateur.errors import SecateurError


def is_spec(name: str) -> bool:
    """Whether `name` has the form package.module:callable."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def import_callable(spec: str, error_class: type[SecateurError]) -> Callable[..., Any]:
    """The callable that `package.module:callable` names; modules in the working folder are found too.

    raises    error_class  when module or attribute does not exist, or the module fails while it is imported
    """
    module_name, _, attribute = spec.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise error_class(f"{spec}: module '{module_name}' cannot be imported: {describe(error)}.") from error
    finally:
        sys.path.remove(here)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise error_class(f"{spec}: module '{module_name}' has no callable named '{attribute}'.")
    return found


def call(spec: str, function: Callable[..., Any], error_class: type[SecateurError], **arguments: Any) -> Any:
    """What the user's `function` returns; whatever it raises becomes a sentence, with its cause attached."""
    try:
        return function(**arguments)
    except SecateurError:
        raise
    except Exception as error:
        raise error_class(f"{spec}: failed with {describe(error)}.") from error


def describe(error: BaseException) -> str:
    """Class and first line of an error, without a final full stop."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
