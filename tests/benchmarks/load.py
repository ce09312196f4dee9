"""A pretend study of 50,000 photographs and three networks: planning, status, files and disk.

    python tests/benchmarks/load.py [--items 50000] [--maps 100] [--folder /somewhere/with/space]

Prints how long Snakemake takes to plan the study and its peak of memory, how long `preddiff status`
takes on stores of which half is done, how many files they hold, and how fast relevance is written
and read, beside NumPy's own files of the same numbers. Images are empty files, since planning never
reads them, and items of a store share the files of one, which status reads for each all the same.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
import zarr

from preddiff.evidence import Expectations
from preddiff.storage.expectations import ExpectationStore, expectation_variables
from preddiff.storage.markers import Marker
from preddiff.storage.relevance import create_relevance, parts_to_write
from preddiff.storage.stores import array, create
from preddiff.windows import Windows

ROOT = Path(__file__).parents[2]
NETWORKS = ("alexnet", "googlenet", "vgg16")
TARGETS = ["probability:top-1", "logit:top-1", "probability:true"]
SIDE, K, BLOCK = 224, 10, 1024
SHARD = 400


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plan(folder: Path, items: int) -> None:
    """Let Snakemake plan the study in a dry run."""
    images = folder / "images"
    images.mkdir()
    rows = ["file\tclass"]
    for number in range(items):
        (images / f"{number:05d}.jpg").touch()
        rows.append(f"{number:05d}.jpg\tclass-{number % 1000}")
    (images / "sheet.tsv").write_text("\n".join(rows) + "\n")
    (images / "classes.txt").write_text("\n".join(f"class-{n}" for n in range(1000)) + "\n")
    (folder / "own.py").write_text("")
    geometry = {"resize": 256, "crop": SIDE, "mean": [0.5] * 3, "std": [0.2] * 3}
    own = {"kind": "module", "module": f"{folder}/own.py:network", "training_size": 1000}
    own |= {"classes": f"{images}/classes.txt", **geometry}
    explanation = {"dataset": "photographs", "sampler": "conditional", "k": K, "l": 14}
    settings = {
        "study": "load",
        "datasets": {
            "photographs": {"images": f"{images}/sheet.tsv", "classes": f"{images}/classes.txt"}
        },
        "classifiers": dict.fromkeys(NETWORKS, own),
        "samplers": {"conditional": {"kind": "conditional"}},
        "explanations": {name: {"classifier": name, **explanation} for name in NETWORKS},
    }
    (folder / "load.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--directory", folder]
    command += ["--snakefile", ROOT / "Snakefile", "--configfile", folder / "load.yaml"]
    found = []
    seconds = timed(
        lambda: found.append(subprocess.run(command, capture_output=True, text=True, check=True))
    )
    (total,) = re.findall(r"^total\s+(\d+)", found[0].stdout + found[0].stderr, re.M)[:1]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"Snakemake plans {total} jobs in {seconds:.1f} s, with {peak:.2f} GB", flush=True)


def fill(folder: Path, items: int) -> list[Path]:
    """Make three expectation stores of which half is done."""
    windows = Windows((SIDE, SIDE), K)
    names = np.array([f"{number:05d}.jpg" for number in range(items)])
    stores = [folder / f"results/load/expectations/{name}.zarr" for name in NETWORKS]
    generator = np.random.default_rng(0)
    for store in stores:
        store.parent.mkdir(parents=True, exist_ok=True)
        create(
            store,
            expectation_variables(items, len(TARGETS), windows, BLOCK),
            {
                "item": ("item", names),
                "item_digest": ("item", names),
                "target": ("target", np.array(TARGETS)),
            },
            {},
            {"space": [SIDE, SIDE], "k": K, "stride": 1, "block": BLOCK},
        )
        opened = ExpectationStore(store, "r+")
        for block in opened.blocks:
            change = generator.standard_normal((1, len(TARGETS), *block.shape)) * 1e-3
            found = Expectations(np.full((1, len(TARGETS)), 0.5), change, change**2)
            opened.write([0], block, found)
        originals = list(store.glob("*/c.0.*"))
        for number in range(1, items // 2):
            share(originals, number)
        (store.with_suffix(".done")).mkdir()
        # Markers of a fifth: all else is counted from the files.
        for first in range(0, items // 5, SHARD):
            last = min(first + SHARD, items // 5)
            marker = Marker(first, last, tuple(map(str, names[first:last])))
            (store.with_suffix(".done") / f"items-{first:05d}.json").write_text(marker.to_json({}))
    return stores


def share(files: list[Path], number: int) -> None:
    """Give an item the files of item 0."""
    for file in files:
        first, _, *rest = file.name.split(".")
        file.with_name(".".join([first, str(number), *rest])).hardlink_to(file)


def count_files(stores: list[Path], items: int) -> None:
    counts = [sum(len(files) for _, _, files in os.walk(store)) for store in stores]
    each = max(counts) / (items // 2)
    print(f"an expectation store holds {each:.2f} files for each item that is done", flush=True)


def throughput(folder: Path, items: int) -> None:
    """Write and read relevance, and the same numbers as NumPy's own files."""
    generator = np.random.default_rng(0)
    maps = generator.standard_normal((items, len(TARGETS), SIDE, SIDE)).astype(np.float32)
    names = [str(number) for number in range(items)]
    store = folder / "relevance.zarr"
    classes = np.zeros((items, len(TARGETS)), dtype=np.int64)
    about = {"space": [SIDE, SIDE], "corner": [0, 0]}
    create_relevance(store, names, TARGETS, classes, classes + 0.5, {}, about)
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    relevance = array(group, "relevance")

    def write() -> None:
        for part in parts_to_write(relevance):
            relevance[part] = maps[part]
        os.sync()

    def write_numpy() -> None:
        for number in range(items):
            np.save(folder / f"{number}.npy", maps[number])
        os.sync()

    size = maps.nbytes / 1e6
    rates = {
        "written": (timed(write), timed(write_numpy)),
        "read": (
            timed(lambda: [np.asarray(relevance[part]) for part in parts_to_write(relevance)]),
            timed(lambda: [np.load(folder / f"{number}.npy") for number in range(items)]),
        ),
    }
    for what, (ours, plain) in rates.items():
        print(f"relevance is {what} at {size / ours:.0f} MB/s, by NumPy at {size / plain:.0f} MB/s")
    stored = relevance.nbytes_stored() / 1e6
    print(f"{size:.0f} MB of noise take {stored:.0f} MB on disk", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--items", type=int, default=50_000, help="photographs of the study (default: 50000)"
    )
    parser.add_argument(
        "--maps", type=int, default=100, help="items whose relevance is written (default: 100)"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        plan(folder, arguments.items)
        throughput(folder, arguments.maps)
        stores = fill(folder, arguments.items)
        count_files(stores, arguments.items)
        command = [sys.executable, "-m", "preddiff", "status", folder / "results/load"]
        seconds = timed(lambda: subprocess.run(command, check=True))
        print(f"preddiff status takes {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
