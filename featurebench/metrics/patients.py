"""Mean probabilities of patients, and which of them have one label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurebench.metrics.tested import as_floats, check, number

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PatientTiles:
    """Which tested tiles belong to which patient.

    Parameters
    ----------
    members
        Place of every tile's patient, in ascending order of their codes, shape (n,).
    first
        First tile of every patient, shape (m,).
    mixed
        Whether the patient's tiles have more than one label, shape (m,).
    """

    members: Ints
    first: Ints
    mixed: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, y_true: npt.ArrayLike, patients: npt.ArrayLike) -> PatientTiles:
        """Group tiles by patient; both have shape (n,)."""
        codes, names = np.asarray(y_true), np.asarray(patients)
        if not (np.issubdtype(names.dtype, np.integer) and names.min(initial=0) >= 0):
            names = np.unique(names, return_inverse=True)[1]
        found, members = number(names)
        first = np.zeros(len(found), dtype=np.int64)
        first[members[::-1]] = np.arange(len(members))[::-1]
        mixed = np.zeros(len(found), dtype=bool)
        mixed[members[codes != codes[first[members]]]] = True
        return cls(members, first, mixed)

    @property
    def rows(self) -> Ints:
        """First tile of every patient with one label."""
        return self.first[~self.mixed]

    def mean(self, y_prob: npt.NDArray[np.floating]) -> Floats:
        """Mean probabilities of every patient with one label, shape (m - n_mixed, n_classes)."""
        sizes = np.bincount(self.members)
        sums = [np.bincount(self.members, column, minlength=len(sizes)) for column in y_prob.T]
        means = np.stack(sums, axis=1) / sizes[:, None]
        return np.asarray(means[~self.mixed])


def patient_level(
    y_true: npt.ArrayLike, y_prob: npt.ArrayLike, patients: npt.ArrayLike
) -> tuple[Ints, Floats, int]:
    """Average the tiles' probabilities by patient.

    Parameters
    ----------
    y_true, y_prob, patients
        Class codes (n,), probabilities (n, n_classes) and patient of every tested tile (n,).

    Returns
    -------
    y_true, y_prob, n_mixed
        By patient in ascending order of their codes, shapes (m,) and (m, n_classes); patients
        whose tiles have more than one label are left out, ``n_mixed`` is their number.
    """
    codes, probs = np.asarray(y_true, dtype=np.int64), as_floats(y_prob)
    check(codes, probs)
    tiles = PatientTiles.of(codes, patients)
    return codes[tiles.rows], tiles.mean(probs), int(tiles.mixed.sum())


def patient_rows(y_true: npt.ArrayLike, patients: npt.ArrayLike) -> tuple[Ints, int]:
    """Find one row of every patient that `patient_level` keeps, in the same order.

    Returns
    -------
    rows, n_mixed
        First row of each patient with one label, to look up the fold or site; shape (m,). And the
        number of patients with more than one label.
    """
    tiles = PatientTiles.of(y_true, patients)
    return tiles.rows, int(tiles.mixed.sum())
