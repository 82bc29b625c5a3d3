"""A small ConvNet on top of the feature maps of all grids, trained on a label subset; the maps stay as they are.

    standardised maps -> conv 3x3 to 64, batch norm, ReLU -> dropout 0.5 -> dense to classes -> cross-entropy

Nothing of it is chosen by looking at errors: widths, rate and number of updates are the same for every method, data
set and number of labels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_UPDATES = 500
BATCH_SIZE = 100
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
WIDTH = 64
_TEST_BATCH = 1000
PROTOCOL = (
    f"conv 3x3 to {WIDTH} channels, batch norm, ReLU, dropout 0.5, dense; AdamW, {NUM_UPDATES} updates of "
    f"{BATCH_SIZE}, rate {LEARNING_RATE} with cosine decay, weight decay {WEIGHT_DECAY}; maps standardised by channel "
    "over the label subset"
)


class Head(nn.Module):
    """Maps [B, D, c, c] to class scores [B, K]."""

    def __init__(self, maps: Tensor, num_classes: int):
        """maps: [N, D, c, c], those it will be trained on, for their statistics."""
        super().__init__()
        deviation, mean = torch.std_mean(maps, dim=(0, 2, 3), keepdim=True)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 0, deviation, 1.0))
        channels, size = maps.shape[1:3]
        self.network = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(WIDTH * size * size, num_classes),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.network((maps - self.mean) / self.scale)


def fit_head(maps: Tensor, labels: Tensor, num_classes: int, *, seed: int, device: torch.device) -> Head:
    """maps: [N, D, c, c]; labels: int64 [N] from 0 to num_classes - 1. A function of these and the seed."""
    maps, labels = maps.to(device), labels.to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        head = Head(maps, num_classes).to(device).train()
        optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_UPDATES)
        for rows in _batches(len(maps)):
            rows = rows.to(device)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(head(maps[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.no_grad()
def predict(head: Head, maps: Tensor) -> np.ndarray:
    """int64 [N], the class of each."""
    device = head.mean.device
    return torch.cat([head(part.to(device)).argmax(1).cpu() for part in maps.split(_TEST_BATCH)]).numpy()


def _batches(num_rows: int) -> list[Tensor]:
    """NUM_UPDATES of them, going over all rows in a fresh order each time; fewer rows than a batch are one batch."""
    size = min(BATCH_SIZE, num_rows)
    per_epoch = num_rows // size
    orders = [torch.randperm(num_rows)[: per_epoch * size].split(size) for _ in range(-(-NUM_UPDATES // per_epoch))]
    return [batch for epoch in orders for batch in epoch][:NUM_UPDATES]
