"""Tests of a difference over patients, whose tiles are not independent of each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurebench.stats.resampled import TestResult, t_result

Floats = npt.NDArray[np.float64]

PATIENT_T = "t over patients"
INFLUENCE_T = "t over patients on ROC AUC (Obuchowski)"
# Up to here all sign changes are enumerated; beyond, they are drawn.
MAX_EXACT = 20
_ROUNDING = 1e-12
# Sums that agree in exact arithmetic are ties.
_TIE = 1e-10
_CHUNK_ELEMENTS = 2**21


def patient_test(
    contributions: npt.ArrayLike, shares: npt.ArrayLike, *, alpha: float = 0.05
) -> TestResult:
    r"""T-test of a mean over groups of mean differences, with patients as independent units.

    With :math:`c_{pg}` the part of patient p in the mean difference :math:`D_g = \sum_p c_{pg}`
    of group g, and :math:`w_{pg}` that patient's share of its tiles, the estimate is the mean of
    the G values D_g and

    .. math:: u_p = \frac1G \sum_g \frac{c_{pg} - w_{pg} D_g}{\sqrt{1 - w_{pg}}}, \qquad
              se^2 = \sum_p u_p^2,

    the cluster-robust variance of Bell and McCaffrey (CR2): what a patient differs by from a mean
    that contains the patient is too small, and is divided by what that takes away. The degrees of
    freedom are those of `patient_df`. For one group and patients of equal size it is the paired
    t-test over the patients' mean differences.

    Accuracy, log loss and Brier score have one group, balanced accuracy one for each class.

    Parameters
    ----------
    contributions
        Shape (P, G): sum of the differences of a patient's tiles of a group over the number of
        that group's tiles, first arm minus second arm.
    shares
        Shape (P, G): tiles of the patient in the group over the group's tiles; columns sum to 1.
        A patient without a share in any group is left out.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    TestResult
        ``n`` is P. Not estimable (NaN) where a group has tiles of one patient only, or when no
        patient moves the estimate.

    Raises
    ------
    ValueError
        If the shapes differ or are no tables, a value is not finite, the shares of a group do not
        sum to 1, or alpha is not between 0 and 1.

    References
    ----------
    Bell RM, McCaffrey DF. Bias reduction in standard errors for linear regression with multi-stage
    samples. Survey Methodology 2002; 28: 169-181.
    Pustejovsky JE, Tipton E. Small-sample methods for cluster-robust variance estimation and
    hypothesis testing in fixed effects models. J Bus Econ Stat 2018; 36: 672-683.

    Examples
    --------
    >>> differences = np.array([0.1, 0.3, -0.1, 0.2])
    >>> result = patient_test(differences[:, None] / 4, np.full((4, 1), 0.25))
    >>> round(result.estimate, 3), round(result.statistic, 3), round(result.df, 6)
    (0.125, 1.464, 3.0)
    """
    c, w = np.asarray(contributions, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    _check_groups(c, w)
    _check_alpha(alpha)
    kept = (w > 0).any(axis=1)
    c, w, n = c[kept], w[kept], int(kept.sum())
    group_means = c.sum(axis=0)
    estimate, se, df = float(group_means.mean()), float("nan"), 0.0
    if w.max() < 1 - _ROUNDING:
        influence = ((c - w * group_means) / np.sqrt(1 - w)).mean(axis=1)
        df = patient_df(w)
        if _moves(influence, c):
            se = float(np.sqrt(influence @ influence))
    return t_result(PATIENT_T, estimate, se, df=df, alpha=alpha, n=n)


def influence_test(
    positive: npt.ArrayLike,
    negative: npt.ArrayLike,
    *,
    has_positive: npt.ArrayLike,
    has_negative: npt.ArrayLike,
    estimate: float,
    alpha: float = 0.05,
) -> TestResult:
    r"""T-test of a difference between two ROC AUCs with patients as independent units.

    With :math:`x_p` and :math:`y_p` what patient p's positive and negative tiles add to the
    difference,

    .. math:: se^2 = \frac{I_{10}}{I_{10} - 1} \sum x_p^2 + \frac{I_{01}}{I_{01} - 1} \sum y_p^2
              + \frac{2 P}{P - 1} \sum x_p y_p, \qquad df = P - 2,

    where :math:`I_{10}` and :math:`I_{01}` patients have positive and negative tiles and P either.
    For one test set it is the variance of the difference by `clustered_auc`. Over folds, classes
    and repeats the influences are averaged first, never the scores.

    Parameters
    ----------
    positive, negative
        Shape (P,): `auc_influence` of the first arm minus that of the second, or means of it.
    has_positive, has_negative
        Bool, shape (P,): whether the patient has such tiles. Patients with neither are left out.
    estimate
        Difference between the AUCs, or the mean of it.
    alpha
        The interval has level 1 - alpha.

    Returns
    -------
    TestResult
        ``n`` is P. Not estimable (NaN) with fewer than three patients, fewer than two with
        positive or with negative tiles, an influence that is NaN, or when no patient moves the
        estimate.

    Raises
    ------
    ValueError
        If the four arrays do not have one value for each patient, or alpha is not between 0 and 1.

    References
    ----------
    Obuchowski NA. Nonparametric analysis of clustered ROC curve data. Biometrics 1997; 53: 567-578.

    Examples
    --------
    >>> x, y = np.array([0.02, -0.01, 0.03, 0.0]), np.array([0.01, 0.0, -0.02, 0.02])
    >>> has = np.ones(4, dtype=bool)
    >>> result = influence_test(x, y, has_positive=has, has_negative=has, estimate=0.04)
    >>> round(result.se, 4), result.df
    (0.0447, 2.0)
    """
    x, y = np.asarray(positive, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    with_x, with_y = np.asarray(has_positive, dtype=bool), np.asarray(has_negative, dtype=bool)
    if x.ndim != 1 or not x.shape == y.shape == with_x.shape == with_y.shape:
        shapes = ", ".join(str(array.shape) for array in (x, y, with_x, with_y))
        raise ValueError(f"arrays have shapes {shapes}: give one value for each patient in each")
    _check_alpha(alpha)
    n = int((with_x | with_y).sum())
    return t_result(
        INFLUENCE_T,
        float(estimate),
        _obuchowski_se(x, y, with_x, with_y),
        df=float(max(n - 2, 0)),
        alpha=alpha,
        n=n,
    )


def small_sample_factors(
    has_positive: npt.NDArray[np.bool_], has_negative: npt.NDArray[np.bool_]
) -> Floats:
    """Obuchowski's factors I / (I - 1) for positives, negatives and both; NaN with one patient."""
    counts = np.array(
        [has_positive.sum(), has_negative.sum(), (has_positive | has_negative).sum()], dtype=float
    )
    factors: Floats = np.full(3, np.nan)
    np.divide(counts, counts - 1, out=factors, where=counts > 1)
    return factors


