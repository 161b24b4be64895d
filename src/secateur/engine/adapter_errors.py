"""Errors of the drop-in replacement: ours, and at the same time those that callers of ONNX Runtime catch.

    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:  # catches our InvalidArgument
    except ValueError:                                                   # catches our MissingInput

ONNX Runtime's own classes derive from nothing but Exception, so ours name the ones that they stand for.
"""

# ruff: noqa: N818 (they are called as ONNX Runtime calls its own)

from importlib import import_module
from typing import Any

from secateur.errors import EngineError, ModelError

# ONNX Runtime has no types.
_ORT: Any = import_module("onnxruntime.capi.onnxruntime_pybind11_state")


class MissingInput(EngineError, ValueError):
    """An input that the model needs was not given."""


class InvalidArgument(EngineError, _ORT.InvalidArgument):
    """An input has another shape or type, or a name is unknown."""


class NoTensor(EngineError, RuntimeError):
    """An input is nothing that could become an array."""


class WrongType(EngineError, TypeError):
    """An argument of a method is of another type."""


class InvalidOption(EngineError, ValueError):
    """A setting, or a list of providers, is impossible."""


class NotOffered(EngineError, NotImplementedError):
    """A method of ONNX Runtime that makes no sense here."""


class Failure(EngineError, _ORT.Fail, _ORT.InvalidGraph, _ORT.InvalidArgument, _ORT.NotImplemented):
    """ONNX Runtime, to which a part of the network was left, cannot run it either; `__cause__` is what it said."""


class NoSuchFile(ModelError, _ORT.NoSuchFile):
    """There is no file of that name."""


class InvalidProtobuf(ModelError, _ORT.InvalidProtobuf):
    """What was read is no ONNX model."""


class InvalidModel(ModelError, _ORT.Fail, _ORT.InvalidGraph, _ORT.InvalidArgument):
    """The model contradicts itself. Which class ONNX Runtime raises depends on which of its steps sees it first."""
