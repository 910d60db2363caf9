"""Which rule follows which ATen operation.

Names differ between versions of torch and between devices, so similar ones share a rule. An operation that is
neither here nor tagged as elementwise by torch loses track.
"""

from __future__ import annotations

import torch

from netloupe.core.trace import shapes, values
from netloupe.core.trace.call import Rule


def _table(*rows: tuple[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rows for name in names.split()}


_RULES = _table(
    (
        values.same,
        "_to_copy detach alias lift lift_fresh contiguous resolve_conj channel_shuffle native_channel_shuffle",
    ),
    (values.elementwise, "hardswish _prelu_kernel prelu log_sigmoid_forward rsub masked_fill expand"),
    (values.overwriting, "copy"),
    (values.convolution, "convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution"),
    (values.convolution, "cudnn_convolution_relu miopen_convolution conv1d conv2d conv3d"),
    (values.pooling, "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices mkldnn_max_pool2d"),
    (values.pooling, "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"),
    (
        values.adaptive_pooling,
        "adaptive_avg_pool2d _adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d adaptive_max_pool2d",
    ),
    (values.adaptive_pooling, "adaptive_avg_pool1d adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d"),
    (values.interpolation, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"),
    (values.interpolation, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    (values.reduction, "mean sum nansum amax amin max min var std prod norm linalg_vector_norm logsumexp"),
    (values.reduction, "argmax argmin any all median var_mean std_mean count_nonzero"),
    (values.softmax, "_softmax _log_softmax softmax log_softmax _safe_softmax"),
    (values.batch_norm, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    (values.batch_norm, "cudnn_batch_norm miopen_batch_norm _batch_norm_with_update _batch_norm_no_update batch_norm"),
    (values.group_norm, "native_group_norm group_norm"),
    (values.layer_norm, "native_layer_norm layer_norm _fused_rms_norm"),
    (values.product, "mm addmm bmm baddbmm linear"),
    (shapes.padding, "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
    (shapes.pixel_shuffle, "pixel_shuffle"),
    (shapes.pixel_unshuffle, "pixel_unshuffle"),
    (shapes.reshaping, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten"),
    (shapes.permutation, "permute transpose t"),
    (shapes.slicing, "slice narrow"),
    (shapes.splitting, "split split_with_sizes unsafe_split unsafe_split_with_sizes chunk"),
    (shapes.selection, "select"),
    (shapes.unbinding, "unbind"),
    (shapes.indexing, "index_select roll"),
    (shapes.flipping, "flip"),
    (shapes.concatenation, "cat _cat concat"),
    (shapes.stacking, "stack"),
)

_BLIND = {"zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "empty_like", "randint_like"}


def rule_for(name: str, operation: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operation, None if there is none. name: without the underscore of in-place variants."""
    return _RULES.get(name, values.elementwise if torch.Tag.pointwise in operation.tags else None)


def blind(name: str) -> bool:
    """Whether an operation reads no more of a tensor than its shape and type."""
    return name in _BLIND or name.startswith("new_")
