"""What the verdict may say and must not, over a grid of constructed contrasts."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verdict_cases import (
    DESIGN,
    DUMMY,
    NAN,
    PROBE,
    TILES,
    TUNED,
    make_comparison,
    make_contrast,
    make_evidence,
    with_arm,
)

from featurebench.comparison import wording
from featurebench.comparison.model import Outcome, Relevance, Rule
from featurebench.comparison.naming import in_words
from featurebench.comparison.others import other_sentences
from featurebench.comparison.verdict import write_verdict
from featurebench.metrics import GREATER_IS_BETTER

if TYPE_CHECKING:
    from featurebench.comparison.model import Comparison, Contrast

ENDS = {
    "gain": (0.014, 0.031, 0.049),
    "loss": (-0.049, -0.031, -0.014),
    "tiny": (-0.00002, 0.0, 0.00004),
    "open": (-0.029, 0.004, 0.038),
    "no interval": (NAN, 0.004, NAN),
    "undefined": (NAN, NAN, NAN),
}
METRICS = ("balanced_accuracy", "roc_auc", "log_loss")
OUTCOMES = get_args(Outcome)
BAR = "Only 4 patients were tested, and that is too few."
NEVER = (
    "significant", "no difference", "equal", "proves", "nan", "none", "same as", "inf ", "  ", " .",
    ";;", "..",
)  # fmt: skip


def _build(
    ends: tuple[float, float, float],
    *,
    outcome: Any,
    relevance: Any = "open",
    rule: Any = "both tests",
    metric: str = "balanced_accuracy",
    **more: Any,
) -> Comparison:
    p = (NAN, NAN) if math.isnan(ends[0]) else (0.02, 0.03)
    contrast = make_contrast(
        ends,
        p,
        outcome=outcome,
        relevance=relevance,
        rule=rule,
        metric=metric,
        n_repeats=1 if rule == "patients alone" else 3,
        n_folds=1 if rule == "patients alone" else 5,
        by_sites=make_evidence("sites", *ends, p_value=p[1], n=8) if "sites" in rule else None,
        **(
            {
                "detectable": NAN,
                "n_needed_low": None,
                "n_needed_high": None,
                "p_worse": NAN,
                "p_better": NAN,
            }
            if math.isnan(ends[0])
            else {}
        ),
    )
    return make_comparison(contrast, barred=(BAR,) if outcome == "not claimed" else (), **more)


def _grid() -> list[Any]:
    whole = itertools.product(OUTCOMES, get_args(Relevance), get_args(Rule), METRICS, ENDS)
    # With one test set nothing is claimed.
    kept = (each for each in whole if each[2] != "patients alone" or each[0] == "not claimed")
    return [pytest.param(*each, id=" ".join(each)) for each in kept]


@pytest.mark.parametrize(("outcome", "relevance", "rule", "metric", "ends"), _grid())
def test_every_claim_has_its_outcome_and_its_numbers(
    outcome: str, relevance: str, rule: str, metric: str, ends: str
) -> None:
    comparison = _build(ENDS[ends], outcome=outcome, relevance=relevance, rule=rule, metric=metric)
    text = write_verdict(DESIGN, in_words(comparison))
    (contrast,) = comparison.contrasts
    check_words(text)
    check_claims(text, contrast)
    check_numbers(text, contrast)
    assert len(text.split()) <= 160, text


def check_words(text: str) -> None:
    """Hold a text to the words that are never used."""
    for never in NEVER:
        assert never not in text.lower(), (never, text)
    assert text.endswith("."), text
    assert text[0].isupper(), text


def check_claims(text: str, contrast: Contrast) -> None:
    """Hold every claim to the outcome, and every word on its size to the relevance."""
    known = not math.isnan(contrast.difference)
    outcome = contrast.outcome if known else "not resolved"
    for word in ("better", "worse"):
        assert (f"is {word} than" in text) == (outcome == word), text
    assert ("equivalent" in text) == (outcome == "equivalent"), text
    assert ("non-inferior" in text) == (outcome in {"non-inferior", "not superior"}), text
    assert ("is enough" in text) == (outcome in {"equivalent", "not superior"}), text
    claims = outcome in {"better", "worse"}
    sizes = {
        "beyond the margin": "by more than the margin of",
        "within the margin": "but by less than the margin of",
        "open": "whether by more than the margin of",
    }
    for relevance, words in sizes.items():
        told = words in text and (relevance == "open") == ("whether by more" in text)
        assert told == (claims and contrast.relevance == relevance), text
    assert ("not shown to be better than" in text) == (known and outcome == "not resolved"), text
    assert text.startswith("Nothing is claimed") == (contrast.outcome == "not claimed"), text


def check_numbers(text: str, contrast: Contrast) -> None:
    """Look for the difference, both intervals and both p-values wherever something is tested."""
    if contrast.outcome == "not claimed":
        assert "p =" not in text and "P(" not in text, text  # noqa: PT018
        told = contrast.rule == "patients alone" and not math.isnan(contrast.ci_low)
        assert ("for these fitted models on other patients" in text) == told, text
        assert (" CI " in text) == told, text
        return
    if math.isnan(contrast.difference):
        assert "undefined" in text, text
        return
    value = wording.difference(
        contrast.metric, [contrast.difference, contrast.ci_low, contrast.ci_high]
    )[0]
    assert f"{value}{wording.points(contrast.metric)}" in text, text
    if math.isnan(contrast.ci_low):
        assert text.count("not estimable") == (4 if contrast.by_sites is None else 6), text
    else:
        number = r"[+-]?\d+\.\d+"
        interval = rf"{number} to {number} over"
        assert re.search(rf"\(95 % CI {interval} patients, p = 0.020", text), text
        assert re.search(rf"; {interval} 15 folds, p = 0.030", text), text
        at_sites = re.search(rf"; {interval} 8 sites, p = 0.030", text)
        assert bool(at_sites) == (contrast.by_sites is not None), text
    assert ("lower is better" in text) == (not GREATER_IS_BETTER[contrast.metric]), text


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("ends", ENDS)
def test_a_probe_above_chance_by_nobody_is_never_enough(outcome: str, ends: str) -> None:
    text = write_verdict(
        DESIGN, in_words(_build(ENDS[ends], outcome=outcome, probe=(0.52, 0.44, 0.6)))
    )
    check_words(text)
    assert "is enough" not in text
    assert "equivalent to" not in text
    assert "is non-inferior" not in text


@pytest.mark.parametrize("outcome", [each for each in OUTCOMES if each != "not claimed"])
@pytest.mark.parametrize("ends", ["gain", "loss", "open"])
def test_of_two_arms_at_chance_neither_wins(outcome: str, ends: str) -> None:
    chance: dict[str, Any] = {"probe": (0.52, 0.44, 0.6), "tuned": (0.55, 0.48, 0.62)}
    text = write_verdict(DESIGN, in_words(_build(ENDS[ends], outcome=outcome, **chance)))
    assert text.startswith("Nothing was shown to be learnt on this cohort of 40 patients, neither")
    for claim in (
        "is better than",
        "is worse than",
        "is enough",
        "is non-inferior",
        "equivalent to",
    ):
        assert claim not in text


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("is_probe_first", [True, False])
def test_a_frozen_probe_is_enough_from_either_side(outcome: str, is_probe_first: bool) -> None:
    comparison = _build(ENDS["open"], outcome=outcome)
    if is_probe_first:
        (contrast,) = comparison.contrasts
        turned = {**vars(contrast), "arm_a": PROBE, "arm_b": TUNED}
        comparison = make_comparison(
            type(contrast)(**turned), barred=comparison.barred, reference=TUNED
        )
    text = write_verdict(DESIGN, in_words(comparison))
    enough = {"equivalent", "non-inferior" if is_probe_first else "not superior"}
    assert ("the frozen probe is enough" in text) == (outcome in enough)
    tuned = "not superior" if is_probe_first else "non-inferior"
    assert ("fine-tuning is non-inferior to the frozen probe" in text) == (outcome == tuned)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_other_arms_have_claims_by_outcome_only(outcome: Any) -> None:
    rest = make_contrast(
        ENDS["gain"], arm_a="net.tag@00000000+knn", primary=False, outcome=outcome, p_adjusted=0.02
    )
    comparison = with_arm(make_comparison(None, rest), "net.tag@00000000+knn", "probe", head="knn")
    lead, sentence = other_sentences(in_words(comparison))
    check_words(lead)
    check_words(sentence)
    words = {"better": "Better:", "worse": "Worse:", "equivalent": "Equivalent"}
    for each, word in words.items():
        assert sentence.startswith(word) == (outcome == each)
    assert sentence.startswith("Not") == (
        outcome in {"not superior", "not resolved", "not claimed"}
    ) or (outcome == "non-inferior")
    has_numbers = "+3.1 pp, 95 % CI +1.4 to +4.9, p = 0.020" in sentence
    assert has_numbers == (outcome not in {"not resolved", "not claimed"})


NUMBER = st.floats(-0.4, 0.4) | st.just(0.0) | st.just(NAN)
P_VALUE = st.floats(0, 1) | st.just(NAN)


@settings(max_examples=150, deadline=None)
@given(
    by_patients=st.tuples(NUMBER, NUMBER, NUMBER),
    by_folds=st.tuples(NUMBER, NUMBER, NUMBER),
    p=st.tuples(P_VALUE, P_VALUE),
    posterior=st.floats(0, 1) | st.just(NAN),
    outcome=st.sampled_from(OUTCOMES),
    metric=st.sampled_from([*METRICS, "f1", "ece"]),
    margin=st.sampled_from([0.0, 0.01, 0.025]),
    ratio=st.floats(1e-3, 1e5) | st.just(NAN),
    unit=st.sampled_from(["patients", "tiles"]),
)
def test_no_numbers_make_it_say_what_it_must_not(
    *,
    by_patients: tuple[float, float, float],
    by_folds: tuple[float, float, float],
    p: tuple[float, float],
    posterior: float,
    outcome: Any,
    metric: str,
    margin: float,
    ratio: float,
    unit: str,
) -> None:
    low, middle, high = _ordered(by_patients)
    contrast = make_contrast(
        (low, middle, high),
        p,
        by_folds=make_evidence("folds", *_ordered(by_folds), p_value=p[1]),
        outcome=outcome,
        metric=metric,
        cost_ratio=ratio,
        p_better=posterior,
        p_worse=posterior,
        p_practical=posterior,
    )
    comparison = make_comparison(
        contrast, margin=margin, barred=(BAR,) if outcome == "not claimed" else ()
    )
    text = write_verdict(DESIGN if unit == "patients" else TILES, in_words(comparison))
    check_words(text)
    if math.isnan(middle):
        return
    assert ("is better than" in text) == (outcome == "better")
    assert ("is worse than" in text) == (outcome == "worse")
    if margin == 0 and outcome in {"better", "worse"}:
        assert "margin" not in text


def _ordered(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    if any(math.isnan(end) for end in ends):
        return (NAN, NAN, NAN)
    low, middle, high = sorted(ends)
    return (low, middle, high)


@given(st.floats(1e-9, 1), st.sampled_from([0.01, 0.05, 0.1]))
def test_a_p_value_lies_on_its_side_of_alpha_in_print_too(p: float, alpha: float) -> None:
    text = wording.p_value(p, alpha)
    shown = float(text.split()[-1])
    assert (shown < alpha) == (p < alpha) or text == "p < 0.001"
    assert shown == pytest.approx(p, abs=0.005 + 1e-9)


@pytest.mark.parametrize(("number", "text"), [(0, "0 folds"), (1, "1 fold"), (12, "12 folds")])
def test_one_is_no_plural(number: int, text: str) -> None:
    assert wording.counted(number, "fold") == text


def test_the_dummy_is_never_named_among_the_other_arms() -> None:
    dummy = make_contrast(ENDS["loss"], arm_a=DUMMY, primary=False, outcome="worse")
    assert other_sentences(in_words(make_comparison(None, dummy))) == ()
