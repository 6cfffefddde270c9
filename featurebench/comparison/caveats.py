"""What limits a comparison: sentences that follow from the data, one rule each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from featurebench.comparison import wording
from featurebench.comparison.barred import FEWEST_UNITS
from featurebench.comparison.training import handicaps, is_cut
from featurebench.metrics import patient_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurebench.comparison.design import Design
    from featurebench.comparison.model import ArmSummary, Comparison, Contrast
    from featurebench.results import ResultsTable

FEW_PATIENTS = 20
# A fold that takes so many times the median's seconds for a tile and epoch did so for another
# reason than its size: mostly since the machine was busy.
SLOW_FOLD = 3.0
# So many arms are named in one sentence; of more, their number is given.
NAMES = 3
# What the name of an imported embedding has between model and fingerprint.
FOREIGN_TAG = ".foreign@"


def find_caveats(
    results: ResultsTable,
    design: Design,
    comparison: Comparison,
) -> tuple[str, ...]:
    """Collect every caveat that applies; arms are called as the comparison calls them.

    Why nothing may be claimed at all is no caveat: see `featurebench.comparison.barred.bars`.
    """
    return (
        *_about_patients(design),
        *_about_margin(comparison),
        *_about_choices(comparison),
        *_about_training(comparison),
        *_about_repeats(design, comparison.contrasts),
        *_about_scores(comparison.arms, comparison.contrasts, comparison.metric),
        *_about_arms(results, comparison),
    )


def _about_patients(design: Design) -> list[str]:
    if design.unit == "tiles":
        return []
    found = []
    if design.n_members < FEW_PATIENTS:
        were = "was" if design.n_members == 1 else "were"
        found.append(
            f"Only {wording.counted(design.n_members, 'patient')} {were} tested: intervals from "
            f"fewer than {FEW_PATIENTS} patients are rough, and their tests find large differences "
            "only."
        )
    tested = design.rows(0)
    n_mixed = patient_rows(design.y_true[tested], design.members[tested])[1]
    if n_mixed and design.grouped:
        have, are = ("has", "is") if n_mixed == 1 else ("have", "are")
        found.append(
            f"{n_mixed} of {wording.counted(design.n_members, 'patient')} {have} tiles of more "
            f"than one class and {are} left out of the patient-level scores."
        )
    return found + _about_weights(design) + _about_sites(design)


def _about_weights(design: Design) -> list[str]:
    """Say what counts the same where patients differ in their numbers of tiles."""
    fewest, most = int(design.member_tiles.min()), int(design.member_tiles.max())
    if fewest == most:
        return []
    sizes = (
        f"patients have {fewest} to {wording.counted(most, 'tile')} each, by which "
        f"the {design.n_members} are worth {design.effective_members:.0f} of equal size (Kish)"
    )
    if design.weights == "patients":
        return [
            f"Every patient counts the same in scores and tests: {sizes}. Calibration, net "
            "benefit, operating points, confusion tables and the choice on inner folds count "
            "tiles."
        ]
    return [
        f"Every tile counts the same in scores and tests, so large patients count most: {sizes}."
    ]


def _about_sites(design: Design) -> list[str]:
    if design.unit in {"sites", "groups"}:
        return [
            f"Folds keep {design.unit} together, so {design.n_units} {design.unit} are what tests "
            "and intervals take as independent."
        ]
    sites = design.by_sites
    if sites is None or sites.n_units >= FEWEST_UNITS:
        return []
    return [
        f"Patients come from {sites.n_units} sites, too few for a test over sites: what is claimed "
        "holds for patients of these sites."
    ]


def _about_margin(comparison: Comparison) -> list[str]:
    if comparison.margin or not comparison.contrasts:
        return []
    return [
        "No margin was declared (compare.margin), so only better and worse can be claimed: neither "
        "equivalence nor non-inferiority, nor whether a difference is large enough to matter."
    ]


def _about_choices(comparison: Comparison) -> list[str]:
    """Say where the arms of the primary contrast are not the best of their kinds, as chosen."""
    compared = {comparison.reference}
    if comparison.primary is not None:
        compared.add(comparison.primary.arm_a)
    kinds = {arm.kind for arm in comparison.arms if arm.arm in compared}
    found = []
    for each in comparison.selections:
        noun = "frozen probe" if each.kind == "probe" else "fine-tuned network"
        if each.not_chosen and each.arm in compared:
            found.append(
                f"The {noun} was not chosen on inner folds but is the first declared, {each.arm}: "
                f"{each.not_chosen}"
            )
        elif each.chosen and each.kind in kinds and each.arm not in compared:
            found.append(
                f"The {noun} that is compared was declared; inner folds would have chosen "
                f"{each.arm}."
            )
    if all(arm.kind != "baseline" for arm in comparison.arms):
        found.append(
            "No baseline that never looks at a tile was run, so nothing here shows that any arm "
            "has learnt."
        )
    return found


def _about_training(comparison: Comparison) -> list[str]:
    """Say where arms were not given alike, and where the seconds of folds are not alike."""
    found, told = [], set()
    primary = comparison.primary
    reasons = [] if primary is None else handicaps(comparison, primary)
    if primary is not None and reasons:
        told = {primary.arm_a, primary.arm_b}
        found.append(
            "The fine-tune of the primary contrast was not given what the probe was given, or not "
            f"enough: {', and '.join(reasons)}. So this does not show what fine-tuning could do."
        )
    tuned = [arm for arm in comparison.arms if arm.kind == "finetune"]
    cut = [arm.arm for arm in tuned if is_cut([arm.training]) and arm.arm not in told]
    if cut:
        found.append(
            f"In most folds of {_named(cut)} the last epoch allowed was the best one: more epochs "
            "may do better."
        )
    given = {arm.training.image_size for arm in comparison.arms}
    sizes = sorted(size for size in given if size is not None)
    if len(sizes) > 1:
        found.append(
            f"Arms read tiles of {wording.listed([str(size) for size in sizes])} px: differences "
            "and ratios of time compare the sizes too."
        )
    slow = [arm.arm for arm in tuned if arm.training.slowest > SLOW_FOLD]
    if slow:
        most = max(arm.training.slowest for arm in tuned if arm.training.slowest > SLOW_FOLD)
        found.append(
            f"A tile took up to {wording.times(most)} as long in one fold as in the median fold of "
            f"{_named(slow)}, as on a busy machine: wall-clock times and their ratios are rough."
        )
    return found


def _named(arms: list[str]) -> str:
    return wording.listed(arms) if len(arms) <= NAMES else f"{len(arms)} arms"


def _about_repeats(design: Design, contrasts: Sequence[Contrast]) -> list[str]:
    if not contrasts:
        return []
    n_plan = len(design.test_fold)
    if n_plan * design.n_folds == 1:
        return []
    found = []
    if design.n_folds == 2:
        found.append("With two folds every arm is trained on half of the cohort only.")
    for n_repeats in sorted({c.n_repeats for c in contrasts if 1 < c.n_repeats < n_plan}):
        names = wording.listed([c.arm_a for c in contrasts if c.n_repeats == n_repeats])
        found.append(
            f"The contrast with {names} uses the first {n_repeats} of {n_plan} repeats, those "
            "that both arms have."
        )
    single = [c.arm_a for c in contrasts if c.n_repeats == 1]
    if single:
        which = "Every contrast rests"
        if len(single) > NAMES:
            which = f"{len(single)} of {len(contrasts)} contrasts rest"
        elif len(single) < len(contrasts):
            which = f"The contrast with {wording.listed(single)} rests"
        found.append(
            f"{which} on a single repeat: the test over folds then finds large differences only. "
            "Three repeats (splits.repeats, and repeats of a fine-tune) find most of what ten do."
        )
    return found


def _about_scores(
    arms: Sequence[ArmSummary], contrasts: Sequence[Contrast], metric: str
) -> list[str]:
    name, found = wording.label(metric), []
    undefined = max(arm.undefined_folds[metric] for arm in arms)
    if undefined:
        found.append(
            f"In up to {wording.counted(undefined, 'fold')} {name} is undefined (as where a fold "
            "holds one class only); such folds are left out of scores and tests that are made by "
            "fold."
        )
    dropped = max((c.undefined_resamples for c in contrasts), default=0)
    if dropped:
        found.append(
            f"In up to {wording.counted(dropped, 'bootstrap resample')} {name} is undefined; "
            "intervals are made from the others."
        )
    unknown = [c.arm_a for c in contrasts if math.isnan(c.ci_low)]
    if unknown:
        found.append(
            f"The interval of the difference is not estimable for {wording.listed(unknown)}."
        )
    untested = [
        c.arm_a for c in contrasts if math.isnan(c.by_folds.p_value) and c.n_repeats * c.n_folds > 1
    ]
    if untested:
        found.append(
            f"The test over folds is not estimable for {wording.listed(untested)}: too few folds "
            "have a score, or all differences are equal."
        )
    return found


def _about_arms(results: ResultsTable, comparison: Comparison) -> list[str]:
    found = [f"Arm {failure.arm} failed and is not compared." for failure in results.failures]
    n_tests = sum(math.isfinite(c.p_value) and not c.primary for c in comparison.contrasts)
    if n_tests and comparison.primary is not None:
        others = "one other"
        if n_tests > 1:
            others = f"{n_tests} others, adjusted for their number by Holm's method,"
        found.append(
            f"The primary contrast is tested at alpha and the {others} at alpha again: the family "
            "of all has twice alpha at most, as far as each test keeps its level. Intervals are "
            "not adjusted."
        )
    elif n_tests > 1:
        found.append(
            f"{n_tests} arms are tested against the reference and their p-values are adjusted for "
            "that number by Holm's method; intervals are not."
        )
    read = sorted({run.embedding for run in results.runs if run.embedding})
    foreign = [name for name in read if FOREIGN_TAG in name]
    if foreign:
        found.append(
            f"The cost of making {wording.listed(foreign)} is not known, since that was done "
            "elsewhere; the times of arms that read it leave it out."
        )
    devices = sorted({run.device for run in results.runs})
    if len(devices) > 1:
        found.append(
            f"Arms ran on different devices ({', '.join(devices)}): ratios of time compare the "
            "devices too."
        )
    return found
