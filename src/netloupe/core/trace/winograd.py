"""Convolutions of 3 x 3 px with fewer multiplications: Winograd's F(2 x 2, 3 x 3).

Four outputs in a square take 16 multiplications per pair of channels instead of 36 (Lavin & Gray, CVPR 2016, eq. 12 to
14): Y = A^T [(G g G^T) * (B^T d B)] A. On CPUs this is faster where there are many channels, since the transforms of
pixels cost additions only. The result differs from the direct sum by rounding, and is no farther from the true one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MANY = 256 * 512  # input times output channels, from which it is worth it
WORKING_SET = 4 * 2**20  # bytes of pixels at once, so that their transforms stay in the cache

_G = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float64)


def suits(pixels: Tensor, weight: Tensor, stride: list[int], dilation: list[int], groups: int) -> bool:
    """Whether a convolution without padding is one for `winograd`."""
    plain = tuple(weight.shape[2:]) == (3, 3) and {*stride, *dilation} == {1} and groups == 1
    many = weight.shape[0] * weight.shape[1] >= MANY
    return plain and many and pixels.device.type == "cpu" and pixels.dtype == torch.float32


def transformed(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (16, C, O): G g G^T."""
    g = _G.to(weight.device)
    return torch.einsum("ai,ocij,bj->abco", g, weight.double(), g).float().flatten(0, 1).contiguous()


def winograd(pixels: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of (N, C, h, w) with `transformed` weights: (N, O, h - 2, w - 2), both channels last."""
    odd = pixels.shape[2] % 2, pixels.shape[3] % 2
    count, height, width = len(pixels), pixels.shape[2] - 2 + odd[0], pixels.shape[3] - 2 + odd[1]
    found = pixels.new_empty(count, height, width, kernels.shape[2])
    at_once = max(1, WORKING_SET // (pixels[0].numel() * pixels.element_size()))
    for start in range(0, count, at_once):
        some = F.pad(pixels[start : start + at_once].permute(0, 2, 3, 1), (0, 0, 0, odd[1], 0, odd[0]))
        _tiles(some, kernels, found[start : start + at_once])
    if bias is not None:
        found += bias
    return found.permute(0, 3, 1, 2)[..., : height - odd[0], : width - odd[1]]


def _tiles(pixels: Tensor, kernels: Tensor, out: Tensor) -> None:
    """`pixels` (n, h, w, C), h and w even, to `out` (n, h - 2, w - 2, O)."""
    n, height, width, channels = pixels.shape
    high, wide = height // 2 - 1, width // 2 - 1
    columns = pixels.new_empty(4, n, high, width, channels)
    _inward(pixels, 1, columns)
    tiles = pixels.new_empty(4, 4, n, high, wide, channels)
    for i in range(4):
        _inward(columns[i], 2, tiles[i])
    products = pixels.new_empty(16, n * high * wide, kernels.shape[2])
    for tile, kernel, product in zip(tiles.view(16, -1, channels), kernels, products, strict=True):
        torch.mm(tile, kernel, out=product)
    places = out.view(n, high, 2, wide, 2, -1)
    for i, row in enumerate(_outward(products.view(4, 4, n, high, wide, -1))):
        for j, one in enumerate(_outward(row)):
            places[:, :, i, :, j] = one


def _inward(pixels: Tensor, axis: int, out: Tensor) -> None:
    """B^T d along an axis, for every second place: four tensors of half the length."""
    length = 2 * (pixels.shape[axis] // 2 - 1)
    a, b, c, d = (pixels[(slice(None),) * axis + (slice(i, i + length, 2),)] for i in range(4))
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])


def _outward(products: Tensor) -> tuple[Tensor, Tensor]:
    """A^T m along the first axis, of length 4."""
    a, b, c, d = products
    return (a + b).add_(c), (b - c).sub_(d)
