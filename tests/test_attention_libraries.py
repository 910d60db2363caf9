"""Attention of timm, torchvision and transformers, with random weights: fused and eager, windows and pooling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netloupe
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from torchvision_operators import define_operators

define_operators()


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is not installed")


def weights(module: nn.Module, size: int) -> dict[str, Tensor]:
    """Of two images, by name; each row adds up to 1, and heads look somewhere."""
    torch.manual_seed(1)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif "logit_scale" in name:
            nn.init.ones_(parameter)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = dict(netloupe.attention(Network(module.eval(), InputSpec(size=(size, size))), images))
    assert all(torch.allclose(one.sum(-1), torch.ones(()), atol=1e-5) for one in found.values())
    assert all(float(one.std(-1).mean()) > 1e-4 for one in found.values())
    return found


@pytest.mark.parametrize(
    ("name", "options", "shapes"),
    [
        ("vit_tiny_patch16_224", {"img_size": 48}, [(3, 10, 10)] * 2),
        ("vit_tiny_patch16_224", {"img_size": 48, "reg_tokens": 4}, [(3, 14, 14)] * 2),
        ("vit_base_patch16_siglip_224", {"img_size": 48}, [(12, 9, 9)] * 2 + [(12, 1, 9)]),
        ("eva02_tiny_patch14_224", {"img_size": 42}, [(3, 10, 10)] * 2),  # rotary
        ("cait_xxs24_224", {"img_size": 48}, [(4, 9, 9)] * 2 + [(4, 1, 10)] * 2),  # talking heads
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "depths": (2, 1)}, [(4, 3, 49, 49)] * 2 + [(6, 49, 49)]),
    ],
)
def test_timm(timm: Any, name: str, options: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    depth = {} if "depths" in options else {"depth": 2}
    found = []
    try:
        for fused in (True, False):
            timm.layers.set_fused_attn(fused)
            torch.manual_seed(0)
            found.append(weights(timm.create_model(name, **options, **depth), options["img_size"]))
    finally:
        timm.layers.set_fused_attn(True)
    fused, eager = found
    assert [tuple(one.shape[1:]) for one in fused.values()] == shapes
    assert list(fused) == list(eager)
    assert all(torch.allclose(fused[layer], eager[layer], atol=1e-5) for layer in fused)


def test_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    vit = torchvision.models.VisionTransformer(32, 8, 2, 3, 24, 32, num_classes=5)
    found = weights(vit, 32)
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        f"encoder.layers.encoder_layer_{i}.self_attention": (2, 3, 17, 17) for i in range(2)
    }
    x = torch.rand(1, 17, 24)
    attn = vit.encoder.layers[1].self_attention
    kept: list[Tensor] = []
    attn.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    images = torch.rand(1, 3, 32, 32)
    mine = netloupe.attention(Network(vit, InputSpec(size=(32, 32))), images)[list(found)[1]]
    x = kept[-1]
    assert torch.allclose(mine, attn(x, x, x, average_attn_weights=False)[1], atol=1e-6)
    swin = torchvision.models.swin_transformer.SwinTransformer([4, 4], 12, [2, 1], [2, 3], [4, 4], num_classes=5)
    assert [tuple(one.shape) for one in weights(swin, 32).values()] == [(2, 4, 2, 16, 16)] * 2 + [(2, 3, 16, 16)]


def test_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    plain = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    plain |= {"image_size": 32, "patch_size": 8}
    swin = {"image_size": 32, "patch_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2]}
    for kind, given, shapes in (
        ("ViT", plain, [(3, 17, 17)] * 2),
        ("Dinov2WithRegisters", plain, [(3, 21, 21)] * 2),
        ("CLIPVision", plain, [(3, 17, 17)] * 2),
        ("SiglipVision", plain, [(3, 16, 16)] * 2 + [(3, 1, 16)]),
        ("Swin", swin | {"window_size": 4}, [(4, 1, 16, 16), (2, 16, 16)]),
    ):
        found = []
        for spelling in ("eager", "sdpa"):
            torch.manual_seed(0)
            config = getattr(transformers, f"{kind}Config")(**given, attn_implementation=spelling)
            found.append(weights(getattr(transformers, f"{kind}Model")(config), 32))
        eager, fused = found
        assert [tuple(one.shape[1:]) for one in fused.values()] == shapes, kind
        assert all(torch.allclose(fused[name], eager[name], atol=1e-5) for name in fused), kind
