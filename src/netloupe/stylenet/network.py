"""A feed-forward network that paints a photo in one of several styles, or in a blend of them, in a single pass.

The transformer of Johnson et al. (2016) with instance normalization (Ulyanov et al. 2016), of which each style has
its own scales and shifts (Dumoulin et al. 2017): all else is shared by the styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.errors import InputError

Norm = Literal["instance", "batch"]

NORMS = ("instance", "batch")
EPSILON = 1e-5
STRIDE = 4  # sides are reduced by so much inside
LEAST = 16  # px, the shortest side


class StyleNorm(nn.Module):
    """Normalization whose scale and shift are blends of those of the styles (Dumoulin et al. 2017, eq. 5).

    instance: by the mean and deviation of each channel of each image. batch: by those of the whole batch, and once
    trained by those of all batches that were seen.
    """

    def __init__(self, styles: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))
        self.batch = nn.BatchNorm2d(channels, eps=EPSILON, affine=False) if norm == "batch" else None

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        """x (N, C, H, W), blend (N, styles)."""
        # no matrix product, which mixed precision would round
        scale, shift = ((blend[:, :, None] * each).sum(1) for each in (self.scale, self.shift))
        if self.batch is not None:
            x = self.batch(x)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # N, HW, C, as they lie in memory: sums over HW are fast
        if self.batch is None:
            mean = pixels.mean(1, dtype=torch.float32)
            squares = torch.linalg.vector_norm(pixels.float(), dim=1).square() / pixels.shape[1]
            scale = scale * ((squares - mean.square()).clamp(min=0) + EPSILON).rsqrt()
            shift = shift - mean * scale
        pixels = torch.addcmul(shift[:, None].to(x.dtype), pixels, scale[:, None].to(x.dtype))
        y: Tensor = pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return y


class Convolution(nn.Module):
    """Reflection padding, convolution, `StyleNorm`."""

    def __init__(self, styles: int, channels: int, out: int, kernel: int, norm: Norm, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False, padding_mode="reflect")
        self.norm = StyleNorm(styles, out, norm)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x), blend)
        return y


class Enlargement(nn.Module):
    """The map at twice its size by repetition, then reflection padding, a 3x3 convolution and `StyleNorm`.

    Enlarging and then convolving leaves no checkerboard, as a transposed convolution does (Odena et al. 2016).

    The large map is never made: where pixels are repeated, the 3x3 weights fall on 2x2 different ones, in another way
    for even and odd rows and columns. So four 2x2 convolutions of the small map, interleaved, are the same with 4/9 of
    the multiplications; and the reflected border of the large map is the repeated one of the small.
    """

    folds: Tensor

    def __init__(self, styles: int, channels: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, bias=False)
        self.norm = StyleNorm(styles, out, norm)
        even, odd = [[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]  # what of the three weights falls on the same pixel
        self.register_buffer("folds", torch.tensor([even, odd], dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        height, width = x.shape[2:]
        folded = torch.einsum("apk,bql,oikl->aboipq", self.folds, self.folds, self.conv.weight)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        found = F.conv2d(padded, folded.flatten(0, 2).contiguous(memory_format=torch.channels_last))
        parts = found.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # N, H + 1, W + 1, odd row, odd column, channels
        rows = [torch.stack([parts[:, a : a + height, b : b + width, a, b] for b in (0, 1)], 3) for a in (0, 1)]
        large = torch.stack([row.flatten(2, 3) for row in rows], 2).flatten(1, 2).permute(0, 3, 1, 2)
        y: Tensor = self.norm(large, blend)
        return y


class Residual(nn.Module):
    """Two convolutions, whose result is added to what came in."""

    def __init__(self, styles: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.first = Convolution(styles, channels, channels, 3, norm)
        self.second = Convolution(styles, channels, channels, 3, norm)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.relu_(self.first(x, blend)), blend)
        return y


class StyleNet(nn.Module):
    """Images (N, 3, H, W) in [0, 1] and blends (N, styles) -> the same images painted, in [0, 1].

    A blend has a weight for each style; one of them 1 and the others 0 is that style, and weights that add up to 1
    lie between styles. Sides of `LEAST` px or more; they need not be multiples of anything.
    widths: channels at full, half and quarter size. blocks: residual blocks at a quarter.
    """

    def __init__(
        self, styles: int, widths: tuple[int, int, int] = (16, 48, 96), blocks: int = 5, norm: Norm = "instance"
    ) -> None:
        super().__init__()
        if styles < 1 or len(widths) != 3 or min(widths) < 1 or blocks < 0 or norm not in NORMS:
            raise InputError(
                f"{styles} styles, widths {widths}, {blocks} blocks, norm {norm!r} (accepted: 1 or more, three numbers "
                f"of 1 or more, 0 or more, {' or '.join(NORMS)})"
            )
        self.styles, self.widths, self.norm = styles, tuple(widths), norm
        full, half, quarter = widths
        self.down = nn.ModuleList(
            [
                Convolution(styles, 3, full, 9, norm),
                Convolution(styles, full, half, 3, norm, stride=2),
                Convolution(styles, half, quarter, 3, norm, stride=2),
            ]
        )
        self.blocks = nn.ModuleList(Residual(styles, quarter, norm) for _ in range(blocks))
        self.up = nn.ModuleList([Enlargement(styles, quarter, half, norm), Enlargement(styles, half, full, norm)])
        self.paint = Convolution(styles, full, 3, 9, norm)

    def forward(self, images: Tensor, blend: Tensor) -> Tensor:
        height, width = images.shape[2:]
        x = F.pad(images * 2 - 1, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        for convolution in self.down:
            x = F.relu_(convolution(x, blend))
        for block in self.blocks:
            x = block(x, blend)
        for enlargement in self.up:
            x = F.relu_(enlargement(x, blend))
        painted = self.paint.norm(self.paint.conv(x).float(), blend)  # in full precision, as pixels are
        return torch.sigmoid(painted)[:, :, :height, :width]

    def own(self) -> list[nn.Parameter]:
        """The parameters that each style has for itself, (styles, channels) each."""
        norms = [module for module in self.modules() if isinstance(module, StyleNorm)]
        return [parameter for norm in norms for parameter in (norm.scale, norm.shift)]

    @torch.no_grad()
    def with_styles(self, rows: Sequence[int | None]) -> StyleNet:
        """This network with other styles: those of the given numbers, and for None the mean of all that are here."""
        other = StyleNet(len(rows), self.widths, len(self.blocks), self.norm)  # type: ignore[arg-type]
        state = self.state_dict()
        for name in [name for name in state if name.endswith((".scale", ".shift"))]:
            mean = state[name].mean(0)
            state[name] = torch.stack([mean if row is None else state[name][row] for row in rows])
        other.load_state_dict(state)
        return other