def patient_df(shares: npt.ArrayLike) -> float:
    r"""Count what the error of `patient_test` rests on: Satterthwaite's degrees of freedom.

    They are :math:`(tr\,\Omega)^2 / tr\,\Omega^2` with \Omega the covariance of the
    :math:`u_p`, where the mean difference of a patient has the same variance in every group,
    however many tiles it is made of: tiles of one patient resemble each other. So a group of few
    patients, whose mean varies most, has the most say. With patients of equal size these are the
    degrees of freedom of the R package clubSandwich: 58 with 30 patients of each of two classes,
    4.76 with 5 and 55, 1.07 with 2 and 58.

    Parameters
    ----------
    shares
        As in `patient_test`.

    Returns
    -------
    float
        0 where a group has tiles of one patient only.

    References
    ----------
    Pustejovsky JE, Tipton E. Small-sample methods for cluster-robust variance estimation and
    hypothesis testing in fixed effects models. J Bus Econ Stat 2018; 36: 672-683.

    Examples
    --------
    >>> shares = np.zeros((60, 2))
    >>> shares[:2, 0], shares[2:, 1] = 1 / 2, 1 / 58
    >>> round(patient_df(shares), 2)
    1.07
    """
    w = np.asarray(shares, dtype=np.float64)
    if w.max(initial=0.0) >= 1 - _ROUNDING:
        return 0.0
    root = np.sqrt(1 - w)
    # Omega is diag(d) + sum over groups of (s a a' - a b' - b a').
    a, b, s = w / root, w**2 / root, (w**2).sum(axis=0)
    d = (w**2 / (1 - w)).sum(axis=1)
    sides = np.concatenate([a, b], axis=1)
    middle = np.block([[np.diag(s), -np.eye(len(s))], [-np.eye(len(s)), np.zeros((len(s),) * 2)]])
    spread = sides @ middle
    diagonal = (spread * sides).sum(axis=1)
    inner = sides.T @ spread
    squared = d @ d + 2 * d @ diagonal + (inner * inner.T).sum()
    return float((d + diagonal).sum() ** 2 / squared)


