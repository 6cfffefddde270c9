"""How closely class and site go together, patients taken as independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    Codes = npt.NDArray[np.int64]
    Doubles = npt.NDArray[np.float64]

N_PERMUTATIONS = 1999
SIGNIFICANT = 0.05
LEAST_ASSOCIATION = 0.1


@dataclass(frozen=True)
class Association:
    """Class against the values of a column.

    Parameters
    ----------
    v
        Cramer's V, corrected for its bias: 0 where the two are unrelated, 1 where each value has
        one class.
    p_value
        By permuting the values over the units.
    n_units
        Patients, or parts of patients where a patient has several values, or tiles where no
        patient is known.
    """

    v: float
    p_value: float
    n_units: int

    @property
    def related(self) -> bool:
        """Whether p is below 0.05 and V at least 0.1."""
        return self.p_value < SIGNIFICANT and self.v >= LEAST_ASSOCIATION


def associate(
    labels: Codes, values: Codes, patients: Codes | None = None, *, seed: int = 0
) -> Association:
    """Measure the association of class and value on one unit a patient.

    Tiles of one patient have one site and often one class, so they are not counted singly: each
    patient (each part of a patient with one value) counts 1, shared out over the classes of its
    tiles. With chi2 of that table of r rows, c columns and n units (Bergsma 2013)::

        phi2 = max(0, chi2 / n - (r - 1) (c - 1) / (n - 1))
        V = sqrt(phi2 / min(r' - 1, c' - 1)),  r' = r - (r - 1)^2 / (n - 1),  c' likewise

    Parameters
    ----------
    labels, values
        Codes from 0, shape (n_tiles,).
    patients
        Codes, shape (n_tiles,); every tile is a unit if None.
    seed
        Of the permutations.

    References
    ----------
    W. Bergsma, A bias-correction for Cramer's V and Tschuprow's T, Journal of the Korean
    Statistical Society 42 (2013).

    Examples
    --------
    >>> patients = np.repeat(np.arange(40), 5)
    >>> found = associate(patients % 2, patients % 2, patients)
    >>> round(found.v, 6), found.p_value, found.n_units
    (1.0, 0.0005, 40)
    """
    shares, at = _units(labels, values, patients)
    n, n_values = len(shares), int(values.max()) + 1
    observed = _chi2(shares.T @ np.eye(n_values)[at])
    rng = np.random.default_rng(seed)
    as_large = sum(
        _chi2(shares.T @ np.eye(n_values)[rng.permutation(at)]) >= observed * (1 - 1e-9)
        for _ in range(N_PERMUTATIONS)
    )
    table = shares.T @ np.eye(n_values)[at]
    return Association(cramers_v(table), (1 + as_large) / (1 + N_PERMUTATIONS), n)


def cramers_v(table: Doubles) -> float:
    """Return the bias-corrected Cramer's V of a table of counts; NaN below two rows or columns.

    Parameters
    ----------
    table
        Shape (r, c), not negative; empty rows and columns are left out.
    """
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n, (r, c) = float(kept.sum()), kept.shape
    if min(r, c) < 2 or n < 2:
        return float("nan")
    phi2 = max(0.0, _chi2(kept) / n - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return float(np.sqrt(min(1.0, phi2 / least))) if least > 0 else float("nan")


def _units(labels: Codes, values: Codes, patients: Codes | None) -> tuple[Doubles, Codes]:
    """Give each unit's shares of the classes, and its value."""
    owners = np.arange(len(labels)) if patients is None else patients
    pairs, unit = np.unique(np.stack([owners, values]), axis=1, return_inverse=True)
    shares = np.zeros((pairs.shape[1], int(labels.max()) + 1))
    np.add.at(shares, (unit.ravel(), labels), 1.0)
    return shares / shares.sum(axis=1, keepdims=True), pairs[1]


def _chi2(table: Doubles) -> float:
    total = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / total
    known = expected > 0
    return float((((table - expected) ** 2)[known] / expected[known]).sum())
