"""Training of the sparse reconstruction autoencoder: pretraining, regression, and all together."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from preddiff.classifiers.srae import ExplanationHead, decoder_of, linear_layers
from preddiff.classifiers.srae_losses import (
    PullAway,
    faithfulness,
    pull_away,
    sparse_reconstruction,
)

# Of Adam, as in the paper: the rate is multiplied by _DECAY every _PERIOD epochs.
_RATE, _WEIGHT_DECAY, _DECAY, _PERIOD = 1e-3, 1e-4, 0.1, 40
# Share of the epochs that the pretraining of each layer takes.
_PRETRAINING = 0.25
# The paper's scores have this standard deviation; others are scaled to it, so that the weights of
# the losses mean the same for all networks.
_SPREAD = 6.0
# A round is enough if the second largest mean contribution is this share of the largest one.
_ENOUGH = 0.3
# Factors of beta and eta from a round that is not enough to the next.
_MORE_BETA, _LESS_ETA = 1.2, 0.8
# Of the factorisation that the x-features start from: updates, and what keeps quotients finite.
_UPDATES, _TINY = 300, 1e-9
# Seconds of training between two checkpoints.
_INTERVAL = 20.0

State = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    hidden : tuple of int
        Units of the layers between the activations and the x-features.
    features : int
    alpha, beta, eta : float
        Weights of faithfulness, sparse reconstruction, and the pull-away term.
    q : float
        Of the sparse reconstruction.
    pull_away : {"features", "images"}
    epochs, batch_size, rounds : int
        Rounds are at most this many.
    """

    hidden: tuple[int, ...]
    features: int
    alpha: float
    beta: float
    eta: float
    q: float
    pull_away: PullAway
    epochs: int
    batch_size: int
    rounds: int

    def after(self, rounds: int) -> "Recipe":
        """Recipe of the round after some that were not enough."""
        return replace(self, beta=self.beta * _MORE_BETA**rounds, eta=self.eta * _LESS_ETA**rounds)


