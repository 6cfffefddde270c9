"""How numbers are written for a reader."""

from __future__ import annotations

import pytest

from featurebench.reporting import formats

EMBEDDING = "resnet50.a1_in1k@0f3a2b1c"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.8734, 0.8119, 0.9214, "0.873 (0.812–0.921)"),
        (1.0, 1.0, 1.0, "1.000 (1.000–1.000)"),
        (0.01, -0.0412, 0.06, "0.010 (−0.041 to 0.060)"),
        (-0.0001, None, None, "0.000"),
        (0.5, None, 0.6, "0.500"),
        (None, 0.1, 0.2, "–"),
    ],
)
def test_score_with_interval(
    value: float | None, low: float | None, high: float | None, text: str
) -> None:
    assert formats.estimate(value, low, high) == text


@pytest.mark.parametrize(
    ("metric", "numbers", "text"),
    [
        ("balanced_accuracy", (0.0314, 0.014, 0.049), "+3.1 pp (+1.4 to +4.9)"),
        ("balanced_accuracy", (-0.073, -0.102, -0.044), "−7.3 pp (−10.2 to −4.4)"),
        ("accuracy", (0.0, -0.012, 0.012), "0.0 pp (−1.2 to +1.2)"),
        ("accuracy", (0.02, 0.0003, 0.04), "+2.00 pp (+0.03 to +4.00)"),
        ("log_loss", (-0.021, -0.034, -0.008), "−0.021 (−0.034 to −0.008)"),
        ("roc_auc", (0.012, None, None), "+0.012"),
        ("accuracy", (None, None, None), "not estimable"),
    ],
)
def test_difference_has_sign_and_unit(
    metric: str, numbers: tuple[float | None, float | None, float | None], text: str
) -> None:
    assert formats.difference(*numbers, metric) == text


def test_difference_can_leave_its_unit_to_the_axis() -> None:
    assert formats.difference(0.031, 0.014, 0.049, "f1", unit=False) == "+3.1 (+1.4 to +4.9)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0042, "0.004"),
        (0.0009, "<0.001"),
        (0.0, "<0.001"),
        (0.05, "0.050"),
        (1.0, ">0.999"),
        (None, "–"),
    ],
)
def test_p_value(value: float | None, text: str) -> None:
    assert formats.p_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0042, "p = 0.004"), (0.0001, "p <0.001"), (None, "p not estimable")],
)
def test_p_statement(value: float | None, text: str) -> None:
    assert formats.p_statement(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (0.02, "<0.1 s"),
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (192.4, "3 min 12 s"),
        (3599.7, "1 h"),
        (7500.0, "2 h 5 min"),
        (None, "–"),
    ],
)
def test_seconds(value: float | None, text: str) -> None:
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(312.4, "312 MiB"), (1840.0, "1.8 GiB"), (0.0, "–"), (None, "–")]
)
def test_memory(value: float | None, text: str) -> None:
    assert formats.memory(value) == text


def test_counts_have_nouns_and_thin_spaces() -> None:
    assert formats.counted(1, "patient") == "1 patient"
    assert formats.counted(12480, "tile") == "12\u202f480 tiles"
    assert formats.counted(2, "class", "classes") == "2 classes"
    assert formats.count(None) == "–"


@pytest.mark.parametrize(
    ("scheme", "folds", "repeats", "group", "text"),
    [
        ("kfold", 5, 10, "patient_id", "5 folds × 10 repeats, grouped by patient_id"),
        ("kfold", 5, 1, "site", "5 folds, drawn once, grouped by site"),
        ("holdout", 1, 1, None, "one hold-out split, not grouped by patient"),
    ],
)
def test_plan_in_words(scheme: str, folds: int, repeats: int, group: str | None, text: str) -> None:
    plan = {"scheme": scheme, "n_folds": folds, "n_repeats": repeats, "group": group}
    assert formats.plan_text(plan) == text


@pytest.mark.parametrize(("metric", "unit", "text"), [("f1", "pp", "1 pp"), ("mcc", "", "0.01")])
def test_margin_is_written_in_the_unit_of_differences(metric: str, unit: str, text: str) -> None:
    assert formats.unit_of(metric) == unit
    assert formats.magnitude(0.01, metric) == text


@pytest.mark.parametrize("width", [5, 8, 9])
def test_shorten_keeps_both_ends(width: int) -> None:
    short = formats.shorten("abcdefghij", width)
    assert len(short) == width
    assert short.startswith("ab")
    assert short.endswith("ij")
    assert formats.shorten("abc", width) == "abc"


def test_short_sources_drop_what_does_not_tell_apart() -> None:
    names = [EMBEDDING, "vit_tiny.augreg@11111111.rot90", EMBEDDING]
    assert formats.short_sources(names) == {
        EMBEDDING: "resnet50",
        "vit_tiny.augreg@11111111.rot90": "vit_tiny.rot90",
    }


def test_short_sources_keep_the_tag_of_one_network_with_two_weights() -> None:
    other = "resnet50.tv_in1k@22222222"
    assert formats.short_sources([EMBEDDING, other]) == {
        EMBEDDING: "resnet50.a1_in1k",
        other: "resnet50.tv_in1k",
    }


def test_short_sources_keep_everything_where_only_the_fingerprint_differs() -> None:
    other = "resnet50.a1_in1k@99999999"
    assert formats.short_sources([EMBEDDING, other]) == {EMBEDDING: EMBEDDING, other: other}


def test_breakable_escapes_before_it_adds_break_points() -> None:
    assert formats.breakable("a_b<i>") == "a_<wbr>b&lt;i&gt;"


def test_every_metric_has_a_label() -> None:
    from featurebench.metrics import METRICS

    assert set(formats.METRIC_LABELS) == set(METRICS)
    assert formats.metric_label("some_new_one") == "some new one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "–"),
        (812, "812 B"),
        (3_500, "3.4 KiB"),
        (1_023_999, "1.0 MiB"),
        (340_000_000, "324 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_size(value: int | None, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (4.25, "4.2 J"),
        (412.3, "412 J"),
        (3600, "1.0 Wh"),
        (137_000, "38 Wh"),
        (4_400_000, "1.2 kWh"),
        (90_000_000, "25 kWh"),
    ],
)
def test_energy(value: float | None, text: str) -> None:
    assert formats.energy(value) == text


@pytest.mark.parametrize(
    ("text", "set_in_type"),
    [
        ("-0.8 to +3.1 (-.5)", "−0.8 to +3.1 (−.5)"),
        ("2026-11-23, non-inferior, 1e-7, tile-12, - 5, a-1", None),
    ],
)
def test_minus_signs_stand_before_negative_numbers_only(text: str, set_in_type: str | None) -> None:
    assert formats.minus_signs(text) == (text if set_in_type is None else set_in_type)


@pytest.mark.parametrize(
    ("is_declared", "text"),
    [
        (True, "the declared prevalence of tumour, 2.5 %"),
        (False, "the prevalence of tumour in these tiles, 2.5 %"),
    ],
)
def test_prevalence_says_whose_it_is(is_declared: bool, text: str) -> None:
    section = {"of": "tumour", "prevalence": 0.025, "is_declared": is_declared}
    assert formats.prevalence_text(section) == text
