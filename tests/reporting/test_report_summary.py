"""summarize(): complete, JSON-ready, and free of patients' names."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_cases import INPUT, LITE, ReportCase, draw_case, with_sites

from featurebench.comparison import ArmSummary, Estimate, compare
from featurebench.comparison.rates import rule_sentence
from featurebench.reporting import cohort, summarize, write_report
from featurebench.reporting.checklist import checklist_section
from featurebench.reporting.glossary import read_text
from featurebench.reporting.limits import limits_of
from featurebench.reporting.render import render_html
from featurebench.reporting.summary import arm_names, json_ready
from featurebench.results import Cost, Failure
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest

GRADES = ("grade-0", "grade-1", "grade-2", "grade-3")
FAILED = Failure("mobilenetv2_100.file+full", "finetune", "out of memory")
BAD = ({"tile_id": "t9", "reason": "truncated", "row": 9},)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ReportCase:
    return draw_case(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def summary(case: ReportCase) -> dict[str, Any]:
    return case.summary()


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("four")
    drawn = draw_case(folder, classes=GRADES, repeats=1, failures=(FAILED,), bad_tiles=BAD)
    return drawn.summary()


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_case(tmp_path_factory.mktemp("anon"), patients=False, sites=0, repeats=1).summary()


def is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str and is_plain(v) for k, v in value.items())
    if isinstance(value, list):
        return all(is_plain(v) for v in value)
    return value is None or type(value) in {str, int, float, bool}


def test_promised_keys_are_there(summary: dict[str, Any]) -> None:
    assert {
        "verdict", "caveats", "experiment", "data", "plan", "arms", "comparisons", "failures",
        "settings", "provenance", "limits",
    } <= set(summary)  # fmt: skip
    assert {"n_tiles", "n_patients", "classes", "bad_tiles"} <= set(summary["data"])
    assert {"id", "n_folds", "n_repeats", "group"} <= set(summary["plan"])
    for arm in summary["arms"]:
        assert {"id", "kind", "embedding", "head", "strategy", "metrics", "cost"} <= set(arm)
        assert set(arm["metrics"]["accuracy"]) == {"value", "ci_low", "ci_high"}
        assert {"wall_s", "cpu_s", "gpu_s", "peak_memory_mb"} <= set(arm["cost"])
        assert set(arm["amortised_cost"]) == set(arm["cost"]) == set(arm["extraction_share"])
    for contrast in summary["comparisons"]:
        assert {
            "arm_a", "arm_b", "metric", "difference", "ci_low", "ci_high", "by_folds",
            "by_patients", "p_value", "p_adjusted", "outcome", "relevance",
        } <= set(contrast)  # fmt: skip


@pytest.mark.parametrize("name", ["summary", "graded", "anonymous"])
def test_survives_json_unchanged(name: str, request: pytest.FixtureRequest) -> None:
    summary = request.getfixturevalue(name)
    assert is_plain(summary)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_undefined_numbers_are_none(summary: dict[str, Any]) -> None:
    contrast = next(c for c in summary["comparisons"] if c["arm_a"] == "dummy")
    assert contrast["p_value"] is None
    assert contrast["by_folds"]["statistic"] is None


def test_json_ready_knows_what_comes() -> None:
    value = {
        1: np.float32(0.5),
        "nan": float("nan"),
        "array": np.array([[1, 2], [3, 4]]),
        "inf": np.array([np.inf, 1.0]),
        "estimate": Estimate(1, 2, float("nan")),
        "path": Path("a/b"),
        "flag": np.bool_(True),
        "pair": (1, None),
    }
    assert json_ready(value) == {
        "1": 0.5,
        "nan": None,
        "array": [[1, 2], [3, 4]],
        "inf": [None, 1.0],
        "estimate": {"value": 1, "ci_low": 2, "ci_high": None},
        "path": "a/b",
        "flag": True,
        "pair": [1, None],
    }


def test_patients_are_counted_and_never_named(case: ReportCase, summary: dict[str, Any]) -> None:
    names = case.manifest.column("patient_id")
    assert names is not None
    assert summary["data"]["n_patients"] == len(set(names)) == 40
    assert "secret-" not in json.dumps(summary)


def test_data_adds_up(case: ReportCase, summary: dict[str, Any]) -> None:
    data = summary["data"]
    n = len(case.manifest)
    assert data["n_tiles"] == n == sum(data["tiles_per_class"].values())
    assert sum(row["n_tiles"] for row in data["sites"]) == n
    assert sum(sum(row["class_counts"].values()) for row in data["sites"]) == n
    assert sum(data["patients_per_class"].values()) == 40
    assert data["mixed_patients"] == 0
    spread = data["tiles_per_patient"]
    assert sum(spread["counts"]) == 40
    assert len(spread["edges"]) == len(spread["counts"]) + 1
    assert spread["edges"][0] <= spread["min"] <= spread["median"] <= spread["max"]


def _sized(folder: Path, sizes: list[tuple[int, int]], *, patients: int = 24) -> TileManifest:
    """Two classes; patient k of class k % 2 has three tiles of the k-th size."""
    rows = []
    for k in range(patients):
        name = f"{k}.png"
        Image.new("RGB", sizes[k % len(sizes)]).save(folder / name)
        for tile in range(3):
            row = {"tile_id": f"{k}-{tile}", "path": name, "label": "ab"[k % 2]}
            rows.append(row | {"patient_id": str(k)})
    return TileManifest(pd.DataFrame(rows), folder, ("a", "b"))


def test_sizes_of_tiles_are_told(tmp_path: Path) -> None:
    # Sizes change with every second patient, so both classes have both.
    found = cohort.tile_sizes(_sized(tmp_path, [(30, 20), (30, 20), (40, 20), (40, 20)]))
    assert found is not None
    assert found["width"] == {"min": 30, "median": 35.0, "max": 40}
    assert (found["n_tiles"], found["n_sizes"], found["caveat"]) == (72, 2, "")
    assert found["sentence"] == "Size of tiles in pixels: width 30 to 40 (median 35), height 20."


def test_size_that_goes_with_the_class_is_a_caveat(tmp_path: Path) -> None:
    found = cohort.tile_sizes(_sized(tmp_path, [(30, 20), (40, 20)]))
    assert found is not None
    assert found["caveat"].startswith("The size of tiles in pixels goes with their class (V = 1.00")
    assert "medians: a 30 × 20, b 40 × 20" in found["caveat"]
    many = [(20 + k, 20 + k) if k % 2 else (60 + k, 60 + k) for k in range(24)]
    varied = cohort.tile_sizes(_sized(tmp_path, many))
    assert varied is not None
    assert varied["n_sizes"] == 24
    assert "goes with their class" in varied["caveat"]


def test_size_that_goes_with_the_class_stands_among_the_caveats(
    case: ReportCase, tmp_path: Path
) -> None:
    for path in case.manifest.table["path"].unique():
        side = 40 if path.startswith("benign") else 30
        Image.new("RGB", (side, side)).save(tmp_path / path)
    made = replace(case, manifest=replace(case.manifest, root=tmp_path)).summary()
    assert made["caveats"][:-1] == list(case.comparison.caveats)
    assert made["caveats"][-1] == made["data"]["tile_sizes"]["caveat"]
    assert made["data"]["tile_sizes"]["sentence"] in render_html(made)


def test_a_large_manifest_is_sampled_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "SIZED_TILES", 12)
    found = cohort.tile_sizes(_sized(tmp_path, [(30, 20)]))
    assert found is not None
    assert found["n_tiles"] == 12
    assert found["sentence"].endswith("height 20, by the headers of 12 tiles at even distances.")


def test_tiles_that_are_gone_have_no_size(case: ReportCase, tmp_path: Path) -> None:
    assert cohort.tile_sizes(replace(case.manifest, root=tmp_path)) is None


def test_patients_of_two_classes_are_counted(case: ReportCase) -> None:
    table = case.manifest.table.assign(patient_id=case.manifest.table["site"])
    data = cohort.data_section(replace(case.manifest, table=table), [])
    assert data["mixed_patients"] == 3


def test_tiles_left_out_are_listed_with_the_reason_only(graded: dict[str, Any]) -> None:
    assert graded["data"]["bad_tiles"] == [{"tile_id": "t9", "reason": "truncated"}]
    assert graded["failures"] == [
        {"arm": "mobilenetv2_100.file+full", "kind": "finetune", "error": "out of memory"}
    ]


def test_without_patients_and_sites(anonymous: dict[str, Any]) -> None:
    data = anonymous["data"]
    assert data["n_patients"] is None
    assert data["n_sites"] is None
    assert data["patients_per_class"] is None
    assert data["tiles_per_patient"] is None
    assert data["sites"] == []
    assert data["warnings"] == ["no patient_id: folds cannot be grouped by patient"]
    assert {tile["site"] for tile in data["example_tiles"]} == {None}
    assert anonymous["plan"]["group"] is None


@pytest.mark.parametrize("repeats", [1, 2])
def test_without_patients_nothing_is_said_to_be_over_them(tmp_path: Path, repeats: int) -> None:
    drawn = draw_case(tmp_path / "tiles", patients=False, sites=2, repeats=repeats)
    compared = compare(drawn.results, margin=0.01, n_boot=20)
    summary = replace(drawn, comparison=compared).summary()
    assert summary["unit"] == "tiles"
    assert {c["by_patients"]["unit"] for c in summary["comparisons"]} == {"tiles"}
    page = write_report(summary, tmp_path / "report")
    claims = re.compile(
        r"(over|of|other|resample|p,|on|unit a) patients?\b|"
        r"patients (alone|resampled|needed|better)",
        re.IGNORECASE,
    )
    read = [page, *(page.parent / n for n in ("report.md", "comparisons.csv", "checklist.csv"))]
    read += [*page.parent.glob("*.tex"), *page.parent.glob("figures/*.svg")]
    for file in read:
        # The rule's identity, in its column of the table.
        text = file.read_text(encoding="utf-8").replace(",patients alone,", ",")
        assert not claims.findall(text), file.name
    assert "over tiles" in page.read_text(encoding="utf-8")


def test_example_tiles_are_small_pictures_of_every_class_and_site(summary: dict[str, Any]) -> None:
    tiles = summary["data"]["example_tiles"]
    groups = {(tile["label"], tile["site"]) for tile in tiles}
    assert len(groups) == 6
    assert len(tiles) == 18
    head, _, body = tiles[0]["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert max(image.size) <= cohort.THUMBNAIL


def test_example_tiles_are_the_same_every_time(case: ReportCase, summary: dict[str, Any]) -> None:
    again = cohort.example_tiles(case.manifest, case.manifest.column("site"))
    assert again == summary["data"]["example_tiles"]


def test_thumbnail_keeps_the_shape_and_leaves_the_image_alone() -> None:
    image = Image.new("RGB", (448, 224))
    small = Image.open(io.BytesIO(base64.b64decode(cohort.thumbnail(image).partition(",")[2])))
    assert small.size == (112, 56)
    assert image.size == (448, 224)


def test_folds_partition_the_tiles(case: ReportCase, summary: dict[str, Any]) -> None:
    plan = summary["plan"]
    assert plan["id"] == case.plan.id
    assert (plan["n_folds"], plan["n_repeats"]) == (5, 2)
    for repeat in range(2):
        rows = [row for row in plan["folds"] if row["repeat"] == repeat]
        assert sum(row["n_test"] for row in rows) == len(case.manifest)
        assert sum(row["n_test_patients"] for row in rows) == 40
        assert all(row["n_train"] + row["n_test"] == len(case.manifest) for row in rows)
        assert all(sum(row["class_counts"].values()) == row["n_test"] for row in rows)


def test_holdout_has_one_fold_and_a_validation_part(case: ReportCase) -> None:
    labels, codes = case.results.y_true, case.results.patients
    plan = SplitPlan.holdout(labels, codes, tile_ids=case.plan.tile_ids)
    (row,) = cohort.plan_section(plan, case.manifest)["folds"]
    assert row["n_validation"] == int((plan.test_fold == -2).sum()) > 0
    assert row["n_train"] == int((plan.test_fold == -1).sum())
    assert row["n_test"] == int((plan.test_fold == 0).sum())


def test_cost_is_that_of_the_arm_standing_alone(summary: dict[str, Any]) -> None:
    arm = summary["arms"][0]
    assert arm["training_cost"]["wall_s"] == 1.9
    assert arm["extraction_cost"]["wall_s"] == 21.3
    assert arm["cost"]["wall_s"] == pytest.approx(23.2)
    assert arm["cost"]["peak_memory_mb"] == 655


def test_curves_are_those_of_the_first_repeat_and_thin(
    summary: dict[str, Any], graded: dict[str, Any]
) -> None:
    for arm in (*summary["arms"], *graded["arms"]):
        roc, calibration = arm["curves"]["roc"], arm["curves"]["calibration"]
        assert len(roc["fpr"]) == len(roc["tpr"]) <= 200
        assert sum(calibration["n"]) == summary["data"]["n_tiles"]
    assert summary["arms"][0]["curves"]["roc"]["of"] == "malignant"
    assert graded["arms"][0]["curves"]["roc"]["of"] == "mean over classes"


def test_tiles_that_were_not_tested_are_not_in_the_curves(case: ReportCase) -> None:
    runs = list(case.results.runs)
    y_prob = runs[0].y_prob.copy()
    y_prob[0, :58] = np.nan
    runs[0] = replace(runs[0], y_prob=y_prob)
    again = replace(case, results=replace(case.results, runs=tuple(runs))).summary()
    assert sum(again["arms"][0]["curves"]["calibration"]["n"]) == len(case.manifest) - 58


def test_scores_of_every_fold_are_kept(summary: dict[str, Any]) -> None:
    scores = summary["arms"][0]["fold_scores"]
    assert len(scores) == 2 * 5 * 12
    assert set(scores[0]) == {"repeat", "fold", "metric", "value", "n_test"}


def test_metric_says_which_way_is_better(case: ReportCase, summary: dict[str, Any]) -> None:
    assert summary["metric"]["greater_is_better"] is True
    assert summary["metric"]["unit"] == "pp"
    loss = replace(case, comparison=replace(case.comparison, metric="log_loss")).summary()
    assert loss["metric"]["greater_is_better"] is False
    assert loss["metric"]["unit"] == ""


def test_takes_what_compare_gives(case: ReportCase) -> None:
    comparison = compare(case.results, n_boot=50)
    made = summarize(**(vars(case) | {"comparison": comparison}))
    assert made["verdict"] == comparison.verdict
    assert made["caveats"] == list(comparison.caveats)
    assert len(made["comparisons"]) == 9
    assert is_plain(made)
    assert made["weights"] == comparison.weights == "tiles"
    assert made["n_effective"] == comparison.n_effective
    assert made["interval_units"] == ["patients"]


def test_sites_are_shown_where_claims_ask_for_them(tmp_path: Path) -> None:
    made = with_sites(draw_case(tmp_path / "eight", sites=8)).summary()
    assert made["interval_units"] == ["patients", "sites"]
    first = made["comparisons"][0]
    assert first["rule"] == "folds, patients and sites"
    assert first["by_sites"]["test"] == "t over sites"
    page = write_report(made, tmp_path / "report")
    text = " ".join(read_text(page.read_text(encoding="utf-8")).split())
    assert "t over sites" in text
    assert "by the jackknife over patients and over sites (at patient level over patients)" in text
    assert "Over folds | Over sites | p |" in (page.parent / "report.md").read_text("utf-8")
    assert "by_sites_p_value" in (page.parent / "comparisons.csv").read_text("utf-8")
    assert "dashed: over sites" in (page.parent / "figures/differences.svg").read_text("utf-8")
    few = with_sites(draw_case(tmp_path / "three", sites=3)).summary()
    assert few["interval_units"] == ["patients"]
    assert "over sites" not in render_html(few | {"verdict": "", "caveats": [], "checklist": None})


class TestArmNames:
    def arm(
        self, name: str, kind: Any, embedding: str | None, head: str | None, strategy: str | None
    ) -> ArmSummary:
        confusion = np.zeros((2, 2), dtype=np.int64)
        estimate = {"accuracy": Estimate(0.5, 0.4, 0.6)}
        cost = Cost()
        return ArmSummary(
            name, kind, embedding, head, strategy, estimate, {}, {}, confusion, cost, cost, 1
        )

    def test_labels_are_short(self) -> None:
        probe = self.arm(f"{LITE[:-9]}+knn", "probe", LITE, "knn", None)
        tuned = self.arm(f"{LITE[:-9]}+full", "finetune", None, None, "full")
        dummy = self.arm("dummy", "baseline", None, "dummy", None)
        labels = [name["label"] for name in arm_names([probe, tuned, dummy]).values()]
        assert labels == [
            "knn · tf_efficientnet_lite0",
            "fine-tune, full · tf_efficientnet_lite0",
            "dummy",
        ]

    def test_a_name_of_its_own_is_kept(self) -> None:
        tuned = self.arm("long schedule", "finetune", None, None, "full")
        assert arm_names([tuned])["long schedule"] == {
            "method": "long schedule",
            "source": "fine-tune, full",
            "label": "long schedule · fine-tune, full",
        }

    def test_labels_never_coincide(self) -> None:
        arms = [
            self.arm("resnet50+knn", "probe", None, "knn", None),
            self.arm("resnet50.tv+knn", "probe", None, "knn", None),
            self.arm("x+knn", "probe", "resnet50.tv", "knn", None),
        ]
        labels = [name["label"] for name in arm_names(arms).values()]
        assert len(set(labels)) == 3


def test_inputs_of_networks_are_told_once_for_all_views(case: ReportCase) -> None:
    known = INPUT | {"input_size": [3, 224, 192], "mean": [0.485, 0.456, 0.406]}
    found: list[dict[str, Any]] = [
        {"name": "net.package@00000000", "preprocessing": known},
        {"name": "net.package@11111111.turn90", "preprocessing": known},
        {"name": "handcrafted@22222222", "preprocessing": {}},
        {"name": "uni.foreign@33333333", "preprocessing": {"source": "npy", "files": 1}},
        {"name": "old@44444444"},
    ]
    hashed = [each | {"weights_sha256": "00" * 32} for each in found]
    made = replace(case, provenance=case.provenance | {"embeddings": hashed}).summary()
    net, handcrafted, foreign, tuned = made["inputs"]
    assert net == {
        "network": "net.package",
        "size": "192 × 224",
        "crop": "87.5 % of the shorter side, center",
        "interpolation": "bicubic",
        "mean": "0.485, 0.456, 0.406",
        "std": "0.5, 0.5, 0.5",
    }
    assert (handcrafted["size"], foreign["size"]) == (
        "the tile as it is",
        "not known, embedded elsewhere",
    )
    assert tuned["network"] == "tf_efficientnet_lite0.package+full"
    assert tuned["crop"] == "to a square, margins of the longer side"


class TestLimits:
    def test_follow_from_the_facts(self, summary: dict[str, Any]) -> None:
        text = " ".join(summary["limits"])
        assert "no external cohort" in text
        assert "a site that was never seen" in text
        assert "Fine-tuning was tried with the recorded settings only" in text
        assert "differences are not resolved" in text
        assert "margin of 1 pp" in text
        assert "drawn by a program" not in text
        assert summary["limits"].count(rule_sentence()) == 1

    def test_one_site_and_none(self, summary: dict[str, Any], anonymous: dict[str, Any]) -> None:
        assert any("No site is recorded" in limit for limit in anonymous["limits"])
        one = summary | {"data": summary["data"] | {"n_sites": 1}}
        assert any("come from one site" in limit for limit in limits_of(one))

    def test_folds_grouped_by_site_do_show_new_sites(self, summary: dict[str, Any]) -> None:
        shown = [limit for limit in summary["limits"] if "never seen" in limit]
        assert shown == [
            "3 of 3 sites occur in training and test of one fold; performance at a site that was "
            "never seen was not examined for any."
        ]
        by_site = summary | {"plan": summary["plan"] | {"sites": {"tested": 3, "shared": 0}}}
        assert not any("never seen" in limit for limit in limits_of(by_site))

    @pytest.mark.parametrize(
        ("sites", "ending"),
        [
            (None, "; no site is recorded, so whether it comes from another cohort than the"),
            (
                {"tested": 2, "shared": 0},
                ", and none of its 2 sites is trained on: scores are those",
            ),
            ({"tested": 3, "shared": 1}, "; 1 of its 3 sites is trained on as well, so scores are"),
            ({"tested": 3, "shared": 3}, "; its 3 sites are trained on as well, so scores are not"),
            ({"tested": 1, "shared": 1}, "; its one site is trained on as well, so scores are not"),
        ],
    )
    def test_a_given_test_side_is_not_called_a_part_of_one_data_set(
        self, summary: dict[str, Any], sites: Any, ending: str
    ) -> None:
        given = summary | {
            "settings": summary["settings"] | {"splits": {"given": "cohort"}},
            "plan": summary["plan"] | {"sites": sites},
        }
        (told,) = [limit for limit in limits_of(given) if "test side" in limit]
        assert told.startswith(f"The test side was given in column cohort and not drawn{ending}")
        assert not any("external" in limit or "never seen" in limit for limit in limits_of(given))
        answers = [row["answer"] for row in checklist_section(given)["rows"]]
        assert answers.count(told) == 2
        assert not any("one data set" in answer for answer in answers)

    def test_sites_of_a_plan_are_counted_by_who_is_trained_on(self, case: ReportCase) -> None:
        sites = case.manifest.column("site")
        assert sites is not None
        assert cohort.plan_section(case.plan, case.manifest)["sites"] == {"tested": 3, "shared": 3}
        sides = np.where(sites == "site-1", "test", np.where(sites == "site-2", "val", "train"))
        plan = SplitPlan.from_column(sides, case.manifest.labels)
        assert cohort.plan_section(plan, case.manifest)["sites"] == {"tested": 1, "shared": 0}
        sides[np.flatnonzero(sites == "site-1")[0]] = "train"
        plan = SplitPlan.from_column(sides, case.manifest.labels)
        assert cohort.plan_section(plan, case.manifest)["sites"] == {"tested": 1, "shared": 1}

    def test_tiles_left_out(self, graded: dict[str, Any]) -> None:
        assert any(limit.startswith("1 tile could not be used") for limit in graded["limits"])

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"data": {"synthetic": {"patients": 40}}}, "drawn by a program"),
            ({"backbones": [{"model": "resnet18", "weights": "random"}]}, "random weights"),
        ],
    )
    def test_settings_that_limit(
        self, summary: dict[str, Any], settings: dict[str, Any], words: str
    ) -> None:
        assert any(words in limit for limit in limits_of(summary | {"settings": settings}))

    def test_without_fine_tuning(self, summary: dict[str, Any]) -> None:
        probes = [arm for arm in summary["arms"] if arm["kind"] != "finetune"]
        limits = limits_of(summary | {"arms": probes, "comparisons": []})
        assert "No fine-tuned network was compared." in limits
        assert not any("resolved" in limit or "margin" in limit for limit in limits)
        assert rule_sentence() not in limits

    def test_one_open_difference_is_singular(self, summary: dict[str, Any]) -> None:
        contrast = summary["comparisons"][0] | {"outcome": "not resolved"}
        limits = limits_of(summary | {"comparisons": [contrast]})
        assert any("1 of 1 difference is not resolved; it does" in limit for limit in limits)

    def test_differences_that_support_no_claim_are_said_to(self, summary: dict[str, Any]) -> None:
        assert not any("supports a claim" in limit for limit in summary["limits"])
        contrast = summary["comparisons"][0] | {"outcome": "not claimed"}
        limits = limits_of(summary | {"comparisons": [contrast]})
        assert any("none of them supports a claim" in limit for limit in limits)
