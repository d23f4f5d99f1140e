"""Attention between maps, patch by patch (Wu et al. 2024, Eqs. 6 to 10)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.diagnosis_first.errors import DiagnosisFirstError

#: Patches along a side of a map, at most: attention costs their fourth power.
TOKENS = 8
#: What attention adds counts this much at first, so that a pre-trained encoder stays what it is.
FIRST_SCALE = 0.1


class PatchAttention(nn.Module):
    r"""What one map finds in another: :math:`\mathrm{MLP}(\mathrm{softmax}(QK^T/\sqrt{P^2C})\,V)`.

    Both maps are cut into patches of P x P pixels; queries come from the first, keys and values
    from the second, each by a linear map, with sinusoidal positions added (learnt ones in the
    released code, which also adds LayerNorm, heads and dropped paths).

    Parameters
    ----------
    query, memory : int
        Channels of the two maps.
    patch : int
        P. Maps whose sides are no multiples of it are padded with zeros and cut again.
    scale : float
        What the result is multiplied by at first; it is learnt.
    """

    def __init__(self, query: int, memory: int, patch: int = 1, scale: float = FIRST_SCALE):
        super().__init__()
        if patch < 1:
            raise DiagnosisFirstError(f"patches of {patch} pixels: give 1 or more")
        self.patch = patch
        inside, other = query * patch**2, memory * patch**2
        self.width = other
        self.query = nn.Linear(inside, other)
        self.key, self.value = nn.Linear(other, other), nn.Linear(other, other)
        self.mlp = nn.Sequential(nn.Linear(other, other), nn.GELU(), nn.Linear(other, other))
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        query : torch.Tensor, shape (B, query, h, w)
        memory : torch.Tensor, shape (B, memory, h, w)

        Returns
        -------
        torch.Tensor, shape (B, memory, h, w)

        Raises
        ------
        DiagnosisFirstError
            If the maps differ in height or width.
        """
        if query.shape[-2:] != memory.shape[-2:]:
            shapes = f"{tuple(query.shape)} and {tuple(memory.shape)}"
            raise DiagnosisFirstError(f"maps of shapes {shapes}: give one height and width")
        height, width = query.shape[-2:]
        first, grid = self._tokens(query)
        second, _ = self._tokens(memory)
        q = self.query(first) + _positions(grid, self.width).to(first)
        k = self.key(second) + _positions(grid, self.width).to(first)
        weights = (q @ k.transpose(1, 2) / math.sqrt(self.width)).softmax(-1)
        found = self.mlp(weights @ self.value(second)).transpose(1, 2)
        sides = tuple(n * self.patch for n in grid)
        maps = F.fold(found, sides, self.patch, stride=self.patch)
        return self.scale * maps[..., :height, :width]

    def _tokens(self, maps: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Cut a map into patches: (B, N, P * P * C), and how many there are along each side."""
        height, width = maps.shape[-2:]
        padded = F.pad(maps, (0, -width % self.patch, 0, -height % self.patch))
        grid = tuple(side // self.patch for side in padded.shape[-2:])
        return F.unfold(padded, self.patch, stride=self.patch).transpose(1, 2), grid


def patch_for(size: int, stride: int) -> int:
    """Return the side of patches that leaves no more than 8 x 8 of an encoder's map."""
    return max(1, -(-(size // stride) // TOKENS))


def _positions(grid: tuple[int, int], width: int) -> Tensor:
    """Give every patch sines and cosines of its row and column: (rows * columns, width)."""
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in grid), indexing="ij")
    frequencies = 10000 ** (-torch.arange(0, width, 4).float() / max(width, 1))
    waves = []
    for place in (rows.flatten(), columns.flatten()):
        angles = place[:, None] * frequencies
        waves += [angles.sin(), angles.cos()]
    return torch.cat(waves, 1)[:, :width]
