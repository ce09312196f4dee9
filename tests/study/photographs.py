"""A small dataset of images, a network of one's own and a study, quick enough for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 20
NETWORK = """
import torch

def network():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.ReLU(inplace=True), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, padding=1), torch.nn.ReLU(inplace=True),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )
    # Classes are the channels that are brightest: known without training.
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(0.05)
        for channel in range(3):
            layers[0].weight[channel, channel, 1, 1] += 1
            layers[3].weight[channel, channel, 1, 1] += 1
            layers[7].weight[channel, channel] += 6
    return layers
"""


def write_photographs(folder: Path, count: int = 9, faults: bool = True) -> Path:
    """Write images with a bright square of a colour, a sheet of them, and some faulty files.

    The sheet has the squares' boxes, but of the last image, and there is a folder of masks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(2)
    lines = ["file\tclass\tboxes"]
    mask = np.zeros((24, 26), dtype=np.uint8)
    mask[6:16, 8:18] = 1
    (folder / "masks").mkdir(exist_ok=True)
    for number in range(count):
        colour = number % 3
        pixels = generator.integers(40, 90, (24, 26, 3)).astype(np.uint8)
        pixels[6:16, 8:18, colour] += 150
        name = f"image-{number}.png"
        Image.fromarray(pixels).save(folder / name)
        box = "8 6 18 16" if number < count - 1 else ""
        lines.append(f"{name}\t{('red', 'green', 'blue')[colour]}\t{box}")
        Image.fromarray(mask).save(folder / "masks" / name)
    if faults:
        Image.open(folder / "image-0.png").convert("CMYK").save(folder / "cmyk.jpg")
        damaged = (folder / "image-1.png").read_bytes()[:900]
        (folder / "damaged.png").write_bytes(damaged)
        lines += ["cmyk.jpg\tred", "damaged.png\tgreen", "absent.png\tblue"]
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("red\ngreen\nblue\n")
    (folder / "network.py").write_text(NETWORK)
    return folder


def image_study(folder: Path, name: str) -> dict[str, Any]:
    conditional = {"classifier": "own", "dataset": "photographs", "k": 4, "l": 8, "stride": 2}
    conditional |= {"samples": 4, "block": 20, "items_per_job": 4}
    top = ["probability:top-1"]
    return {
        "study": name,
        "seed": 3,
        "datasets": {
            "photographs": {
                "images": str(folder / "sheet.tsv"),
                "classes": str(folder / "classes.txt"),
                "boxes_column": "boxes",
                "masks": str(folder / "masks"),
            }
        },
        "classifiers": {
            "own": {
                "kind": "module",
                "module": f"{folder / 'network.py'}:network",
                "classes": str(folder / "classes.txt"),
                "training_size": 1000,
                "resize": SIDE,
                "crop": SIDE,
                "mean": [0.3, 0.3, 0.3],
                "std": [0.2, 0.2, 0.2],
            }
        },
        "samplers": {
            "conditional": {"kind": "conditional", "patches": 3000},
            "independent": {"kind": "conditional", "patches": 3000, "channels": "independent"},
            "marginal": {"kind": "marginal"},
            "grey": {"kind": "grey"},
        },
        "explanations": {
            "conditional": {
                **conditional,
                "sampler": "conditional",
                "targets": [
                    "probability:true",
                    *(f"{kind}:top-{n}" for kind in ("probability", "logit") for n in (1, 2, 3)),
                    "layer:3",
                    "layer:0:1",
                ],
            },
            "independent": {**conditional, "sampler": "independent", "targets": top, "items": 2},
            "marginal": {**conditional, "sampler": "marginal", "targets": top, "items": 4},
            "grey": {**conditional, "sampler": "grey", "targets": top, "items": 4},
            "sensitivity": {"method": "sensitivity", "classifier": "own", "dataset": "photographs"},
        },
        "figures": {
            "figure-1": {"kind": "sensitivity", "explanations": ["sensitivity", "conditional"]},
            "figure-3": {
                "kind": "compare",
                "explanations": ["marginal", "conditional"],
                "targets": top,
                "items": ["image-1.png"],
            },
            "figure-5": {"kind": "maps", "explanations": ["conditional"], "items": 1},
            "figure-7": {"kind": "classes", "explanations": ["conditional"], "items": 1},
        },
    }
