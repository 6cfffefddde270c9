"""The embedding map: where dots stand, what colours them, what is left out and said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from report_cases import ReportCase, draw_case

from featurebench.reporting import map as module
from featurebench.reporting.map import EDGE, SIDE, map_panels, map_section


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(Path(tmp_path_factory.mktemp("map")))


def found_for(case: ReportCase, n: int | None = None, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = np.arange(len(case.manifest) if n is None else n)
    xy = rng.normal(size=(len(rows), 2))
    return {"rows": rows, "x": xy[:, 0], "y": xy[:, 1], "explained": (0.3, 0.1), **more}


def test_no_map_no_section(case: ReportCase) -> None:
    assert map_section(None, case.manifest) is None
    assert map_section({"rows": [], "x": [], "y": []}, case.manifest) is None
    assert map_panels(None) == []


def test_coordinates_fill_the_square_and_y_points_up(case: ReportCase) -> None:
    given = found_for(case)
    section = map_section(given, case.manifest)
    assert section is not None
    for key in ("x", "y"):
        assert min(section[key]) == EDGE
        assert max(section[key]) == SIDE - EDGE
    assert section["y"][int(np.argmax(given["y"]))] == EDGE
    assert section["x"][int(np.argmax(given["x"]))] == SIDE - EDGE
    assert section["explained"] == [0.3, 0.1]


def test_coordinates_may_come_in_pairs(case: ReportCase) -> None:
    given = found_for(case)
    pairs = {
        "rows": given["rows"],
        "xy": np.stack([given["x"], given["y"]], axis=1),
        "explained": (float("nan"), float("nan")),
    }
    section = map_section(pairs, case.manifest)
    expected = map_section(given, case.manifest)
    assert section is not None
    assert expected is not None
    assert section["x"] == expected["x"]
    assert section["explained"] == []


def test_panels_are_class_and_site_and_patients_where_few(case: ReportCase) -> None:
    section = map_section(found_for(case), case.manifest)
    assert section is not None
    assert [panel["title"] for panel in section["panels"]] == ["Class", "Site"]
    assert "40 patients are too many" in section["omitted"][0]
    for panel, column in zip(section["panels"], ("label", "site"), strict=True):
        names = np.array(panel["names"])[panel["codes"]]
        assert names.tolist() == case.manifest.column(column).tolist()  # type: ignore[union-attr]
    few = map_section(found_for(case, 60), case.manifest)
    assert few is not None
    assert [panel["title"] for panel in few["panels"]] == ["Class", "Site", "Patient"]
    assert "secret" not in str(few)


def test_without_sites_the_report_says_so(tmp_path: Path) -> None:
    case = draw_case(tmp_path, sites=0, patients=False, repeats=1)
    section = map_section(found_for(case), case.manifest)
    assert section is not None
    assert [panel["title"] for panel in section["panels"]] == ["Class"]
    assert section["omitted"] == ["No site is recorded, so there is no panel of sites."]


def test_many_tiles_are_thinned_evenly(case: ReportCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_POINTS", 100)
    section = map_section(found_for(case), case.manifest)
    assert section is not None
    assert section["n"] == 100 == len(section["x"]) == len(section["panels"][0]["codes"])
    assert section["n_all"] == len(case.manifest)


def test_every_group_has_its_own_shape_as_well_as_colour(case: ReportCase) -> None:
    section = map_section(found_for(case), case.manifest)
    assert section is not None
    for panel, drawn in zip(section["panels"], map_panels(section), strict=True):
        root = ET.fromstring(drawn["chart"])
        paths = list(root.iter("path"))
        kinds = [tuple(path.attrib["class"].split()) for path in paths]
        assert len(set(kinds)) == len(kinds) == len(panel["names"])
        assert len({kind[1] for kind in kinds}) == len(kinds)
        drawn_points = sum(path.attrib["d"].count("M") for path in paths)
        assert drawn_points == section["n"]
        assert [name for _, name in drawn["legend"]] == panel["names"]


def test_dots_stand_where_the_section_says(case: ReportCase) -> None:
    section = map_section(found_for(case), case.manifest)
    assert section is not None
    chart = map_panels(section)[0]["chart"]
    places = {(int(a), int(b)) for a, b in re.findall(r"M(\d+) (\d+)", chart)}
    assert places == set(zip(section["x"], section["y"], strict=True))


def test_more_groups_than_colours_share_the_last(case: ReportCase) -> None:
    table = case.manifest.table.copy()
    table["site"] = [f"s{i % 11:02d}" for i in range(len(table))]
    manifest = type(case.manifest)(table, case.manifest.root, case.manifest.classes)
    section = map_section(found_for(case), manifest)
    assert section is not None
    names = section["panels"][1]["names"]
    assert len(names) == 8
    assert names[-1] == "4 others"
    assert set(section["panels"][1]["codes"]) == set(range(8))
