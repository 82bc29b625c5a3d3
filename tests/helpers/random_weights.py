"""EfficientNet-Lite0 of random weights that keep features at a scale: a test of vanishing ones would see nothing."""

from pathlib import Path

import torch
from torch import nn

from distmgcd.evaluation.features.efficientnet import EfficientNetLite0


def write_efficientnet(file: Path) -> Path:
    """Its state dict, as torch.save writes it; always the same."""
    generator, network = torch.Generator().manual_seed(0), EfficientNetLite0()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.01, 0.2, generator=generator)
                module.running_mean.normal_(0.0, 0.1, generator=generator)
                module.bias.normal_(0.2, 0.2, generator=generator)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0.0, 0.5 * module.weight[0].numel() ** -0.5, generator=generator)
    torch.save(network.state_dict(), file)
    return file
