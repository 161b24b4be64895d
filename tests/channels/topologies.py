"""Small networks, one for every way in which channels depend on one another; inputs are 3x8x8 unless said."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUTS = {"conv1d": (3, 16), "conv3d": (2, 4, 4, 4), "mlp": (6,), "tokens": (3, 8, 8)}


class Lambda(nn.Module):
    """A forward function over named layers."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **layers: Any) -> None:
        super().__init__()
        self._function = forward
        for name, layer in layers.items():
            if isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            elif isinstance(layer, Tensor):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self._function(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def normed(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, kernel, bias=False, **options), nn.BatchNorm2d(outputs), nn.ReLU())


def head(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 4))


def chain() -> nn.Module:
    return nn.Sequential(normed(3, 8), normed(8, 6), nn.MaxPool2d(2), conv(6, 5), nn.SiLU(), head(5))


def residual() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = F.relu(x + m.b(m.a(x)))
        return m.head(x + m.d(m.c(x)))

    return Lambda(forward, stem=normed(3, 8), a=normed(8, 6), b=conv(6, 8), c=normed(8, 4), d=conv(4, 8), head=head(8))


def residual_with_downsample() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(F.relu(m.down(x) + m.b(m.a(x))))

    return Lambda(
        forward,
        stem=normed(3, 6),
        a=normed(6, 8, stride=2),
        b=conv(8, 10),
        down=nn.Sequential(conv(6, 10, 1, stride=2), nn.BatchNorm2d(10)),
        head=head(10),
    )


def residual_padded() -> nn.Module:
    """The parameter-free shortcut of CIFAR's residual networks: pixels skipped, channels padded with zeros."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))
        return m.head(F.relu(m.b(m.a(x)) + shortcut))

    return Lambda(forward, stem=normed(3, 6), a=normed(6, 5, stride=2), b=conv(5, 12), head=head(12))


def concat() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(torch.cat([m.a(x), x, m.b(x)], dim=1))

    return Lambda(forward, stem=normed(3, 6), a=normed(6, 4), b=conv(6, 5), head=head(15))


def dense_concat() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        values = [m.stem(x)]
        for layer in (m.a, m.b, m.c):
            values.append(layer(torch.cat(values, dim=1)))
        return m.head(torch.cat(values, dim=1))

    def layer(inputs: int) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv(inputs, 4, bias=False))

    return Lambda(forward, stem=conv(3, 6), a=layer(6), b=layer(10), c=layer(14), head=head(18))


def concat_of_depthwise() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(m.point(torch.cat([m.a(x), m.b(x)], dim=1)))

    layers = {"stem": normed(3, 6), "a": normed(6, 6, groups=6), "b": normed(6, 6, 5, groups=6)}
    return Lambda(forward, **layers, point=normed(12, 8, 1), head=head(8))


def depthwise() -> nn.Module:
    return nn.Sequential(normed(3, 8), normed(8, 8, groups=8), normed(8, 12, 1), normed(12, 24, groups=12), head(24))


def grouped() -> nn.Module:
    return nn.Sequential(normed(3, 12), normed(12, 8, groups=4), normed(8, 6, 1), head(6))


def grouped_shuffled() -> nn.Module:
    """ShuffleNet v1 without its shuffle being cut: two grouped layers of different group counts."""
    return nn.Sequential(normed(3, 8), normed(8, 16, groups=2), normed(16, 16, groups=4), normed(16, 6, 1), head(6))


def squeeze_excite() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        scale = torch.sigmoid(m.expand(F.relu(m.reduce(x.mean((2, 3), keepdim=True)))))
        return m.head(m.point(x * scale))

    return Lambda(
        forward, stem=normed(3, 8), reduce=conv(8, 4, 1), expand=conv(4, 8, 1), point=normed(8, 6, 1), head=head(6)
    )


def gates() -> nn.Module:
    """One number for each pixel, and one for each image, that all channels are multiplied with."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = m.point(x * torch.sigmoid(m.pixel(x)))
        return m.head(torch.sigmoid(m.image(x.mean((2, 3))))[:, :, None, None] * x)

    return Lambda(
        forward, stem=normed(3, 8), pixel=conv(8, 1, 1), point=normed(8, 6, 1), image=nn.Linear(6, 1), head=head(6)
    )


def flatten() -> nn.Module:
    fc = nn.Linear(6 * 16, 10)
    return nn.Sequential(normed(3, 6), nn.MaxPool2d(2), nn.Flatten(), fc, nn.ReLU(), nn.Linear(10, 4))


def shared_layers() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for _ in range(2):
            x = F.relu(m.norm(m.twice(x)) + x)
        return m.head(m.last(x) + m.same(x))

    made = {
        "stem": normed(3, 6),
        "twice": conv(6, 6),
        "norm": nn.BatchNorm2d(6),
        "last": conv(6, 5),
        "same": conv(6, 5),
    }
    network = Lambda(forward, **made, head=head(5))
    network.same.weight = network.last.weight  # two modules, one weight
    return network


def two_outputs() -> nn.Module:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = m.stem(x)
        deep = m.body(x)
        return m.head(deep), m.early(x)

    return Lambda(forward, stem=normed(3, 6), body=normed(6, 8), head=head(8), early=head(6))


def conv1d() -> nn.Module:
    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv1d(inputs, outputs, 3, padding=1), nn.BatchNorm1d(outputs), nn.GELU())

    return nn.Sequential(block(3, 8), nn.MaxPool1d(2), block(8, 6), nn.Flatten(), nn.Linear(48, 5))


