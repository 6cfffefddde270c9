"""The small network: torch's own training, step by step, from generators of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from torch import nn

from featurebench.heads.mlp import MlpProbe

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    X = rng.normal(size=(90, 12)).astype(np.float32)
    X[:, :3] += 1.5 * np.eye(3, dtype=np.float32)[y]
    return X, y


def as_module(probe: MlpProbe) -> nn.Sequential:
    """Build torch's network with the probe's fitted layers."""
    parts: list[nn.Module] = []
    for weight, bias in probe.fitted_.model.layers:  # type: ignore[attr-defined]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
        parts += [layer, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_predicts_as_torch_does(hidden: tuple[int, ...], data: Data) -> None:
    X, y = data
    probe = MlpProbe(hidden=hidden, patience=None, max_epochs=3, features=()).fit(X, y)
    assert [w.shape[0] for w, _ in probe.fitted_.model.layers] == [*hidden, 3]  # type: ignore[attr-defined]
    with torch.no_grad():
        expected = as_module(probe)(torch.tensor(X)).softmax(dim=1).numpy()
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=1e-6)


def test_learns_as_torch_does(data: Data) -> None:
    """Whole batches without dropout leave nothing to chance after the first weights."""
    X, y = data
    weight = {0: 1.0, 1: 3.0, 2: 0.5}
    params: dict[str, Any] = {
        "hidden": (8,), "dropout": 0.0, "lr": 1e-2, "weight_decay": 0.1, "batch_size": 90,
        "patience": None, "features": (), "class_weight": weight,
    }  # fmt: skip
    network = as_module(MlpProbe(**{**params, "max_epochs": 1, "lr": 0.0}).fit(X, y))
    biases = [layer.bias for layer in network if isinstance(layer, nn.Linear)]
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0, 0.5]))
    for _ in range(20):
        optimizer.zero_grad()
        criterion(network(torch.tensor(X)), torch.tensor(y)).backward()
        optimizer.step()
    fitted = MlpProbe(**{**params, "max_epochs": 20}).fit(X, y)
    with torch.no_grad():
        expected = network(torch.tensor(X)).softmax(dim=1).numpy()
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-4)


def test_dropout_keeps_the_mean_and_acts_in_training_only(data: Data) -> None:
    X, y = data
    without, with_dropout = (
        MlpProbe(hidden=(64,), dropout=d, patience=None, max_epochs=60, lr=1e-2).fit(X, y)
        for d in (0.0, 0.5)
    )
    assert np.abs(without.predict_proba(X) - with_dropout.predict_proba(X)).max() > 1e-3
    # Unscaled dropout would halve what reaches the last layer, and with it the certainty.
    assert with_dropout.predict_proba(X).max(axis=1).mean() > 0.9
    np.testing.assert_array_equal(with_dropout.predict_proba(X), with_dropout.predict_proba(X))


def test_global_generator_and_threads_neither_matter_nor_move(data: Data) -> None:
    X, y = data
    probe = MlpProbe(patience=None, max_epochs=3)
    torch.manual_seed(1)
    state, n_threads = torch.get_rng_state(), torch.get_num_threads()
    p = clone(probe).fit(X, y).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads
    torch.manual_seed(2)
    np.testing.assert_array_equal(clone(probe).fit(X, y).predict_proba(X), p)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_any_batch_size(batch_size: int, data: Data) -> None:
    X, y = data
    probe = MlpProbe(batch_size=batch_size, patience=None, max_epochs=4).fit(X[:8], y[:8])
    assert np.isfinite(probe.predict_proba(X)).all()


def test_a_learning_rate_that_bursts_is_refused(data: Data) -> None:
    X, y = data
    with pytest.raises(ValueError, match=r"lr 1e.30 made the loss .* in epoch .*: lower lr"):
        MlpProbe(lr=1e30, patience=None).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(data: Data) -> None:
    X, y = data
    with pytest.raises(ValueError, match="device 'cuda': torch sees no GPU here; use cpu"):
        MlpProbe(device="cuda", patience=None).fit(X, y)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_starts_from_the_same_weights_and_learns_the_same(data: Data) -> None:
    X, y = data
    cv = [(np.arange(60), np.arange(60, 90))]
    cpu, gpu = (
        MlpProbe(device=d, cv=cv, dropout=0.0, batch_size=32).fit(X, y) for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(gpu.predict_proba(X), cpu.predict_proba(X), atol=1e-2)
    again = MlpProbe(device="cuda", cv=cv).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(MlpProbe(device="cuda", cv=cv).fit(X, y).predict_proba(X), again)
