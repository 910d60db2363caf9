"""Measure the statistics of natural photographs that the package ships, from a folder of photographs.

python benchmarks/natural.py FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import netloupe
from netloupe.data.images import fit, to_float
from netloupe.synthesis import natural


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    source = netloupe.open_source(parser.parse_args().folder)
    images = torch.stack([to_float(fit(source.open(i), natural.SIDE)) for i in range(len(source))])
    colored = (images.amax(1) - images.amin(1)).amax((1, 2)) > 0.05
    found = natural.measure_natural(images[colored])
    path = Path(natural.__file__).with_name("natural.npz")
    np.savez_compressed(
        path,
        mean=found.mean.numpy(),
        colors=found.colors.numpy(),
        spectrum=found.spectrum.numpy().astype(np.float16),
    )
    print(f"{int(colored.sum())} of {len(source)} photographs; {path.stat().st_size} bytes")
    print("mean", found.mean.tolist(), "colors", found.colors.tolist(), sep="\n")
    ring = natural.frequencies(natural.SIDE, natural.SIDE)
    for low in (1, 2, 4, 8, 16, 32):
        some = (ring >= low / natural.SIDE) & (ring < 2 * low / natural.SIDE)
        print(low, [round(float((channel * ring)[some].mean()), 4) for channel in found.spectrum])


if __name__ == "__main__":
    main()
