"""How small a difference a cohort can show, and how many patients a given one would take."""

from __future__ import annotations

import math

from scipy import optimize, stats

# Above this the t distribution is the normal one to within a patient.
_NORMAL_FROM = 1e6


def detectable_difference(
    se: float, df: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    r"""Smallest true difference that a two-sided t-test of this precision would find.

    .. math:: \Delta = (t_{1-\alpha/2,\,df} + t_{power,\,df}) \cdot SE

    It depends on the standard error and not on the difference that was found.

    Parameters
    ----------
    se
        Standard error of the difference, in its units.
    df
        Degrees of freedom of the test.
    alpha, power
        Two-sided level, and the share of cohorts in which the difference is to be found.

    Returns
    -------
    float
        In the units of ``se``; NaN where that is NaN or 0, or there are no degrees of freedom.

    Raises
    ------
    ValueError
        If alpha or power is not between 0 and 1.

    References
    ----------
    Bloom HS. Minimum detectable effects. Eval Rev 1995; 19: 547-556.

    Examples
    --------
    >>> round(detectable_difference(0.01, 49), 4)
    0.0286
    """
    _check(alpha, power)
    if not (se > 0 and df > 0):
        return math.nan
    multiple = stats.t.ppf(1 - alpha / 2, df) + stats.t.ppf(power, df)
    return float(multiple) * se


def paired_t_size(
    effect: float, *, alpha: float = 0.05, power: float = 0.8, normal: bool = False
) -> float:
    r"""Find the number of pairs, not rounded, that give a paired t-test the power asked for.

    With the effect :math:`e = \Delta/\sigma`, it is the n that solves

    .. math:: 1 - F_{n-1,\,e\sqrt n}\left(t_{1-\alpha/2,\,n-1}\right) = power

    with F the noncentral t distribution. The far tail, a significant difference of the wrong
    sign, is left out.

    Parameters
    ----------
    effect
        True mean difference over the standard deviation of the differences; its sign is ignored.
    alpha, power
        As in `detectable_difference`.
    normal
        Take :math:`((z_{1-\alpha/2} + z_{power}) / e)^2` instead, which at the
        usual levels is about two pairs too few and is what most printed tables hold.

    Returns
    -------
    float
        At least 2; infinite where the effect is 0.

    Raises
    ------
    ValueError
        If alpha or power is not between 0 and 1, or the effect is NaN.

    References
    ----------
    Chow SC, Shao J, Wang H. Sample size calculations in clinical research. 2nd ed. Chapman &
    Hall/CRC 2008, section 3.1.

    Examples
    --------
    >>> round(paired_t_size(0.5), 2)
    33.37
    """
    _check(alpha, power)
    if math.isnan(effect):
        raise ValueError("effect is nan: give the mean difference over its standard deviation")
    e = abs(effect)
    if e == 0:
        return math.inf
    start = max(2.0, (float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / e) ** 2)
    if normal or start > _NORMAL_FROM:
        return start

    def missing(n: float) -> float:
        return float(stats.nct.sf(stats.t.ppf(1 - alpha / 2, n - 1), n - 1, e * math.sqrt(n))) - (
            power
        )

    if missing(2.0) >= 0:
        return 2.0
    return float(optimize.brentq(missing, 2.0, 2 * start + 100))


def patients_needed(
    sigma_patient: float,
    difference: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    normal: bool = False,
) -> int | None:
    """Patients with which a paired t-test over patients would find a true difference.

    Tiles do not enter: more tiles of the same patients make ``sigma_patient`` a little smaller,
    more patients make the mean more precise.

    Parameters
    ----------
    sigma_patient
        Standard deviation over patients of the per-patient difference between two arms.
    difference
        True mean difference that is to be found, in the same units; its sign is ignored.
    alpha, power, normal
        As in `paired_t_size`.

    Returns
    -------
    int or None
        None where the standard deviation is NaN, infinite or 0: nothing can be planned from it.

    Raises
    ------
    ValueError
        If the difference is 0 or not finite, or alpha or power is not between 0 and 1.

    References
    ----------
    As in `paired_t_size`.

    Examples
    --------
    >>> patients_needed(0.15, 0.03)
    199
    >>> patients_needed(0.15, 0.03, normal=True)
    197
    """
    _check(alpha, power)
    _check_size("difference", difference)
    if not _usable(sigma_patient):
        return None
    effect = difference / sigma_patient
    return _whole(paired_t_size(effect, alpha=alpha, power=power, normal=normal))


def equivalence_patients(
    sigma_patient: float,
    margin: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    normal: bool = False,
) -> int | None:
    r"""Patients with which two arms that do not differ would be shown to be equivalent.

    The smallest n with

    .. math:: n \ge \left((t_{1-\alpha,\,n-1} + t_{1-\beta/2,\,n-1})\,\sigma/\delta\right)^2,
        \qquad \beta = 1 - power,

    for two one-sided t-tests at level alpha each against a margin of :math:`\pm\delta`, the true
    difference being 0.

    Parameters
    ----------
    sigma_patient
        As in `patients_needed`.
    margin
        Largest difference that counts as none, in the same units.
    alpha, power
        Level of each one-sided test, and the share of cohorts in which both are to reject.
    normal
        Take normal instead of t quantiles.

    Returns
    -------
    int or None
        As in `patients_needed`.

    Raises
    ------
    ValueError
        If the margin is not above 0, or alpha or power is not between 0 and 1.

    References
    ----------
    Julious SA. Sample sizes for clinical trials with Normal data. Stat Med 2004; 23: 1921-1986,
    section on bioequivalence.

    Examples
    --------
    >>> equivalence_patients(0.10, 0.02, normal=True)
    215
    """
    _check(alpha, power)
    _check_size("margin", margin)
    if not _usable(sigma_patient):
        return None
    tails = (1 - alpha, (1 + power) / 2)
    ratio = sigma_patient / abs(margin)
    n = max(2.0, (sum(float(stats.norm.ppf(tail)) for tail in tails) * ratio) ** 2)
    if normal or n > _NORMAL_FROM:
        return _whole(n)
    # Quantiles of t lie above the normal ones, so the normal size is a lower bound to start from.
    found = _whole(n)
    while found < (sum(float(stats.t.ppf(tail, found - 1)) for tail in tails) * ratio) ** 2:
        found += 1
    return found


def _whole(n: float) -> int:
    """Round up, unless it is a whole number but for the rounding of its computation."""
    return math.ceil(n * (1 - 1e-12))


def _usable(sigma: float) -> bool:
    return math.isfinite(sigma) and sigma > 0


def _check_size(name: str, value: float) -> None:
    if not (math.isfinite(value) and value != 0):
        raise ValueError(f"{name} is {value}: give a finite one that is not 0")


def _check(alpha: float, power: float) -> None:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha is {alpha} and power {power}: give values between 0 and 1")