def sign_flip(contributions: npt.ArrayLike, *, n_draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided sign-flip permutation test that the contributions of patients sum to zero.

    Where the arms are exchangeable within a patient, each contribution was as likely to have the
    other sign. The p-value is the share of sign changes whose sum is at least as far from zero as
    the observed one. Up to 20 patients with a contribution other than zero all sign changes are
    counted (one half of them against the other, sorted); with more, B of them are drawn and
    p = (b + 1) / (B + 1).

    Parameters
    ----------
    contributions
        Shape (P,): each patient's part of the difference.
    n_draws
        B.
    seed
        The same seed gives the same p-value.

    Returns
    -------
    float
        1 where every contribution is zero; NaN without any patient.

    Raises
    ------
    ValueError
        If the contributions are not one-dimensional and finite, or n_draws is below 1.

    References
    ----------
    Fisher RA. The design of experiments. Oliver and Boyd 1935, section 21.
    Phipson B, Smyth GK. Permutation p-values should never be zero. Stat Appl Genet Mol Biol 2010;
    9 (1): 39 (the added 1).

    Examples
    --------
    >>> sign_flip([0.1, 0.3, 0.2, 0.4, 0.2])
    0.0625
    """
    c = np.asarray(contributions, dtype=np.float64)
    if c.ndim != 1 or not np.isfinite(c).all():
        raise ValueError(f"contributions of shape {c.shape}: give one finite value a patient")
    if n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}: draw at least 1")
    if not c.size:
        return float("nan")
    moving = c[c != 0]
    bound = abs(float(moving.sum())) - _TIE * float(np.abs(moving).sum())
    if moving.size <= MAX_EXACT:
        return _exact_share(moving, bound)
    return (_drawn(moving, bound, n_draws, seed) + 1) / (n_draws + 1)


def _exact_share(c: Floats, bound: float) -> float:
    if bound <= 0:
        return 1.0
    half = c.size // 2
    first, second = _signed_sums(c[:half]), np.sort(_signed_sums(c[half:]))
    above = second.size - np.searchsorted(second, bound - first, side="left")
    # Sums are symmetric about zero, so as many lie at or below -bound.
    return 2 * int(above.sum()) / (first.size * second.size)


def _signed_sums(c: Floats) -> Floats:
    sums: Floats = np.zeros(1)
    for value in c:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _drawn(c: Floats, bound: float, n_draws: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_ELEMENTS // c.size)
    hits, total = 0, float(c.sum())
    for start in range(0, n_draws, rows):
        flipped = rng.integers(0, 2, (min(rows, n_draws - start), c.size), dtype=np.int8)
        hits += int(np.count_nonzero(np.abs(total - 2 * (flipped @ c)) >= bound))
    return hits


def _obuchowski_se(
    x: Floats, y: Floats, with_x: npt.NDArray[np.bool_], with_y: npt.NDArray[np.bool_]
) -> float:
    either = with_x | with_y
    x, y = x[either], y[either]
    factors = small_sample_factors(with_x, with_y)
    if x.size < 3 or np.isnan(factors).any() or not _moves(np.stack([x, y]), 1.0):
        return float("nan")
    return float(np.sqrt(factors @ [x @ x, y @ y, 2 * (x @ y)]))


def _moves(influence: Floats, scale: npt.ArrayLike) -> bool:
    """Whether the influences are more than rounding; False where one is NaN."""
    largest = float(np.abs(influence).max())
    rounding = _ROUNDING * max(1.0, float(np.abs(scale).max())) / influence.shape[-1]
    return bool(largest > rounding)


def _check_groups(c: Floats, w: Floats) -> None:
    if c.ndim != 2 or c.shape != w.shape or 0 in c.shape:
        raise ValueError(
            f"contributions have shape {c.shape} and shares {w.shape}: give both a row for each "
            "patient and a column for each group"
        )
    if not (np.isfinite(c).all() and np.isfinite(w).all()):
        raise ValueError("contributions or shares are not finite: leave undefined groups out")
    total = w.sum(axis=0)
    wrong = np.flatnonzero(np.abs(total - 1) > 1e-6)
    if wrong.size:
        raise ValueError(
            f"the shares of group {wrong[0]} sum to {total[wrong[0]]:.6g}: give tiles of the "
            "patient over the group's tiles, and leave out groups without tiles"
        )


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: give a value between 0 and 1")
