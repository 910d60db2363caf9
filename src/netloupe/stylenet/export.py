"""A style network as ONNX, for runtimes without PyTorch."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from netloupe.core.errors import InputError, NetworkError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.lock import holding
from netloupe.core.taps import placement
from netloupe.data.images import height_width
from netloupe.stylenet.model import StyleModel
from netloupe.stylenet.network import LEAST

_AXES = ("images", "", "height", "width")
_TRACED = (2, 66, 70)  # images, height and width of the example where all of them may vary


@holding("path", "stylenet export")
def export_onnx(model: StyleModel, path: str | Path, size: tuple[int, int] | None = None) -> None:
    """Write the network to an ONNX file, in float32.

    Inputs are `image` (N, 3, height, width) in [0, 1] and `blend` (N, styles), weights that add up to 1 in each row;
    the output `painted` is like the image. The metadata holds `styles`, the names as a JSON list, and `name`.
    size: (height, width), for a file that takes one image of just this size. By default N and the sides, of `LEAST` px
    or more, may vary.

    Raises InputError for a size that can't be used and without the package onnx, NetworkError if PyTorch can't export,
    StoreError if the file can't be written.
    """
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise InputError("ONNX needs packages that are not installed (fix: pip install 'netloupe[onnx]')")
    if size is not None and min(height_width(size)) < LEAST:
        raise InputError(f"size {size[0]}x{size[1]} (accepted: sides of {LEAST} px or more)")
    exported = _exported(model, size)
    exported.producer_name = "netloupe"
    for key, value in {"name": model.name, "styles": json.dumps(model.styles, ensure_ascii=False)}.items():
        entry = exported.metadata_props.add()
        entry.key, entry.value = key, value
    if size is None:  # the exporter spells them as formulas
        for axis, name in zip(exported.graph.output[0].type.tensor_type.shape.dim, _AXES, strict=True):
            if axis.dim_param:
                axis.dim_param = name
    write_atomically(Path(path), exported.SerializeToString())


def _exported(model: StyleModel, size: tuple[int, int] | None) -> Any:
    """The ONNX model, a protocol buffer."""
    count, height, width = _TRACED if size is None else (1, *size)
    device, _ = placement(model.network)
    example = (
        torch.zeros(count, 3, height, width, device=device),
        torch.ones(count, len(model.styles), device=device),
    )
    images, tall, wide = torch.export.Dim("images"), *(torch.export.Dim(a, min=LEAST) for a in ("height", "width"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own, about itself
            program = torch.onnx.export(
                model.network,
                example,
                dynamo=True,
                dynamic_shapes=None if size is not None else ({0: images, 2: tall, 3: wide}, {0: images}),
                input_names=["image", "blend"],
                output_names=["painted"],
                verbose=False,
            )
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        raise NetworkError(f"PyTorch {torch.__version__} can't export this network ({first_line(error)})") from error
    assert program is not None
    return program.model_proto
