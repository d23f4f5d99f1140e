"""A small network on frozen features, whose number of epochs is what holds it back."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

HIDDEN, DROPOUT, BATCH = 64, 0.5, 64
RATE, DECAY = 1e-3, 1e-2
#: Networks whose mean predicts; they differ in where they start and in what they drop. While the
#: number of epochs is being chosen, one is enough.
MEMBERS = 3


def network_path(
    features: np.ndarray, target: np.ndarray, grid: Sequence[dict], seed: int
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Train small networks by absolute error, and keep them as they were after some epochs.

    Absolute error rather than squared: what is wanted is the median, and agreement has a long
    tail towards 0.

    Parameters
    ----------
    features : numpy.ndarray, shape (n, k)
        Standardised.
    target : numpy.ndarray, shape (n,)
    grid : sequence of dict
        Each with ``epochs``.
    seed : int

    Returns
    -------
    list of callable
        One for each number of epochs: from features, shape (m, k), to predictions, shape (m,).
    """
    x = torch.from_numpy(features.astype(np.float32))
    y = torch.from_numpy(target.astype(np.float32))
    wanted = [each["epochs"] for each in grid]
    count = MEMBERS if len(wanted) == 1 else 1
    with torch.random.fork_rng(devices=[]):
        members = [_train(x, y, set(wanted), 1000 * seed + i) for i in range(count)]
    return [
        lambda some, nets=tuple(member[epochs] for member in members): _mean(nets, some)
        for epochs in wanted
    ]


def _train(x: Tensor, y: Tensor, wanted: set[int], seed: int) -> dict[int, dict[str, Tensor]]:
    torch.default_generator.manual_seed(seed)
    net = _build(x.shape[1])
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.fill_(float(y.median()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    kept = {}
    for epoch in range(1, max(wanted) + 1):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            (net(x[rows])[:, 0] - y[rows]).abs().mean().backward()
            optimizer.step()
        if epoch in wanted:
            kept[epoch] = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return kept


def _build(n_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(DROPOUT),
        nn.Linear(n_features, HIDDEN),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, 1),
    )


def _mean(states: Sequence[dict[str, Tensor]], features: np.ndarray) -> np.ndarray:
    x, total = torch.from_numpy(features.astype(np.float32)), 0.0
    net = _build(features.shape[1]).eval()
    with torch.inference_mode():
        for state in states:
            net.load_state_dict(state)
            total = total + net(x)[:, 0].numpy().astype(float)
    return total / len(states)
