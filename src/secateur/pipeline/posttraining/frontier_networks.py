"""What a frontier is drawn of: a torch network, or the network in an ONNX file. It stays as it is; copies get zeros."""

import copy
from abc import ABC, abstractmethod
from pathlib import Path

from secateur.export import folded_copy
from secateur.graph import census_of_onnx
from secateur.graph.census import Census
from secateur.pipeline.context import Context
from secateur.pipeline.layer_seconds import measure_file_seconds, measure_layer_seconds
from secateur.pipeline.posttraining.gradients import norms_
from secateur.pipeline.posttraining.jobs import OnnxJob
from secateur.pipeline.posttraining.onnx_accuracy import check_classes, onnx_accuracy
from secateur.pipeline.posttraining.steps import Steps
from secateur.posttraining.losses import Batches, Divergence
from secateur.posttraining.subject import Subject
from secateur.posttraining.subject_onnx import OnnxSubject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity import LayerSeconds, census
from secateur.training import Accuracy, evaluate
from secateur.zoo import ImageData, Preprocessing


class FrontierNetwork(ABC):
    """A dense network with its images.

    dense         the network
    images        they calibrate and judge
    labels        what accuracy is measured on, as JSON
    """

    dense: Subject
    images: ImageData
    preprocessing: Preprocessing
    labels: object
    seed: int

    @abstractmethod
    def copy(self) -> Subject:
        """Another one, to be changed."""

    @abstractmethod
    def census(self) -> Census:
        """Of the dense network."""

    @abstractmethod
    def seconds(self, pattern: str, threads: int) -> LayerSeconds:
        """How long every layer takes with and without zeros, measured now."""

    @abstractmethod
    def accuracy(self, subject: Subject) -> Accuracy | None:
        """On labelled test images; None where there are none."""

    @abstractmethod
    def settle_(self, subject: Subject, distance: Divergence, batches: Batches, folder: Path) -> None:
        """What is estimated again once a copy has its zeros."""


class TorchNetwork(FrontierNetwork):
    """The network of a run's context, norms folded away where nothing depends on them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._network = folded_copy(context.network).eval()
        self.dense = TorchSubject(self._network)
        self.images, self.preprocessing, self.seed = context.images, context.preprocessing, context.recipe.seed
        self.labels = context.recipe.data.model_dump()

    def copy(self) -> TorchSubject:
        return TorchSubject(copy.deepcopy(self._network))

    def census(self) -> Census:
        return census(self._network, self.preprocessing.input_size)

    def seconds(self, pattern: str, threads: int) -> LayerSeconds:
        return measure_layer_seconds(self._network, pattern, threads=threads)

    def accuracy(self, subject: Subject) -> Accuracy | None:
        assert isinstance(subject, TorchSubject)
        if not self.images.labelled:
            return None
        limit = self._context.recipe.data.test_limit
        return evaluate(subject.model, self.images, self.preprocessing, limit=limit)

    def settle_(self, subject: Subject, distance: Divergence, batches: Batches, folder: Path) -> None:
        assert isinstance(subject, TorchSubject)
        steps = Steps(subject.model, self._network, distance, folder)
        steps.begin("closed form")
        norms_(steps, batches)


class OnnxNetwork(FrontierNetwork):
    """The network in an ONNX file. raises ModelError, DataError"""

    def __init__(self, job: OnnxJob) -> None:
        self._job = job
        self.dense = self._dense = OnnxSubject(job.model, job.preprocessing)
        self.images, self.preprocessing, self.seed = job.images, job.preprocessing, job.seed
        if job.data is not None:
            check_classes(self._dense, job.data)
        self.labels = None if job.data is None else [job.data.name, job.test_limit]

    def copy(self) -> OnnxSubject:
        return self._dense.copy()

    def census(self) -> Census:
        return census_of_onnx(self._dense.model, input_shape=self.preprocessing.input_size)

    def seconds(self, pattern: str, threads: int) -> LayerSeconds:
        return measure_file_seconds(self._dense.model, self.preprocessing, pattern, threads=threads)

    def accuracy(self, subject: Subject) -> Accuracy | None:
        assert isinstance(subject, OnnxSubject)
        return None if self._job.data is None else onnx_accuracy(subject, self._job.data, self._job.test_limit)

    def settle_(self, subject: Subject, distance: Divergence, batches: Batches, folder: Path) -> None:
        """Nothing: the statistics of a file's norms are part of its weights."""
