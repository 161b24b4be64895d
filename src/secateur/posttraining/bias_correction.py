"""Bias correction: the outputs of a pruned layer get the mean of the dense ones.

    dense inputs     b' = b + (W - W^) m                  m: mean column that the layer gets in the dense network
    sparse inputs    b' = (W m + b) - W^ m^               m^: in the pruned one, so the drift of the prefix goes too

The new value replaces the bias. A layer without one gains it, or the norm behind it takes the shift: its running mean
becomes that of the dense norm less b'.

Source: Nagel et al. 2019 (data-free quantization), MSBench; by linearity the same as the mean of their output images.
"""

from collections.abc import Mapping
from typing import Literal, cast

from torch import Tensor

from secateur.errors import PosttrainingError
from secateur.posttraining.gram import Gram
from secateur.posttraining.output_statistics import bias_or_zero, output_mean
from secateur.posttraining.subject import Subject
from secateur.posttraining.subject_torch import TorchSubject
from secateur.sparsity.norms import following_norms, norm_modules


def correct_biases_(
    subject: Subject,
    dense: Subject,
    grams: Mapping[str, Gram],
    *,
    inputs: Mapping[str, Gram] | None = None,
    into: Literal["bias", "norm"] = "bias",
) -> dict[str, Tensor]:
    """Correct the layers that have a Gram, in its order.

    grams      of the inputs in the dense network
    inputs     of those in the pruned one; None for the form of dense inputs. `FreshGrams` gathers each when its turn
               comes, after the layers before it have been corrected
    into       norm: where a layer has no bias and a batch norm alone gets its output, that norm takes the shift
    returns    layer name -> (C_out,) the new bias, also where a norm took it
    raises     PosttrainingError  a Gram of another layer
    """
    behind = norms_behind(subject, dense) if into == "norm" else {}
    corrected: dict[str, Tensor] = {}
    for name, gram in grams.items():
        if inputs is not None and name not in inputs:
            raise PosttrainingError(f"{name}: the Gram of its inputs in the pruned network is missing.")
        wanted = output_mean(dense.weight(name), gram, name)
        wanted = wanted + bias_or_zero(dense, name, wanted)
        now = subject.weight(name)
        bias = (wanted - output_mean(now, gram if inputs is None else inputs[name], name)).float()
        store_with_bias_(subject, behind, name, now, bias.to(now.device))
        corrected[name] = bias
    return corrected


def store_with_bias_(
    subject: Subject,
    behind: Mapping[str, tuple[Tensor, Tensor]],
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None = None,
) -> None:
    """Store a layer; its new bias goes into the norm behind it where the layer has none of its own.

    behind    of `norms_behind`
    bias      (C_out,) None: it stays
    """
    if bias is not None and name in behind and subject.bias(name) is None:
        means, dense_means = behind[name]
        means.copy_(dense_means.to(means) - bias.to(means))
        bias = None
    subject.store_(name, weight, bias, mask)


def norms_behind(subject: Subject, dense: Subject) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> running mean of the batch norm that alone gets its output, and the same of the dense network.

    Nothing for ONNX files, whose norms are part of the weights.
    """
    if not isinstance(subject, TorchSubject) or not isinstance(dense, TorchSubject):
        return {}
    own, theirs = norm_modules(subject.model), norm_modules(dense.model)
    return {
        layer: (cast(Tensor, own[norm].running_mean), cast(Tensor, theirs[norm].running_mean).detach())
        for layer, norm in following_norms(subject.model, subject.input_size).items()
        if norm in theirs
    }