class Checkpoints(Protocol):
    """Keeps the state of a training that may be interrupted."""

    def read(self, name: str) -> tuple[State, dict[str, Any]] | None:
        """Return tensors and facts under a name; None if there are none."""
        ...

    def write(self, name: str, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
        """Keep tensors and facts under a name, in place of earlier ones."""
        ...

    def remove(self, name: str) -> None:
        """Forget what is kept under a name."""
        ...


class Forgetful:
    """Checkpoints that keep nothing."""

    def read(self, name: str) -> None:
        """Return nothing."""

    def write(self, name: str, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
        """Keep nothing."""

    def remove(self, name: str) -> None:
        """Forget nothing."""


# Shows the progress of a round, from its number and its epochs: gives what is called with 1 for
# each epoch.
Shown = Callable[[int, int], contextlib.AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class Trained:
    """A trained explanation network.

    Attributes
    ----------
    head : ExplanationHead
        Takes activations to scores, both as they are given.
    decoder : nn.Sequential
        Takes x-features to activations.
    rounds : list of dict
        Of each round: its recipe, losses, mean contributions (classes, features) over each class's
        own items, and whether they are enough.
    chosen : int
        Index of the round that is kept.
    """

    head: ExplanationHead
    decoder: nn.Sequential
    rounds: list[dict[str, Any]]
    chosen: int


def train(
    z: Tensor,
    y: Tensor,
    own: Tensor,
    recipe: Recipe,
    seed: int,
    checkpoints: Checkpoints | None = None,
    shown: Shown | None = None,
) -> Trained:
    """Train an explanation network, in rounds, until enough of its features carry the scores.

    A round pretrains the layers one after the other as autoencoders (squared error), the last one
    from a non-negative factorisation of its inputs (ours; the paper's start is not known). It
    starts the head by a linear regression of the scores on the features, and trains everything
    together to minimise::

        alpha faithfulness + beta sparse reconstruction + eta pull-away

    It is enough if for each class at least two mean contributions, over the class's own items, are
    positive and the second is at least 0.3 of the first. Otherwise the next round has 1.2 times
    the beta and 0.8 times the eta. If no round is enough, the one whose second mean contribution
    is nearest to the first is kept (for the class where it is farthest), and of equal ones the one
    with the smallest loss.

    Activations are divided by their root mean square; scores are centred and scaled to the
    standard deviation 6, as in the paper. The weights undo this afterwards.

    Parameters
    ----------
    z : float32 tensor (N, D)
        Activations, none of them negative.
    y : float32 tensor (N, K')
        Scores of the classes.
    own : bool tensor (N, K')
        Whether an item is of a class.
    recipe : Recipe
    seed : int
        All random numbers are functions of it, the round and the epoch.
    checkpoints : Checkpoints, optional
        A training that goes on from a checkpoint gives the same bits.
    shown : callable, optional

    Raises
    ------
    ValueError
        If shapes do not match.
    """
    if y.ndim != 2 or own.shape != y.shape or len(z) != len(y):
        raise ValueError(
            f"scores {tuple(y.shape)} and classes {tuple(own.shape)} must be (items, classes), "
            f"one row for each of {len(z)} activations"
        )
    kept = checkpoints or Forgetful()
    scale = _Scale.of(z, y)
    z, y = z / scale.z, (y - scale.mean) / scale.spread
    summaries: list[dict[str, Any]] = []
    states: list[State] = []
    for number in range(recipe.rounds):
        one = _Round(z, y, recipe.after(number), seed, number, kept)
        states.append(one.run(shown))
        summaries.append(one.summary(own))
        if summaries[-1]["enough"]:
            break
    ranks = [(s["enough"], s["balance"], -s["losses"]["total"]) for s in summaries]
    chosen = max(range(len(ranks)), key=ranks.__getitem__)
    final = _Round(z, y, recipe, seed, chosen, kept).model
    final.load_state_dict(states[chosen])
    head, decoder = final["head"], final["decoder"]
    assert isinstance(head, ExplanationHead) and isinstance(decoder, nn.Sequential)
    scale.fold_into(head, decoder)
    return Trained(head.eval(), decoder.eval(), summaries, chosen)


@dataclass(frozen=True)
class _Scale:
    """Scale of the activations, and location and scale of each class's scores."""

    z: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, z: Tensor, y: Tensor) -> "_Scale":
        tiny = torch.finfo(z.dtype).tiny
        rms = (z.double() ** 2).mean().sqrt().to(z).clamp_min(tiny)
        spread = y.std(0, correction=0) / _SPREAD
        return cls(rms, y.mean(0), torch.where(spread > 0, spread, torch.ones_like(spread)))

    @torch.no_grad()
    def fold_into(self, head: ExplanationHead, decoder: nn.Sequential) -> None:
        """Let a network for scaled activations and scores take and give those that are not.

        A ReLU of c x is c times that of x for any c > 0, so that the first and last weights do.
        """
        linear_layers(head.encoder)[0].weight.div_(self.z)
        last = linear_layers(decoder)[-1]
        last.weight.mul_(self.z)
        last.bias.mul_(self.z)
        head.contributions.weight.mul_(self.spread[:, None])
        head.scores.bias.copy_(head.scores.bias * self.spread + self.mean)


class _Round:
    """One round of the training: phases that can be interrupted after each epoch."""

    def __init__(
        self, z: Tensor, y: Tensor, recipe: Recipe, seed: int, number: int, kept: Checkpoints
    ) -> None:
        self.z, self.y, self.recipe = z, y, recipe
        self.seed, self.number, self.kept = seed, number, kept
        self.sizes = (z.shape[1], *recipe.hidden, recipe.features)
        with _random(seed, number, "weights"):
            self.head = ExplanationHead(self.sizes, y.shape[1])
            self.decoder = decoder_of(self.sizes)
        self.model = nn.ModuleDict({"head": self.head, "decoder": self.decoder})
        self.pretraining = max(1, round(_PRETRAINING * recipe.epochs))

    def run(self, shown: Shown | None) -> State:
        """Train, or read what was trained before; return the state of the model."""
        found = self.kept.read(f"round-{self.number}")
        if found is not None:
            self.model.load_state_dict(found[0])
            return found[0]
        layers = len(self.sizes) - 1
        epochs = [*[self.pretraining] * layers, self.recipe.epochs]
        current = self.kept.read("current")
        phase, epoch, moments = 0, 0, None
        if current is not None and current[1]["round"] == self.number:
            phase, epoch = current[1]["phase"], current[1]["epoch"]
            own = {n: t for n, t in current[0].items() if not n.startswith("adam.")}
            self.model.load_state_dict(own)
            moments = {n: t for n, t in current[0].items() if n.startswith("adam.")}
        with contextlib.ExitStack() as stack:
            done = stack.enter_context((shown or _no_progress)(self.number, sum(epochs)))
            done(sum(epochs[:phase]) + epoch)
            for later in range(phase, layers + 1):
                start, state = (epoch, moments) if later == phase else (0, None)
                self._phase(later, epochs[later], start, state, done)
        state = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.kept.write(f"round-{self.number}", state, {"round": self.number})
        self.kept.remove("current")
        return state

    def _phase(
        self, phase: int, epochs: int, start: int, moments: State | None, done: Callable[[int], Any]
    ) -> None:
        """Pretrain one layer; or, in the last phase, train everything."""
        together = phase == len(self.sizes) - 1
        if together:
            inputs, decay = self.z, _WEIGHT_DECAY
            parameters = list(self.model.parameters())
            if start == 0:
                self._start_head()
        else:
            pair = self._pair(phase)
            inputs, decay = self._inputs(phase), 0.0
            parameters = [*pair[0].parameters(), *pair[1].parameters()]
            if start == 0:
                with _random(self.seed, self.number, phase):
                    self._start_pair(pair, inputs, last=phase == len(self.sizes) - 2)
        adam = torch.optim.Adam(parameters, _RATE, weight_decay=decay, fused=True)
        if moments:
            _restore(adam, moments)
        saved = time.monotonic()
        for epoch in range(start, epochs):
            for group in adam.param_groups:
                group["lr"] = _RATE * _DECAY ** (epoch // _PERIOD if together else 0)
            with _random(self.seed, self.number, phase, epoch):
                self._epoch(adam, inputs, None if together else self._pair(phase))
            done(1)
            if epoch + 1 < epochs and time.monotonic() - saved >= _INTERVAL:
                state = {**self.model.state_dict(), **_moments(adam)}
                about = {"round": self.number, "phase": phase, "epoch": epoch + 1}
                self.kept.write("current", state, about)
                saved = time.monotonic()

    def _epoch(
        self,
        adam: torch.optim.Optimizer,
        inputs: Tensor,
        pair: tuple[nn.Linear, nn.Linear] | None,
    ) -> None:
        self.model.train()
        for batch in torch.split(torch.randperm(len(inputs)), self.recipe.batch_size):
            x = inputs[batch]
            if pair is None:
                loss = self._losses(x, self.y[batch])["total"]
            else:
                code = functional.relu(pair[0](x))
                loss = functional.mse_loss(functional.relu(pair[1](code)), x)
            adam.zero_grad()
            torch.autograd.backward(loss)
            adam.step()
        self.model.eval()

    def _losses(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        head, recipe = self.head, self.recipe
        features = head.features(head.encoder(z))
        contributions = head.contributions(features)
        losses = {
            "faithfulness": faithfulness(head.scores(contributions), y),
            "reconstruction": sparse_reconstruction(self.decoder(features), z, recipe.q),
            "pull_away": pull_away(contributions.unflatten(1, head.scores.shape), recipe.pull_away),
        }
        weights = (recipe.alpha, recipe.beta, recipe.eta)
        total = sum(w * part for w, part in zip(weights, losses.values(), strict=True))
        return {**losses, "total": torch.as_tensor(total)}

    def _pair(self, phase: int) -> tuple[nn.Linear, nn.Linear]:
        """Layers of the encoder and decoder that are pretrained together."""
        return linear_layers(self.head.encoder)[phase], linear_layers(self.decoder)[-1 - phase]

    @torch.no_grad()
    def _start_pair(self, pair: tuple[nn.Linear, nn.Linear], inputs: Tensor, *, last: bool) -> None:
        """Start the pretraining of a layer where its units, and what they decode to, are alive."""
        if last:
            _start_from_parts(*pair, inputs)
        else:
            _turn_round(pair[0], inputs)
            for parameter in pair[1].parameters():
                # What it decodes is never negative; where it is 0 for all items, it stays so.
                parameter.abs_()

    @torch.no_grad()
    def _inputs(self, phase: int) -> Tensor:
        """Inputs of a layer of the encoder, without dropout."""
        found = self.z
        for layer in linear_layers(self.head.encoder)[:phase]:
            found = functional.relu(layer(found))
        return found

    @torch.no_grad()
    def _start_head(self) -> None:
        """Fit the scores to the features by least squares: yhat = v . E + b."""
        features, head = self._inputs(len(self.sizes) - 1), self.head
        _fit(head.contributions.weight, head.scores.bias, features, self.y)

    @torch.no_grad()
    def summary(self, own: Tensor) -> dict[str, Any]:
        """Losses of the whole data, and how the mean contributions are spread."""
        self.model.eval()
        head = self.head
        contributions = head.contributions(head.encoder(self.z)).unflatten(1, head.scores.shape)
        means = torch.stack([contributions[own[:, c], c].mean(0) for c in range(self.y.shape[1])])
        balance = min(balance_of(row) for row in means)
        return {
            "recipe": asdict(self.recipe),
            "losses": {name: float(part) for name, part in self._losses(self.z, self.y).items()},
            "mean_contributions": means.tolist(),
            "balance": balance,
            "enough": balance >= _ENOUGH,
        }


def balance_of(means: Tensor) -> float:
    """Second largest of some mean contributions as a share of the largest.

    0 if fewer than two of them are positive, or if there is one feature only.
    """
    if len(means) < 2:
        return 0.0
    first, second = (float(value) for value in torch.topk(means, 2).values)
    return second / first if second > 0 else 0.0


def _turn_round(layer: nn.Linear, inputs: Tensor) -> None:
    """Change the sign of units that are 0 for most items: they might stay so for ever."""
    with torch.no_grad():
        signs = torch.where(layer(inputs).median(0).values < 0, -1.0, 1.0)
        layer.weight.mul_(signs[:, None])
        layer.bias.mul_(signs)


@torch.no_grad()
def _start_from_parts(encode: nn.Linear, decode: nn.Linear, inputs: Tensor) -> None:
    """Start a layer and its decoder from a non-negative factorisation of its inputs.

    From random weights, some of a few features stay 0 for all items, and others mix. Multiplicative
    updates of Lee and Seung (2001) find parts that are not negative, as what decodes features is;
    least squares give the layer that tells how much of each part there is.
    """
    parts = torch.rand((encode.out_features, inputs.shape[1])) * inputs.mean() + _TINY
    codes = torch.rand((len(inputs), encode.out_features)) + _TINY
    for _ in range(_UPDATES):
        codes *= (inputs @ parts.T) / (codes @ (parts @ parts.T) + _TINY)
        parts *= (codes.T @ inputs) / (codes.T @ codes @ parts + _TINY)
    # Features have the scale of the inputs.
    scale = codes.square().mean(0).sqrt() / (inputs.square().mean().sqrt() + _TINY) + _TINY
    decode.weight.copy_((parts * scale[:, None]).T)
    decode.bias.zero_()
    _fit(encode.weight, encode.bias, inputs, codes / scale)


def _fit(weight: Tensor, bias: Tensor, inputs: Tensor, wanted: Tensor) -> None:
    """Set the weights of a linear layer by least squares."""
    ones = torch.ones((len(inputs), 1), dtype=torch.float64)
    design = torch.cat([inputs.double(), ones], 1)
    # The driver for matrices without full rank, since a unit may be 0 for all items.
    found = torch.linalg.lstsq(design, wanted.double(), driver="gelsd").solution
    weight.copy_(found[:-1].T)
    bias.copy_(found[-1])


@contextlib.contextmanager
def _no_progress(number: int, epochs: int) -> Iterator[Callable[[int], object]]:
    """Show no progress."""
    yield lambda count: None


@contextlib.contextmanager
def _random(*key: object) -> Iterator[None]:
    """Draw torch's random numbers from a seed that is a function of some values."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "big"))
        yield


def _moments(adam: torch.optim.Optimizer) -> State:
    """State of Adam as tensors by name."""
    found: State = {}
    for number, parts in adam.state_dict()["state"].items():
        found |= {f"adam.{number}.{name}": part for name, part in parts.items()}
    return found


def _restore(adam: torch.optim.Optimizer, moments: State) -> None:
    state: dict[int, State] = {}
    for key, part in moments.items():
        _, number, name = key.split(".")
        state.setdefault(int(number), {})[name] = part
    adam.load_state_dict({"state": state, "param_groups": adam.state_dict()["param_groups"]})
