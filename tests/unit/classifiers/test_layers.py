"""Layers of networks: batch normalisations that become parts of convolutions."""

import pytest
import torch
from torch import Tensor, nn

from preddiff.classifiers.layers import FoldedWithMeans, WithMeans


class Normalised(nn.Module):
    """Convolutions with batch normalisations: foldable, read twice, called twice, and grouped."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.first = nn.Sequential(conv(2, 4, 3, padding=1, bias=False), norm(4), nn.ReLU())
        self.grouped, self.grouped_norm = conv(4, 4, 3, padding=1, groups=2), norm(4)
        self.read_twice, self.norm = conv(4, 4, 1), norm(4)
        self.called_twice, self.other_norm = conv(4, 4, 1), norm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped_norm(self.grouped(self.first(x)))
        y = self.read_twice(x)
        x = self.norm(y) + y
        x = self.other_norm(self.called_twice(x)) + self.called_twice(x)
        return self.head(x.flatten(2).mean(2))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("layers", [[], ["first.1", "grouped"], ["first.0"]])
def test_folded_networks_have_the_same_outputs(dimensions: int, layers: list[str]) -> None:
    torch.manual_seed(0)
    network = Normalised(dimensions)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for values in (module.running_mean, module.bias, module.weight):
                nn.init.normal_(values)
            nn.init.uniform_(module.running_var, 0.5, 2)
    network.eval()
    x = torch.randn((3, 2, *(6,) * dimensions))
    folded = FoldedWithMeans(network, layers)
    logits, means = folded(x)
    wanted, wanted_means = WithMeans(network, layers)(x)
    assert torch.allclose(logits, wanted, atol=1e-5)
    for layer in layers:
        assert torch.allclose(means[layer], wanted_means[layer], atol=1e-5)
    called = [str(n.target) for n in folded.network.graph.nodes if n.op == "call_module"]
    norms = sum("norm" in name or name == "first.1" for name in called)
    # Those of `first` and `grouped` are gone, unless a target reads their convolution.
    assert norms == 2 + ("grouped" in layers) + ("first.0" in layers)
    assert torch.equal(network(x), WithMeans(network, [])(x)[0])
