"""MlpProbe: a small network with dropout on embeddings, stopped early on inner folds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.utils import check_random_state

from featurebench.heads.stopping import EarlyStoppedClassifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from featurebench.heads.folds import Array, Rows
    from featurebench.heads.stepped import ClassWeight
    from featurebench.heads.stopping import Table

    Floats = npt.NDArray[np.float32]


class MlpProbe(EarlyStoppedClassifier):
    """Dense layers with ReLU and dropout between them, then softmax.

    Minimises cross-entropy by AdamW (Loshchilov and Hutter 2019); biases do not decay. It draws
    from generators of its own, so torch's global one neither matters nor moves.

    Parameters
    ----------
    hidden
        Units of each hidden layer; empty for none.
    dropout
        Share of hidden units left out in training.
    lr, weight_decay
        Of AdamW. With ten times the default rate, wide embeddings are best after the first epoch:
        too coarse a step to stop at.
    batch_size
        The most rows to a step; batches of an epoch differ by one row at most.
    max_epochs
        Passes over the training rows; the most where training stops early.
    patience
        Epochs without a lower log loss on the validation rows of the first inner fold after which
        training stops; None trains ``max_epochs`` and needs no inner folds.
    refit
        Whether all rows are trained on again for the epochs found; else the weights of the best
        epoch on the inner training rows are kept.
    features
        Feature steps, fitted on the rows trained on; see `featurebench.heads.features`.
    class_weight
        As in scikit-learn: None, ``"balanced"`` or a weight of each label.
    cv
        Inner folds as ``(train, validation)`` row arrays into the rows given to `fit`.
    random_state
        Seed of the first weights, the order of rows and dropout.
    device
        ``cpu`` or ``cuda``, for training; the fitted network predicts on the CPU.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    choices_ : dict
        ``max_epochs``, the epochs found, where training stops early.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]] * 5), ["a", "a", "b", "b"] * 5
    >>> MlpProbe(patience=None, lr=0.01).fit(X, y).predict([[3.0]])
    array(['b'], dtype='<U1')
    """

    _rounds = "max_epochs"
    _patience = "patience"

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.5,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        batch_size: int = 128,
        max_epochs: int = 200,
        patience: int | None = 10,
        refit: bool = True,
        features: object = ("standardise",),
        class_weight: ClassWeight = None,
        cv: Sequence[tuple[Rows, Rows]] | None = None,
        random_state: int | None = 0,
        device: str = "cpu",
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.refit = refit
        self.features = features
        self.class_weight = class_weight
        self.cv = cv
        self.random_state = random_state
        self.device = device

    def _train(self, table: Table, watched: Table | None, n_rounds: int) -> tuple[Network, int]:
        training = _Training(self, table, watched)
        best_loss, best_epoch, best = math.inf, 0, None
        for epoch in range(1, n_rounds + 1):
            self._check(training.epoch(), epoch)
            if watched is None:
                continue
            loss = self._check(training.watched_loss(), epoch)
            if loss < best_loss:
                best_loss, best_epoch, best = loss, epoch, training.network()
            elif epoch - best_epoch >= (self.patience or 1):
                break
        return best or training.network(), best_epoch or n_rounds

    def _check(self, loss: float, epoch: int) -> float:
        if not math.isfinite(loss):
            raise ValueError(f"lr {self.lr:g} made the loss {loss} in epoch {epoch}: lower lr")
        return loss


@dataclass(frozen=True, eq=False)
class Network:
    """Fitted layers; predicting needs no torch.

    Parameters
    ----------
    layers
        Weights, shape (n_out, n_in), and biases, shape (n_out,), of each layer.
    """

    layers: tuple[tuple[Floats, Floats], ...]

    def predict_proba(self, X: Array) -> Floats:
        """Class probabilities, shape (n_rows, n_classes)."""
        *inner, (weight, bias) = self.layers
        h = X.astype(np.float32, copy=False)
        for w, b in inner:
            h = np.maximum(h @ w.T + b, 0)
        p: Floats = softmax(h @ weight.T + bias, axis=1)
        return p


class _Rows(NamedTuple):
    """A table on the device."""

    X: torch.Tensor
    codes: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, table: Table, device: torch.device) -> _Rows:
        import torch

        return cls(
            torch.tensor(table.X, dtype=torch.float32, device=device),
            torch.tensor(table.codes, dtype=torch.int64, device=device),
            # With weights of mean 1 their unit is of no account to the learning rate.
            torch.tensor(table.weights / table.weights.mean(), dtype=torch.float32, device=device),
        )


class _Training:
    """A network on its way: its layers, its optimiser, and all rows on the device from the start.

    Nothing is loaded in between, so that an epoch on few rows takes milliseconds.
    """

    def __init__(self, probe: MlpProbe, table: Table, watched: Table | None) -> None:
        import torch

        device = _resolve_device(probe.device)
        seeds = check_random_state(probe.random_state).randint(np.iinfo(np.int32).max, size=2)
        self._order = torch.Generator().manual_seed(int(seeds[0]))
        self._noise = torch.Generator(device).manual_seed(int(seeds[1]))
        self._dropout = probe.dropout
        self._rows = _Rows.of(table, device)
        self._watched = None if watched is None else _Rows.of(watched, device)
        self._n_batches = -(-len(table.X) // probe.batch_size)
        sizes = [table.X.shape[1], *probe.hidden, int(table.codes.max()) + 1]
        self._layers = [self._draw_layer(*pair, device) for pair in pairwise(sizes)]
        decays = {"params": [w for w, _ in self._layers], "weight_decay": probe.weight_decay}
        others = {"params": [b for _, b in self._layers], "weight_decay": 0.0}
        self._optimizer = torch.optim.AdamW([decays, others], lr=probe.lr, fused=True)

    def epoch(self) -> float:
        """Learn from every row once; return the mean loss of the batches."""
        import torch

        rows = self._rows
        order = torch.randperm(len(rows.X), generator=self._order).to(rows.X.device)
        # Summed on the device: asking for each step's loss would make a GPU wait.
        total = torch.zeros((), device=rows.X.device)
        for part in order.tensor_split(self._n_batches):
            batch = _Rows(rows.X[part], rows.codes[part], rows.weights[part])
            losses = self._losses(batch, self._dropout)
            loss = (batch.weights * losses).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            total += loss.detach()
        return float(total) / self._n_batches

    def watched_loss(self) -> float:
        """Give the mean log loss of the watched rows, without dropout or weights."""
        import torch

        if self._watched is None:
            return math.nan
        with torch.inference_mode():
            return float(self._losses(self._watched, 0.0).double().mean())

    def network(self) -> Network:
        """Copy the layers as they are now."""
        return Network(
            tuple(
                (w.detach().cpu().numpy().copy(), b.detach().cpu().numpy().copy())
                for w, b in self._layers
            )
        )

    def _losses(self, rows: _Rows, dropout: float) -> torch.Tensor:
        from torch.nn import functional

        *inner, (weight, bias) = self._layers
        h = rows.X
        for w, b in inner:
            h = functional.relu(functional.linear(h, w, b))
            if dropout > 0:
                keep = h.new_empty(h.shape).bernoulli_(1 - dropout, generator=self._noise)
                h = h * keep / (1 - dropout)
        logits = functional.linear(h, weight, bias)
        return functional.cross_entropy(logits, rows.codes, reduction="none")

    def _draw_layer(
        self, n_in: int, n_out: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw weights and biases as `torch.nn.Linear` does: evenly within 1 / sqrt(n_in)."""
        import torch

        bound = 1 / math.sqrt(n_in)
        weight, bias = (
            (torch.rand(shape, generator=self._order) * 2 * bound - bound)
            .to(device)
            .requires_grad_()
            for shape in ((n_out, n_in), (n_out,))
        )
        return weight, bias


def _resolve_device(name: str) -> torch.device:
    import torch

    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch sees no GPU here; use cpu")
    return device
