"""Training of explanation networks: what they find, what their losses do, and interruptions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from preddiff.classifiers import srae_training
from preddiff.classifiers.srae_training import Recipe, Trained, balance_of, train

RECIPE = Recipe(
    hidden=(40, 20), features=3, alpha=1.0, beta=15.0, eta=5.0, q=100.0, pull_away="features",
    epochs=60, batch_size=50, rounds=3,
)  # fmt: skip


def planted(count: int = 600, units: int = 20, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Non-negative latents (count, 3), activations that they cause, and a score linear in them."""
    generator = np.random.default_rng(seed)
    latents = generator.gamma(1.0, 1.0, (count, 3)) * (generator.random((count, 3)) < 0.5)
    mixing = np.zeros((3, units))
    for unit in range(units):
        mixing[unit % 3, unit] = generator.uniform(0.5, 1.5)
    z = latents @ mixing
    y = latents @ np.array([[3.0], [2.0], [-1.5]]) + 4.0
    return tuple(torch.tensor(x, dtype=torch.float32) for x in (latents, z, y))  # type: ignore


LATENTS, Z, Y = planted()
OWN = torch.ones_like(Y, dtype=torch.bool)
HALF = 400


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(Z[:HALF], Y[:HALF], OWN[:HALF], RECIPE, seed=1)


def features_of(one: Trained, z: Tensor) -> Tensor:
    with torch.no_grad():
        return one.head.encoder(z)


def cosines(features: Tensor) -> float:
    rows = features.T[features.max(0).values > 0]
    rows = rows / rows.norm(dim=1, keepdim=True)
    found = (rows @ rows.T)[~torch.eye(len(rows), dtype=torch.bool)]
    return float((found**2).mean())


def test_planted_latents_are_recovered(trained: Trained) -> None:
    found = features_of(trained, Z[HALF:])
    correlations = np.abs(np.corrcoef(LATENTS[HALF:].T, found.T)[:3, 3:])
    best = correlations.argmax(1)
    assert sorted(best) == [0, 1, 2]
    assert (correlations[range(3), best] > 0.95).all()


def test_the_score_and_the_activations_are_those_of_new_items(trained: Trained) -> None:
    with torch.no_grad():
        scores = trained.head(Z[HALF:])
        error = (scores - Y[HALF:]).square().mean().sqrt()
        assert error < 0.1 * Y[HALF:].std()
        z = trained.decoder(features_of(trained, Z[HALF:]))
    assert (z - Z[HALF:]).square().mean().sqrt() < 0.2 * Z[HALF:].std()