def conv3d() -> nn.Module:
    block = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2))
    return nn.Sequential(block, nn.Conv3d(6, 8, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


def transposed() -> nn.Module:
    up = nn.ConvTranspose2d(8, 6, 2, stride=2)
    return nn.Sequential(normed(3, 8), nn.MaxPool2d(2), up, nn.BatchNorm2d(6), nn.LeakyReLU(), conv(6, 4), head(4))


def parameters() -> nn.Module:
    """PReLU with a slope per channel, a layer scale, and a bias map that has no channels."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.head(x + m.scale * m.prelu(m.body(x)) + m.place)

    return Lambda(
        forward,
        stem=normed(3, 6),
        body=conv(6, 6),
        prelu=nn.PReLU(6),
        scale=nn.Parameter(torch.rand(6, 1, 1)),
        place=nn.Parameter(torch.rand(1, 1, 8, 8)),
        head=head(6),
    )


def position_embedding() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(F.relu(m.body(m.stem(x) + m.place)))

    return Lambda(forward, stem=conv(3, 6), place=nn.Parameter(torch.rand(1, 6, 8, 8)), body=conv(6, 5), head=head(5))


def pixel_shuffle() -> nn.Module:
    return nn.Sequential(normed(3, 24), nn.PixelShuffle(2), conv(6, 5), nn.ReLU(), head(5))


def split_halves() -> nn.Module:
    """ShuffleNet v2: halves, a branch, concat, shuffle; only the inside of the branch is free."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        left, right = x.chunk(2, dim=1)
        x = torch.cat([left, m.b(m.dw(m.a(right)))], dim=1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return m.head(m.last(x))

    layers = {"a": normed(4, 6, 1), "dw": normed(6, 6, groups=6), "b": normed(6, 4, 1)}
    return Lambda(forward, stem=normed(3, 8), **layers, last=normed(8, 6, 1), head=head(6))


def layer_norm() -> nn.Module:
    """ConvNeXt's block: the norm over channels freezes the stream, the expansion inside is free."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        y = m.norm(m.dw(x).permute(0, 2, 3, 1))
        y = m.down(F.gelu(m.up(y))) * m.gamma
        return m.head(x + y.permute(0, 3, 1, 2))

    return Lambda(
        forward,
        stem=conv(3, 6),
        dw=conv(6, 6, groups=6),
        norm=nn.LayerNorm(6),
        up=nn.Linear(6, 12),
        down=nn.Linear(12, 6),
        gamma=nn.Parameter(torch.rand(6)),
        head=head(6),
    )


def attention() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        tokens = m.stem(x).flatten(2).transpose(1, 2)
        q, k, v = m.qkv(tokens).chunk(3, dim=-1)
        tokens = tokens + m.out(F.scaled_dot_product_attention(q, k, v))
        return m.head((tokens + m.down(F.gelu(m.up(tokens)))).mean(1))

    return Lambda(
        forward,
        stem=conv(3, 8),
        qkv=nn.Linear(8, 24),
        out=nn.Linear(8, 8),
        up=nn.Linear(8, 16),
        down=nn.Linear(16, 8),
        head=nn.Linear(8, 4),
    )


def two_concats_added() -> nn.Module:
    """Two concats whose seams differ meet in a sum."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        left = torch.cat([m.a(x), m.b(x)], dim=1)
        right = torch.cat([m.c(x), m.d(x)], dim=1)
        return m.head(m.last(left + right))

    layers = {"a": conv(6, 4), "b": conv(6, 6), "c": conv(6, 7), "d": conv(6, 3)}
    return Lambda(forward, stem=normed(3, 6), **layers, last=normed(10, 6), head=head(6))


def transform_parameter() -> nn.Module:
    """A parameter that is used through its exponential."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.body(m.stem(x) * m.scale.exp().view(1, -1, 1, 1)))

    return Lambda(forward, stem=conv(3, 6), scale=nn.Parameter(torch.rand(6)), body=normed(6, 5), head=head(5))


def upsampled() -> nn.Module:
    """A small U-net: pooled, resized, and joined again."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        deep = F.interpolate(m.deep(F.avg_pool2d(x, 2)), size=x.shape[2:], mode="bilinear")
        return m.head(F.relu(m.last(F.pad(torch.cat([x, deep], dim=1), (1, 1, 1, 1)))))

    return Lambda(forward, stem=normed(3, 6), deep=normed(6, 8), last=nn.Conv2d(14, 7, 3), head=head(7))


TOPOLOGIES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build
    for build in (
        chain, residual, residual_with_downsample, residual_padded, concat, dense_concat, concat_of_depthwise,
        depthwise, grouped, grouped_shuffled, squeeze_excite, flatten, shared_layers, two_outputs, conv1d, conv3d, mlp,
        transposed, parameters, position_embedding, pixel_shuffle, split_halves, layer_norm, attention,
        two_concats_added, transform_parameter, upsampled, gates,
    )
}  # fmt: skip


def network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The named network with random weights, statistics and shifts, in evaluation mode."""
    torch.manual_seed(sum(name.encode()))
    return randomized(TOPOLOGIES[name]()).to(dtype)


def randomized(model: nn.Module) -> nn.Module:
    """Every norm gets statistics, scale and shift of its own, so that no mistake about them stays hidden."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def input_size(name: str) -> tuple[int, ...]:
    return INPUTS.get(name, (3, 8, 8))


def images(size: tuple[int, ...], dtype: torch.dtype = torch.float64, count: int = 3) -> Tensor:
    return torch.randn(count, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        result = model(x)
    return list(result) if isinstance(result, tuple) else [result]
