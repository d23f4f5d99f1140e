"""A network for tests, small, but with all that has a state."""

import torch
from torch import nn


class TinyNetwork(nn.Module):
    """A backbone with BatchNorm and a head with dropout; small, but with all that has a state."""

    def __init__(self, outputs: int = 1, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
            head = [nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, outputs)]
            self.heads = nn.ModuleDict({"iaa": nn.Sequential(*head)})
            if outputs == 2:
                self.heads["iaa"].append(nn.Softplus())

    def features(self, images):
        return self.backbone(images)

    def forward(self, images):
        features = self.backbone(images)
        return {name: head(features) for name, head in self.heads.items()}
