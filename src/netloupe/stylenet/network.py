"""A feed-forward network that paints a photo in one of several styles, or in a blend of them, in a single pass.

The transformer of Johnson et al. (2016) with instance normalization (Ulyanov et al. 2016), of which each style has
its own scales and shifts (Dumoulin et al. 2017): all else is shared by the styles.
"""

from __future__ import annotations

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
        else:
            mean = x.mean((2, 3), dtype=torch.float32)
            squares = torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32).square() / x[0, 0].numel()
            scale = scale * ((squares - mean.square()).clamp(min=0) + EPSILON).rsqrt()
            shift = shift - mean * scale
        return torch.addcmul(shift[:, :, None, None].to(x.dtype), x, scale[:, :, None, None].to(x.dtype))


class Convolution(nn.Module):
    """Reflection padding, convolution, `StyleNorm`. larger: enlarge the map so many times before, by repetition.

    Enlarging and then convolving leaves no checkerboard, as a transposed convolution does (Odena et al. 2016).
    """

    def __init__(
        self, styles: int, channels: int, out: int, kernel: int, norm: Norm, *, stride: int = 1, larger: int = 1
    ) -> None:
        super().__init__()
        self.larger = larger
        pad = kernel // 2
        self.conv = nn.Conv2d(channels, out, kernel, stride, pad, bias=False, padding_mode="reflect")
        self.norm = StyleNorm(styles, out, norm)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        if self.larger > 1:
            x = F.interpolate(x, scale_factor=float(self.larger), mode="nearest")
        y: Tensor = self.norm(self.conv(x), blend)
        return y


class Residual(nn.Module):
    """Two convolutions, whose result is added to what came in."""

    def __init__(self, styles: int, channels: int, norm: Norm) -> None:
        super().__init__()
        self.first = Convolution(styles, channels, channels, 3, norm)
        self.second = Convolution(styles, channels, channels, 3, norm)

    def forward(self, x: Tensor, blend: Tensor) -> Tensor:
        y: Tensor = x + self.second(F.relu(self.first(x, blend)), blend)
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
        self.up = nn.ModuleList(
            [
                Convolution(styles, quarter, half, 3, norm, larger=2),
                Convolution(styles, half, full, 3, norm, larger=2),
            ]
        )
        self.paint = Convolution(styles, full, 3, 9, norm)

    def forward(self, images: Tensor, blend: Tensor) -> Tensor:
        height, width = images.shape[2:]
        x = F.pad(images * 2 - 1, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        for convolution in self.down:
            x = F.relu(convolution(x, blend))
        for block in self.blocks:
            x = block(x, blend)
        for convolution in self.up:
            x = F.relu(convolution(x, blend))
        painted = self.paint.norm(self.paint.conv(x).float(), blend)  # in full precision, as pixels are
        return torch.sigmoid(painted)[:, :, :height, :width]

    def own(self) -> list[nn.Parameter]:
        """The parameters that each style has for itself, (styles, channels) each."""
        norms = [module for module in self.modules() if isinstance(module, StyleNorm)]
        return [parameter for norm in norms for parameter in (norm.scale, norm.shift)]

    @torch.no_grad()
    def extended(self, count: int) -> StyleNet:
        """This network with `count` styles more, each beginning as the mean of those that are there."""
        larger = StyleNet(self.styles + count, self.widths, len(self.blocks), self.norm)  # type: ignore[arg-type]
        state = self.state_dict()
        for name, value in larger.state_dict().items():
            if name.endswith((".scale", ".shift")):
                state[name] = torch.cat([state[name], state[name].mean(0, keepdim=True).expand(count, -1)])
            assert state[name].shape == value.shape
        larger.load_state_dict(state)
        return larger
