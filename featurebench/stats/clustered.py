"""McNemar's test where cases come in clusters: right and wrong calls of tiles within patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

_NAN = float("nan")


@dataclass(frozen=True)
class ClusteredMcNemar:
    """Three forms, each a chi-square with one degree of freedom; NaN where not estimable.

    Parameters
    ----------
    obuchowski, yang
        For the difference over all tiles, in which large patients weigh more.
    durkalski
        For the mean of the patients' differences, in which each patient weighs the same.
    p_obuchowski, p_yang, p_durkalski
        Their p-values.
    n
        Patients with tiles.
    """

    obuchowski: float
    durkalski: float
    yang: float
    p_obuchowski: float
    p_durkalski: float
    p_yang: float
    n: int


def clustered_mcnemar(
    b_by_patient: npt.ArrayLike, c_by_patient: npt.ArrayLike, n_by_patient: npt.ArrayLike
) -> ClusteredMcNemar:
    r"""Test two classifiers on tiles of P patients, with patients as independent units.

    With :math:`d_p = b_p - c_p`, :math:`n_p` the patient's tiles and
    :math:`\bar d = \sum d_p / \sum n_p`,

    .. math:: \chi^2_{Obuchowski} = \frac{P - 1}{P} \frac{(\sum d_p)^2}{\sum d_p^2}, \qquad
              \chi^2_{Durkalski} = \frac{(\sum d_p / n_p)^2}{\sum (d_p / n_p)^2}, \qquad
              \chi^2_{Yang} = \frac{P - 1}{P}
              \frac{(\sum d_p)^2}{\frac12 \sum [(d_p - n_p \bar d)^2 + d_p^2]}.

    They hold for one fitted pair of classifiers on new patients, not for training again.

    Parameters
    ----------
    b_by_patient, c_by_patient
        Shape (P,): tiles that only the first, and only the second classifier calls right.
    n_by_patient
        Shape (P,): all tiles of the patient; a patient without tiles is left out.

    Returns
    -------
    ClusteredMcNemar
        NaN where no patient has more of one kind of discordant tiles than of the other, and with
        fewer than two patients.

    Raises
    ------
    ValueError
        If the three do not have one count for each patient, a count is negative, or a patient has
        more discordant tiles than tiles.

    References
    ----------
    Obuchowski NA. On the comparison of correlated proportions for clustered data. Stat Med 1998;
    17: 1495-1507.
    Durkalski VL, Palesch YY, Lipsitz SR, Rust PF. Analysis of clustered matched-pair data. Stat
    Med 2003; 22: 2417-2428.
    Yang Z, Sun X, Hardin JW. A note on the tests for clustered matched-pair binary data. Biom J
    2010; 52: 638-652.

    Examples
    --------
    >>> result = clustered_mcnemar([5, 3, 0, 4], [1, 0, 1, 1], [10, 8, 9, 12])
    >>> round(result.obuchowski, 3), round(result.durkalski, 3), round(result.yang, 3)
    (1.736, 2.224, 2.494)
    """
    b, c, n = (np.asarray(x, dtype=np.float64) for x in (b_by_patient, c_by_patient, n_by_patient))
    _check(b, c, n)
    kept = n > 0
    d, n = (b - c)[kept], n[kept]
    if d.size < 2 or not d.any():
        return ClusteredMcNemar(*(_NAN,) * 6, int(d.size))
    total, factor = float(d.sum()), (d.size - 1) / d.size
    centred = d - n * total / float(n.sum())
    rates = d / n
    obuchowski = factor * total**2 / float(d @ d)
    durkalski = float(rates.sum() ** 2 / (rates @ rates))
    yang = factor * total**2 / (0.5 * float(centred @ centred + d @ d))
    return ClusteredMcNemar(
        obuchowski,
        durkalski,
        yang,
        p_obuchowski=float(stats.chi2.sf(obuchowski, 1)),
        p_durkalski=float(stats.chi2.sf(durkalski, 1)),
        p_yang=float(stats.chi2.sf(yang, 1)),
        n=int(d.size),
    )


def _check(b: Floats, c: Floats, n: Floats) -> None:
    if b.ndim != 1 or not b.shape == c.shape == n.shape:
        raise ValueError(
            f"counts have shapes {b.shape}, {c.shape}, {n.shape}: give one for each patient in each"
        )
    if b.size and not min(b.min(), c.min(), n.min()) >= 0:
        raise ValueError("a count is negative or undefined: give numbers of tiles, 0 or more")
    if np.any(b + c > n):
        raise ValueError(
            f"patient {int(np.argmax(b + c > n))} has more discordant tiles than tiles: count each "
            "tile once"
        )
