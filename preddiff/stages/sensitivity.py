"""Stage sensitivity: sensitivity maps of a network, in a store like that of relevance."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr

from preddiff.classifiers.network import Network, NetworkNodes
from preddiff.classifiers.readout import Readout
from preddiff.classifiers.stored import require_fit
from preddiff.datasets.items import Items
from preddiff.devices import device_of, use_cores
from preddiff.errors import InputError
from preddiff.methods.sensitivity import sensitivity
from preddiff.progress import progress
from preddiff.settings.study import TargetSettings
from preddiff.stages.open import (
    about_classifier,
    chosen_items,
    chosen_targets,
    target_classes,
)
from preddiff.stages.relevance import create_relevance
from preddiff.storage.files import replace_folder
from preddiff.storage.inputs import Inputs
from preddiff.storage.provenance import digest_json
from preddiff.storage.stores import array


def compute_sensitivity(
    inputs: Inputs, settings: TargetSettings, device: str, threads: int, out: Path
) -> None:
    """Write the sensitivity maps of items, as `relevance` (item, target, y, x); `stderr` is 0.

    Raises
    ------
    InputError
        If the settings do not fit the network, or a gradient is not finite.
    """
    use_cores(threads)
    items, network = Items(inputs.data), Network.load(inputs.classifier)
    require_fit(items, network)
    names = chosen_items(items, settings)
    # The score of a class before the softmax, as Simonyan et al. take it, if nothing is named.
    asked = settings.model_copy(update={"targets": settings.targets or ["logit:top-1"]})
    targets = chosen_targets(asked, network)
    classes = target_classes(targets, names, network, inputs.predictions)
    by_item = dict(zip(names, classes.tolist(), strict=True))
    where = device_of(device)
    nodes = NetworkNodes(network, Readout(tuple(targets)), by_item, where)
    predictions = np.empty((len(names), len(targets)), dtype=np.float32)
    with replace_folder(out) as folder:
        create_relevance(
            folder,
            names,
            [str(target) for target in targets],
            classes,
            predictions,
            {
                "method": "sensitivity",
                "classifier": network.digest,
                "items": digest_json([items.digests[items.number(name)] for name in names]),
            },
            {**about_classifier(network), "k": 1, "inputs": inputs.relative_to(out)},
        )
        group = zarr.open_group(folder, mode="r+", use_consolidated=False)
        for row, name in enumerate(progress(names, desc="sensitivity", unit="item")):
            pixels = torch.from_numpy(items.read([items.number(name)])[0]).to(where)
            standardised = network.standardisation.image(pixels)
            # With respect to the network's inputs, as usual; of pixels it would differ by std.
            values, maps = sensitivity(partial(nodes, item=name), standardised)
            if not maps.isfinite().all():
                raise InputError(f"item '{name}': the network's gradient is not finite")
            predictions[row] = values.cpu().numpy()
            array(group, "relevance")[row] = maps.cpu().numpy().astype(np.float32)
            array(group, "stderr")[row] = np.zeros(maps.shape, dtype=np.float32)
        array(group, "prediction")[:] = predictions
