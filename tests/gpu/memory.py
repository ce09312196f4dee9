"""Too little memory: engines go on with smaller batches, to the same results."""

import gc
from dataclasses import replace

import torch
from torch import Tensor, nn

from preddiff.engines.dense import Dense
from preddiff.engines.incremental.engine import Incremental
from preddiff.errors import InputError
from preddiff.evidence import Expectations
from preddiff.samplers.conditional import Conditional
from preddiff.windows import Windows
from tests.benchmarks.passes import engine, make, smooth_images
from tests.gpu import subjects
from tests.gpu.exactness import error
from tests.gpu.run import Run
from tests.gpu.subjects import NumPyGaussian

# Of float32 with other batches, as a share of the largest change.
TOLERANCE = 1e-3
# Windows that are evaluated, and shares of the memory that they need without a limit.
_WINDOWS = 1024
_SHARES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)


class Limited(nn.Module):
    """A network that runs out of memory above a number of inputs."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network = network
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError(f"{len(x)} inputs")
        return self.network(x)


def part(run: Run) -> None:
    """Backing off when memory runs out"""
    run.say(f"{'engine':12} {'memory':>10} {'inputs per pass':>20} {'largest error':>14}")
    if not run.on_gpu:
        _in_a_limited_network(run)
        return
    for kind in (Dense, Incremental):
        _on_a_limited_gpu(run, kind)


def _in_a_limited_network(run: Run) -> None:
    subject = replace(subjects.small(2), targets=("probability:0", "logit:1"))
    before = subject.engine(Dense, run.device)
    usual = before.batch_size
    expected = before.expectations(subject.x, ["item"], subject.block)
    limited = Limited(subject.network.module, 5)
    one = replace(subject, network=replace(subject.network, module=limited)).engine(
        Dense, run.device
    )
    found = one.expectations(subject.x, ["item"], subject.block)
    _report(run, one, usual, "5 inputs", found, expected)


def _on_a_limited_gpu(run: Run, kind: type[Dense]) -> None:
    sizes = run.sizes
    network = make(run.networks[0], sizes.side)
    images = smooth_images(20, sizes.side)
    gaussian = NumPyGaussian.fit(images, sizes.l, patches=sizes.patches)
    sampler = Conditional(gaussian, (0.0, 1.0))
    windows = Windows(network.space, sizes.k)
    blocks = list(windows.blocks(_WINDOWS))
    block = blocks[len(blocks) // 2]
    network.module.to(run.device)
    free_cached()
    before = torch.cuda.memory_reserved(run.device)
    one = engine(kind, network, sampler, run.device, sizes)
    usual = one.batch_size
    torch.cuda.reset_peak_memory_stats(run.device)
    expected = one.expectations(images[:1], ["item"], block)
    needed = torch.cuda.max_memory_reserved(run.device) - before
    del one
    total = torch.cuda.get_device_properties(run.device).total_memory
    for share in _SHARES:
        free_cached()
        one = engine(kind, network, sampler, run.device, sizes)
        limit = before + needed * share
        torch.cuda.set_per_process_memory_fraction(limit / total, run.device)
        try:
            found = one.expectations(images[:1], ["item"], block)
        except InputError as problem:
            run.say(f"{kind.__name__.lower():12} {limit / 1e9:7.2f} GB {problem}")
            break
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, run.device)
        if one.batch_size < usual:
            _report(run, one, usual, f"{limit / 1e9:.2f} GB", found, expected)
            return
    run.check(f"the {kind.__name__.lower()} engine goes on with smaller batches", False)


def free_cached() -> None:
    """Give memory back that nothing uses."""
    gc.collect()
    torch.cuda.empty_cache()


def _report(
    run: Run, one: Dense, usual: int, limit: str, found: Expectations, expected: Expectations
) -> None:
    name = type(one).__name__.lower()
    wrong = error(found, expected, "change")
    smaller = one.batch_size < usual
    holds = run.check(f"the {name} engine backs off", smaller and wrong <= TOLERANCE)
    sizes = f"{usual} to {one.batch_size}"
    run.say(f"{name:12} {limit:>10} {sizes:>20} {wrong:14.1e}  {holds}")
