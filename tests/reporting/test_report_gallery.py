"""Which tiles the gallery shows: the right ones, in order, within its budget, without names."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_cases import ReportCase, draw_case

from featurebench.reporting.confusion import tiles_shown
from featurebench.reporting.gallery import MAX_PICTURES, gallery_section, picture_of
from featurebench.reporting.render import render_html


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("gallery")))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(
        Path(tmp_path_factory.mktemp("gallery-many")),
        classes=tuple(f"k{i}" for i in range(6)),
        repeats=1,
    )


def section_of(case: ReportCase) -> dict[str, Any]:
    arms = [{"id": run.arm, "label": run.arm, "kind": run.kind} for run in case.results.runs]
    runs = {run.arm: run for run in case.results.runs}
    leads = (arms[0]["id"], arms[-1]["id"])
    found = gallery_section(arms, runs, case.results, case.manifest, leads)
    assert found is not None
    return found


def test_changes_are_the_largest_gaps_of_the_true_class(case: ReportCase) -> None:
    results = case.results
    y, reference, other = results.y_true, results.runs[0].y_prob[0], results.runs[-1].y_prob[0]
    gained, lost = section_of(case)["changes"]
    right = other.argmax(axis=1) == y
    was_right = reference.argmax(axis=1) == y
    rows = np.arange(len(y))
    gap = other[rows, y].astype(float) - reference[rows, y]
    assert gained["n"] == np.sum(right & ~was_right)
    assert lost["n"] == np.sum(was_right & ~right)
    best = sorted(np.flatnonzero(right & ~was_right), key=lambda row: -gap[row])[:12]
    assert [tile["tile_id"] for tile in gained["tiles"]] == results.tile_ids[best].tolist()
    worst = sorted(np.flatnonzero(was_right & ~right), key=lambda row: gap[row])[:12]
    assert [tile["tile_id"] for tile in lost["tiles"]] == results.tile_ids[worst].tolist()
    first = gained["tiles"][0]
    assert first["true"] == first["called"] != first["called_by_reference"]
    assert first["of_true"] - first["of_true_by_reference"] == pytest.approx(gap.max(), abs=1e-3)


def test_errors_are_the_most_confident_of_their_cell(case: ReportCase) -> None:
    results = case.results
    found = section_of(case)
    assert [arm["is_lead"] for arm in found["arms"][:3]] == [True, True, False]
    for arm in found["arms"]:
        prob = results.runs[arm["place"]].y_prob[0].astype(float)
        assert results.runs[arm["place"]].arm == arm["id"]
        for cell in arm["cells"]:
            rows = np.flatnonzero(
                (results.y_true == cell["true"]) & (prob.argmax(axis=1) == cell["called"])
            )
            assert cell["n"] == len(rows)
            ordered = rows[np.lexsort((rows, -prob[rows, cell["called"]]))]
            shown = [tile["tile_id"] for tile in cell["tiles"]]
            assert shown == results.tile_ids[ordered[: len(shown)]].tolist()
            assert len(shown) == min(len(rows), 8 if arm["is_lead"] else 5)
            assert all((tile["image"] is not None) == arm["is_lead"] for tile in cell["tiles"])


def test_baselines_have_no_tiles_and_every_number_links_to_its_cell(case: ReportCase) -> None:
    found = section_of(case)
    assert "dummy" not in {arm["id"] for arm in found["arms"]}
    anchors = tiles_shown(found)
    summary = case.summary()
    html = render_html(summary)
    assert summary["gallery"]["arms"]
    for anchor in anchors:
        assert html.count(f'id="{anchor}"') == 1
        assert html.count(f'href="#{anchor}"') == 1


def test_pictures_stay_within_the_budget(many: ReportCase) -> None:
    found = section_of(many)
    pictures = [
        tile["image"]
        for group in (*found["changes"], *(c for arm in found["arms"] for c in arm["cells"]))
        for tile in group["tiles"]
        if tile["image"]
    ]
    assert 60 < len(pictures) <= MAX_PICTURES
    assert found["n_pictures"] == len(pictures)
    assert sum(map(len, pictures)) < 1_500_000
    assert len(render_html(many.summary())) < 5_000_000


def test_the_same_tiles_every_time(case: ReportCase) -> None:
    assert section_of(case) == section_of(case)


def test_patients_are_numbered_and_never_named(case: ReportCase) -> None:
    found = section_of(case)
    assert "secret" not in json.dumps(found)
    tile = found["arms"][0]["cells"][0]["tiles"][0]
    patients = case.results.patients
    assert patients is not None
    row = case.results.tile_ids.tolist().index(tile["tile_id"])
    assert tile["patient"] == patients[row] + 1
    unknown = replace(case, results=replace(case.results, patients=None))
    assert section_of(unknown)["changes"][0]["tiles"][0]["patient"] is None


def test_a_tile_that_cannot_be_read_keeps_its_id(tmp_path: Path) -> None:
    case = draw_case(tmp_path, repeats=1)
    for file in tmp_path.glob("malignant*"):
        file.write_bytes(b"no image")
    found = section_of(case)
    assert found["n_pictures"] > 0
    for tile in found["changes"][0]["tiles"]:
        assert (tile["image"] is None) == (tile["true"] == "malignant")


def test_pictures_are_small(case: ReportCase) -> None:
    uri = picture_of(case.manifest, 0)
    assert uri is not None
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert max(image.size) <= 96
    assert len(data) < 10_000