def test_scales_of_scores_and_activations_do_not_matter(trained: Trained) -> None:
    other = train(8 * Z[:HALF], 4 * Y[:HALF] - 3, OWN[:HALF], RECIPE, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(other.head(8 * Z), 4 * trained.head(Z) - 3, rtol=1e-3, atol=1e-3)


def quick(**changes: object) -> Trained:
    recipe = replace(RECIPE, epochs=30, rounds=1, features=4, **changes)
    return train(Z[:200], Y[:200], OWN[:200], recipe, seed=2)


def test_without_pull_away_features_are_more_alike() -> None:
    kept, free = (cosines(features_of(quick(eta=eta), Z)) for eta in (20.0, 0.0))
    assert free > kept


def test_without_its_loss_the_reconstruction_is_worse() -> None:
    errors = []
    for beta in (15.0, 0.0):
        one = quick(beta=beta)
        with torch.no_grad():
            errors.append(float((one.decoder(features_of(one, Z)) - Z).square().mean()))
    assert errors[1] > 1.5 * errors[0]


def test_rounds_go_on_until_two_features_carry_the_score() -> None:
    # One feature can never be enough.
    recipe = replace(RECIPE, features=1, epochs=1, rounds=3)
    found = train(Z[:100], Y[:100], OWN[:100], recipe, seed=1)
    assert len(found.rounds) == 3 and not any(one["enough"] for one in found.rounds)
    for number, one in enumerate(found.rounds):
        assert one["recipe"]["beta"] == pytest.approx(15 * 1.2**number)
        assert one["recipe"]["eta"] == pytest.approx(5 * 0.8**number)
    losses = [one["losses"]["total"] for one in found.rounds]
    assert found.chosen == int(np.argmin(losses))


def test_a_round_is_enough_if_the_second_contribution_is_large_enough(trained: Trained) -> None:
    assert trained.rounds[trained.chosen]["enough"]
    assert len(trained.rounds) == trained.chosen + 1
    means = torch.tensor(trained.rounds[-1]["mean_contributions"])
    assert means.shape == (1, 3)
    assert balance_of(torch.tensor([-1.0, 5.0, 2.0])) == pytest.approx(0.4)
    assert balance_of(torch.tensor([-1.0, 5.0, 0.0])) == 0
    assert balance_of(torch.tensor([5.0])) == 0


def test_several_classes_share_their_features() -> None:
    y = torch.cat([Y, 10 - 2 * Y], 1)
    own = torch.stack([Y[:, 0] > 4, Y[:, 0] <= 4], 1)
    recipe = replace(RECIPE, alpha=1.0, beta=100.0, eta=0.5, features=6, rounds=1)
    found = train(Z[:HALF], y[:HALF], own[:HALF], recipe, seed=1)
    with torch.no_grad():
        error = (found.head(Z[HALF:]) - y[HALF:]).square().mean(0).sqrt()
    assert (error < 0.1 * y[HALF:].std(0)).all()
    assert len(found.rounds[0]["mean_contributions"]) == 2


def test_shapes_must_match() -> None:
    for wrong in (Y[:, 0], Y[:10], Y[:, :, None]):
        with pytest.raises(ValueError, match="one row for each of 600"):
            train(Z, wrong, OWN, RECIPE, seed=1)


# Interruptions.


class Killed(BaseException):
    pass


class Memory:
    """Checkpoints in memory; the n-th writing is the last before the process is killed."""

    def __init__(self, last: int | None = None) -> None:
        self.found: dict = {}
        self.last = last

    def read(self, name: str):
        return self.found.get(name)

    def write(self, name: str, tensors, about) -> None:
        copied = {key: tensor.detach().clone() for key, tensor in tensors.items()}
        self.found[name] = (copied, dict(about))
        if self.last is not None:
            self.last -= 1
            if self.last == 0:
                raise Killed

    def remove(self, name: str) -> None:
        self.found.pop(name, None)


def bits(one: Trained) -> list[bytes]:
    parts = [*one.head.state_dict().values(), *one.decoder.state_dict().values()]
    return [part.numpy().tobytes() for part in parts]


# Twelve epochs a round, of which the last one of each of four phases keeps nothing.
@pytest.mark.parametrize("last", [1, 2, 4, 7, 9, 12])
def test_a_training_that_was_killed_gives_the_same_bits(last: int, monkeypatch) -> None:
    monkeypatch.setattr(srae_training, "_INTERVAL", 0.0)
    monkeypatch.setattr(srae_training, "_PERIOD", 2)
    recipe = replace(RECIPE, features=1, hidden=(8, 4), epochs=6, rounds=2)
    arguments = (Z[:100], Y[:100], OWN[:100], recipe, 5)
    torch.manual_seed(1)
    expected = train(*arguments)
    kept = Memory(last)
    with pytest.raises(Killed):
        train(*arguments, checkpoints=kept)
    kept.last = None
    torch.manual_seed(2)
    shown = torch.random.get_rng_state()
    found = train(*arguments, checkpoints=kept)
    assert kept.found.keys() == {"round-0", "round-1"}
    assert bits(found) == bits(expected) and found.rounds == expected.rounds
    assert found.chosen == expected.chosen
    # The state of torch's own random numbers is left as it was.
    assert torch.equal(torch.random.get_rng_state(), shown)


def test_seeds_decide() -> None:
    recipe = replace(RECIPE, epochs=2, rounds=1)
    one, same, other = (
        bits(train(Z[:100], Y[:100], OWN[:100], recipe, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == same != other
