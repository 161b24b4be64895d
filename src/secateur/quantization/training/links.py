"""Taking some links out of a module's parametrizations; the others stay, in their order."""

from typing import cast

from torch import nn
from torch.nn.utils import parametrize


def take_links_(module: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> None:
    """Take the links of these kinds away; the tensors behind them stay what they are."""
    if not parametrize.is_parametrized(module):
        return
    chains = cast(nn.ModuleDict, module.parametrizations)
    links = {name: list(chain.children()) for name, chain in chains.items()}
    if not any(isinstance(link, kinds) for chain in links.values() for link in chain):
        return
    behind = {name: cast(nn.Parameter, chain.original) for name, chain in chains.items()}
    # torch's remove_parametrizations edits the module's class, which a deep copy shares with its original. Here the
    # module gets its plain class back by itself, and the links that stay are registered again.
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, parameter in behind.items():
        module.register_parameter(name, parameter)
        for link in links[name]:
            if not isinstance(link, kinds):
                # unsafe: the shape stays, as in sparsity.attach_masks_.
                parametrize.register_parametrization(module, name, link, unsafe=True)
