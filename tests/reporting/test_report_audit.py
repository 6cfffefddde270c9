"""The audit's sentences and its section, from what the audit writes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_cases import draw_case

from featurebench.audit import find_shortcuts, separations
from featurebench.reporting.audit import audit_section, audit_sentences
from featurebench.reporting.render import render_html
from featurebench.splits import SplitPlan
from featurebench.tiles import write_cohort

if TYPE_CHECKING:
    from pathlib import Path

    from featurebench.tiles import TileManifest

NOTHING: dict[str, Any] = {"separations": [], "duplicates": None, "shortcuts": [], "absent": []}
DUPLICATES: dict[str, Any] = {
    "threshold": 0.75,
    "n_components": 24,
    "n_pairs": 12,
    "n_tiles": 20,
    "n_between_patients": 12,
    "n_copies_within": 0,
    "n_copies_between": 1,
    "embedding": "net.package@12345678",
    "alike": 0.9,
    "n_checked": 3,
    "n_confirmed": 1,
    "worst": [
        {"a": 0, "b": 40, "similarity": 0.99, "likeness": 0.97},
        {"a": 3, "b": 41, "similarity": 0.8, "likeness": 0.2},
        {"a": 5, "b": 42, "similarity": 0.4, "likeness": 0.3},
    ],
}
TOLD = {"accuracy": 0.97, "ci_low": 0.9, "ci_high": 1.04, "chance": 1 / 3}
SHORTCUT: dict[str, Any] = {
    "embedding": "net.package@12345678",
    "column": "site",
    "site": TOLD,
    "label": TOLD | {"chance": 0.5},
    "within": TOLD,
    "association": {"v": 0.62, "p_value": 0.0005, "n_units": 40},
    "robustness": {"chance": 0.667},
    "k": 21,
    "index": 0.3,
    "finding": "shortcut suspected",
    "entangled": "",
}
AT_CHANCE = {"accuracy": 0.52, "ci_low": 0.45, "ci_high": 0.58, "chance": 0.5}
NESTED = SHORTCUT | {
    "finding": "cannot be told apart",
    "entangled": "every site has tiles of one class only",
    "site": TOLD | {"accuracy": 0.5, "ci_low": 0.4, "ci_high": 0.6, "chance": 1 / 7},
}


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> TileManifest:
    folder: Path = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, patients=12, tiles_per_patient=4, size=32)


@pytest.fixture(scope="module")
def plan(tiles: TileManifest) -> SplitPlan:
    ids = tiles.table["tile_id"].to_numpy(dtype=str)
    return SplitPlan.draw(tiles.labels, folds=3, repeats=2, tile_ids=ids)


def _crossing(plan: SplitPlan) -> dict[str, Any]:
    """Pairs of which the second lies in another fold."""
    row = plan.test_fold[0]
    worst = [
        pair | {"b": int(np.flatnonzero(row != row[pair["a"]])[-1])} for pair in DUPLICATES["worst"]
    ]
    return DUPLICATES | {"worst": worst}


def test_nothing_found_says_nothing() -> None:
    assert audit_sentences(None) == audit_sentences(NOTHING) == ()


def test_duplicates_in_words() -> None:
    def said(**changes: Any) -> tuple[str, ...]:
        return audit_sentences(NOTHING | {"duplicates": DUPLICATES | changes})

    assert said() == ("At least 1 pair of near-identical tiles lies on both sides of folds.",)
    assert said(n_pairs=2, n_confirmed=2) == (
        "2 pairs of near-identical tiles lie on both sides of folds.",
    )
    # Alike to the network alone is no accusation where pictures could be compared.
    assert said(n_confirmed=0) == ()
    assert said(n_pairs=0) == said(n_pairs=2) != said()
    (unseen,) = said(n_checked=0, n_confirmed=0)
    assert unseen.startswith("12 pairs of tiles on both sides of folds have nearly the same embed")


def test_shortcuts_in_words() -> None:
    def said(*found: dict[str, Any]) -> tuple[str, ...]:
        return audit_sentences(NOTHING | {"shortcuts": list(found)})

    assert said(SHORTCUT) == (
        "The embedding tells the site with 97 % balanced accuracy (chance 33 %), and class and "
        "site are associated (V = 0.62): a shortcut is suspected.",
    )
    other = SHORTCUT | {"embedding": "other", "finding": "none"}
    (named,) = said(SHORTCUT, other)
    assert named.startswith("The embedding net.package@12345678 tells the site")
    (by_index,) = said(SHORTCUT | {"site": None})
    assert "robustness index 0.30, of random neighbours 0.67" in by_index
    assert by_index.endswith("a shortcut is suspected.")
    (doubt,) = said(SHORTCUT | {"finding": "site dominates"})
    assert doubt.endswith("how the arms do at another site is in doubt.")
    assert said(SHORTCUT | {"finding": "site is told"}) == ()


def test_patients_on_both_sides_in_words(tiles: TileManifest, plan: SplitPlan) -> None:
    columns = {name: tiles.column(name) for name in ("patient_id", "site")}
    found = separations(
        {name: values for name, values in columns.items() if values is not None}, plan.test_fold
    )
    audit = NOTHING | {"separations": [asdict(each) for each in found]}
    (sentence,) = audit_sentences(audit)
    assert sentence == (
        "12 of 12 patients (48 tiles) stand on both sides of a fold, so the scores are those of "
        "known patients and too good."
    )
    section = audit_section(audit, manifest=tiles, plan=plan)
    assert section is not None
    patients, sites = section["separations"]
    assert patients["worst"][0]["value"] == "patient 1"
    assert patients["n_repeats"] == 2
    assert (sites["leaks"], sites["n_torn"]) == (False, 3)


def test_section_shows_pairs_with_pictures(tiles: TileManifest, plan: SplitPlan) -> None:
    audit = NOTHING | {
        "duplicates": _crossing(plan) | {"n_pairs": 0},
        "shortcuts": [SHORTCUT],
    }
    proof = {"arm": "x", "state": "frozen"}
    section = audit_section(audit, manifest=tiles, plan=plan, frozen=[proof])
    assert section is not None
    # The third pair is neither nearly identical to the network nor to the eye.
    first, second = section["duplicates"]["pairs"]
    assert section["duplicates"]["n_told"] == 2
    assert section["cleared"] == []
    assert (first["same_picture"], second["same_picture"]) == (True, False)
    assert first["folds"][0] != first["folds"][1]
    assert first["tiles"][0]["tile_id"] == tiles.table["tile_id"].iloc[0]
    assert first["tiles"][0]["patient"] == 1
    assert all(tile["image"] for pair in (first, second) for tile in pair["tiles"])
    assert section["frozen"] == [proof]
    assert section["findings"] == list(audit_sentences(audit))
    assert audit_section(None, manifest=tiles, plan=plan) is None


def test_tiles_that_are_gone_have_no_picture(
    tiles: TileManifest, plan: SplitPlan, tmp_path: Path
) -> None:
    from dataclasses import replace

    audit = NOTHING | {"duplicates": _crossing(plan)}
    section = audit_section(audit, manifest=replace(tiles, root=tmp_path), plan=plan)
    assert section is not None
    assert section["duplicates"]["pairs"][0]["tiles"][0]["image"] is None


def test_what_was_looked_for_and_not_found_is_said(tiles: TileManifest, plan: SplitPlan) -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 5)
    labels = patients % 2
    grouped = SplitPlan.draw(labels, patients, folds=4)
    values = (patients // 2 % 2).astype(str)
    shortcuts = find_shortcuts(
        {"net": rng.normal(size=(200, 8))},
        "site",
        values,
        labels=labels,
        plan=grouped,
        patients=patients,
    )
    audit = NOTHING | {
        "separations": [asdict(e) for e in separations({"slide_id": patients}, grouped.test_fold)],
        "duplicates": DUPLICATES | {"n_pairs": 0, "n_confirmed": 0, "worst": []},
        "shortcuts": [asdict(each) for each in shortcuts],
    }
    section = audit_section(audit, manifest=tiles, plan=plan)
    assert section is not None
    assert section["findings"] == []
    assert section["cleared"] == [
        "No slide stands on both sides of a fold.",
        "No two tiles on both sides of a fold are near-identical: the 3 pairs most alike to the "
        "network were compared as pictures.",
        "The embedding was not shown to tell the site: 52 % balanced accuracy (95 % CI 45 to 58 %, "
        "chance 50 %).",
    ]
    assert section["absent"] == [
        "Whether a patient stands on both sides of a fold was not tested: no patient is known."
    ]


def _of_shortcuts(tiles: TileManifest, plan: SplitPlan, *found: dict[str, Any]) -> dict[str, Any]:
    known: list[dict[str, Any]] = [
        {"column": name, "leaks": True, "n_values": 9, "n_torn": 0, "n_tiles": 0, "worst": []}
        for name in ("patient_id", "slide_id")
    ]
    section = audit_section(
        NOTHING | {"separations": known, "shortcuts": list(found)}, manifest=tiles, plan=plan
    )
    assert section is not None
    return section


def test_site_that_cannot_be_told_from_the_class_is_neither_found_nor_cleared(
    tiles: TileManifest, plan: SplitPlan
) -> None:
    section = _of_shortcuts(tiles, plan, NESTED, NESTED | {"embedding": "b", "site": AT_CHANCE})
    assert section["findings"] == []
    assert section["cleared"] == ["No patient and no slide stands on both sides of a fold."]
    (sentence,) = section["absent"]
    assert sentence == (
        "Site and class cannot be told apart on this cohort: every site has tiles of one class "
        "only, and an embedding tells the site with 50 % balanced accuracy (chance 14 %). Whether "
        "arms see the class or the site is open."
    )
    assert audit_sentences(NOTHING | {"shortcuts": [NESTED]}) == (sentence,)
    (untold,) = audit_sentences(NOTHING | {"shortcuts": [NESTED | {"site": None}]})
    assert untold.startswith("Site and class cannot be told apart on this cohort: every site has ")
    assert "balanced accuracy" not in untold


@pytest.mark.parametrize(
    ("site", "within", "expected"),
    [
        (None, None, "was not tested: fewer than two of its values could be both trained on and"),
        (AT_CHANCE | {"ci_low": None, "ci_high": None}, None, "was not tested: too few patients"),
        (
            AT_CHANCE | {"ci_low": 0.2, "ci_high": 0.9},
            None,
            "is open, the interval is too wide: 52 % balanced accuracy (95 % CI 20 to 90 %, ",
        ),
        (TOLD, None, "among tiles of one class was not tested: no class has enough tested tiles"),
    ],
)
def test_what_was_not_tested_is_said_and_never_cleared(
    tiles: TileManifest, plan: SplitPlan, site: Any, within: Any, expected: str
) -> None:
    changes = {"finding": "not tested", "site": site, "within": within}
    section = _of_shortcuts(tiles, plan, SHORTCUT | changes)
    assert section["findings"] == []
    assert section["cleared"] == ["No patient and no slide stands on both sides of a fold."]
    (sentence,) = section["absent"]
    assert sentence.startswith(f"Whether the embedding tells the site {expected}")
    assert audit_sentences(NOTHING | {"shortcuts": [SHORTCUT | changes]}) == ()


def test_site_told_by_the_class_alone_is_not_called_unseen(
    tiles: TileManifest, plan: SplitPlan
) -> None:
    section = _of_shortcuts(tiles, plan, SHORTCUT | {"finding": "none", "within": AT_CHANCE})
    assert section["cleared"][1] == (
        "The embedding tells the site with 97 % balanced accuracy (chance 33 %), but among "
        "tiles of one class it was not shown to: 52 % balanced accuracy (95 % CI 45 to 58 %, "
        "chance 50 %)."
    )
    assert section["absent"] == []


def test_page_sets_no_tick_to_what_was_not_tested(
    tiles: TileManifest, plan: SplitPlan, tmp_path: Path
) -> None:
    summary = draw_case(tmp_path, repeats=1).summary()
    page = render_html(summary | {"audit": _of_shortcuts(tiles, plan, NESTED)})
    assert "–</span> Site and class cannot be told apart" in page
    assert "✓</span> Site" not in page
    assert "✓ looked for and not found. – not tested, or not to be told on this cohort." in page
