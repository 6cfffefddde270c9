"""The straight line on a small experiment: its report, its cache, and what happens at faults."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics as reference

from featurebench import experiment
from featurebench.config import load_config
from featurebench.errors import ConfigError, MissingRowsError, ResultsError, StoreMismatchError

if TYPE_CHECKING:
    from pathlib import Path

RunAgain = Callable[..., Any]
NUMBERS = ("verdict", "data", "plan", "comparisons", "failures")


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "reports/small/report.json").read_text())
    return report


def numbers_of(report: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on how or when the work was done: all but costs and times."""
    kept = {key: report[key] for key in NUMBERS if key != "verdict"}
    kept["comparisons"] = [
        {key: value for key, value in row.items() if key != "cost_ratio"}
        for row in report["comparisons"]
    ]
    kept["arms"] = [
        {
            key: arm[key]
            for key in ("id", "kind", "metrics", "patient_metrics", "confusion", "fold_scores")
        }
        for arm in report["arms"]
    ]
    return kept


def arms_that_ran(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out arms that were put together from others, by a choice on inner folds."""
    return [arm for arm in report["arms"] if not arm["chosen"]]


def test_report_has_the_promised_keys(finished: Path) -> None:
    report = read_report(finished)
    assert report["experiment"] == "small"
    assert report["verdict"]
    assert {"n_tiles", "n_patients", "classes", "bad_tiles"} <= set(report["data"])
    assert (report["data"]["n_tiles"], report["data"]["n_patients"]) == (48, 12)
    assert {"id", "n_folds", "n_repeats", "group"} <= set(report["plan"])
    own = arms_that_ran(report)
    assert [arm["kind"] for arm in own] == ["probe", "probe", "baseline", "finetune"]
    for arm in own:
        assert {"id", "embedding", "metrics", "cost"} <= set(arm)
        assert {"wall_s", "cpu_s", "gpu_s", "peak_memory_mb"} <= set(arm["cost"])
        assert arm["cost"]["energy_j"] is None
        assert arm["stored"]["bytes"] > 0
        for estimate in arm["metrics"].values():
            assert {"value", "ci_low", "ci_high"} <= set(estimate)
    assert len(report["comparisons"]) == len(report["arms"]) - 1
    assert [row["primary"] for row in report["comparisons"]].count(True) == 1
    needed = {"arm_a", "arm_b", "metric", "difference", "ci_low", "ci_high", "outcome", "p_value"}
    for row in report["comparisons"]:
        assert {"test", "p_value", "ci_low", "p_equivalent"} <= set(row["by_folds"])
        assert set(row["by_folds"]) == set(row["by_patients"])
    assert all({*needed, "p_adjusted"} <= set(row) for row in report["comparisons"])
    assert report["provenance"]["versions"]["torch"]
    assert report["provenance"]["embeddings"][0]["weights_sha256"]
    frozen, tuned = report["inputs"]
    assert (frozen["network"], frozen["size"]) == ("tf_efficientnet_lite0.package", "64 × 64")
    assert (tuned["network"], tuned["size"]) == ("tf_efficientnet_lite0.package+full", "32 × 32")
    assert frozen["crop"] == "87.5 % of the shorter side, center"


def test_numbers_recompute_from_the_results_with_scikit_learn_alone(finished: Path) -> None:
    report = read_report(finished)
    results = finished / "results/small"
    folds = pd.read_csv(results / "splits.csv")
    tiles = pd.read_parquet(results / "tiles.parquet")
    assert tiles["tile_id"].tolist() == folds["tile_id"].tolist()
    y = tiles["label"].map(report["data"]["classes"].index).to_numpy()
    for arm in arms_that_ran(report):
        (folder,) = (results / "runs").glob(f"{arm['id']}__*")
        y_prob = np.load(folder / "predictions.npz")["y_prob"].astype(float)
        assert np.isfinite(y_prob).all()
        y_pred = y_prob.argmax(axis=2)
        repeats = range(len(y_prob))
        expected = {
            "accuracy": [reference.accuracy_score(y, y_pred[r]) for r in repeats],
            "balanced_accuracy": [reference.balanced_accuracy_score(y, y_pred[r]) for r in repeats],
            "f1": [
                reference.f1_score(y, y_pred[r], average="macro", zero_division=0) for r in repeats
            ],
            "kappa": [reference.cohen_kappa_score(y, y_pred[r]) for r in repeats],
            "mcc": [reference.matthews_corrcoef(y, y_pred[r]) for r in repeats],
            "log_loss": [reference.log_loss(y, y_prob[r].astype(np.float32)) for r in repeats],
            "brier": [reference.brier_score_loss(y, y_prob[r][:, 1]) for r in repeats],
            "roc_auc": [
                np.mean(
                    [
                        reference.roc_auc_score(y[inside], y_prob[r][inside][:, 1])
                        for inside in (folds[f"repeat_{r}"] == k for k in range(3))
                    ]
                )
                for r in repeats
            ],
        }
        for name, values in expected.items():
            got = arm["metrics"][name]["value"]
            assert got == pytest.approx(np.mean(values), abs=1e-6), (arm["id"], name)
        confusion = reference.confusion_matrix(y, y_pred[0])
        np.testing.assert_array_equal(arm["confusion"], confusion)


def test_the_best_probe_is_what_the_inner_scores_say(finished: Path) -> None:
    """Choose again from ``run.json`` alone, and score what the chosen probes predicted."""
    report = read_report(finished)
    results = finished / "results/small"
    folds = pd.read_csv(results / "splits.csv")
    runs = [
        json.loads(file.read_text())
        for name in ("logistic", "knn")
        for file in (results / "runs").glob(f"*+{name}__*/run.json")
    ]
    inner = [
        {
            (e["repeat"], e["fold"]): e["scores"]["balanced_accuracy"]
            for e in run["details"]["inner"]
        }
        for run in runs
    ]
    chosen = {place: int(inner[1][place] > inner[0][place]) for place in inner[0]}
    counts = {run["arm"]: list(chosen.values()).count(i) for i, run in enumerate(runs)}
    (told,) = [each for each in report["selections"] if each["kind"] == "probe"]
    assert told["chosen"] == {arm: n for arm, n in counts.items() if n}
    assert report["reference"] == told["arm"]
    manifest = pd.read_csv(finished / "stores/small.tiles/tiles.csv").set_index("tile_id")
    y = manifest.loc[folds["tile_id"], "label"].map(report["data"]["classes"].index).to_numpy()
    scores = []
    for repeat in range(2):
        called = np.zeros(len(y), dtype=int)
        for i, run in enumerate(runs):
            (file,) = (results / "runs").glob(f"{run['arm']}__*/predictions.npz")
            mine = np.array([chosen[repeat, k] == i for k in folds[f"repeat_{repeat}"]])
            called[mine] = np.load(file)["y_prob"][repeat].argmax(axis=1)[mine]
        scores.append(reference.balanced_accuracy_score(y, called))
    (arm,) = [arm for arm in report["arms"] if arm["id"] == told["arm"]]
    assert arm["metrics"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(scores))
    values = {
        arm["id"]: arm["metrics"]["balanced_accuracy"]["value"]
        for arm in report["arms"]
        if arm["id"] in counts
    }
    assert values[told["hindsight"]] == max(values.values())
    assert told["regret"] == pytest.approx(max(values.values()) - np.mean(scores))
    assert len(report["choices"]) == 1


def test_second_run_does_nothing_but_say_what_is_cached(copied: Path, run_again: RunAgain) -> None:
    rewritten = {"arms.json", "splits.csv", "tiles.parquet", "experiment.yaml"}
    before = {
        file: file.stat().st_mtime_ns
        for file in copied.rglob("*")
        if file.is_file() and file.name not in rewritten
    }
    _, said = run_again(copied)
    assert len(said.of("arm")) == 4
    assert all(line.endswith("cached") for line in said.of("arm"))
    assert "cached" in said.of("embedding")[0]
    assert said.of("report") == ["cached"]
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_lost_run_alone_is_done_again_with_the_same_numbers(
    copied: Path, finished: Path, run_again: RunAgain
) -> None:
    (lost,) = copied.glob("results/small/runs/*+logistic__*")
    (lost / "run.json").unlink()
    _, said = run_again(copied)
    assert sum(line.endswith("cached") for line in said.of("arm")) == 3
    assert numbers_of(read_report(copied)) == numbers_of(read_report(finished))


def test_lost_block_and_half_a_fine_tune_are_done_again_with_the_same_numbers(
    copied: Path, finished: Path, run_again: RunAgain
) -> None:
    for record in copied.glob("stores/small.store/commits/*/*.json"):
        record.unlink()
    (run,) = copied.glob("results/small/runs/*+full__*")
    (run / "run.json").unlink()
    folds = sorted((run / "folds").glob("*.npz"))
    kept = folds[0].stat().st_mtime_ns
    folds[1].unlink()
    run_again(copied)
    assert folds[0].stat().st_mtime_ns == kept
    assert folds[1].is_file()
    assert numbers_of(read_report(copied)) == numbers_of(read_report(finished))


def test_resolved_experiment_can_be_run_where_it_lies(copied: Path) -> None:
    resolved = copied / "results/small/experiment.yaml"
    document = yaml.safe_load(resolved.read_text())
    assert document["compare"]["metric"] == "balanced_accuracy"
    assert experiment.report_is_fresh(load_config(resolved))


def test_tile_that_does_not_decode_is_left_out_everywhere_and_named(
    copied: Path, run_again: RunAgain
) -> None:
    for folder in ("stores/small.store", "results", "reports"):
        _remove(copied / folder)
    broken = sorted(copied.glob("stores/small.tiles/benign/*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(Exception, match="max_bad_tiles"):
        run_again(copied)
    _, said = run_again(copied, "data.max_bad_tiles=0.05")
    report = read_report(copied)
    assert len(said.of("bad tile")) == 1
    assert report["data"]["n_tiles"] == 47
    (bad,) = report["data"]["bad_tiles"]
    assert bad["tile_id"] in said.of("bad tile")[0]
    assert bad["reason"]
    for file in copied.glob("results/small/runs/*/predictions.npz"):
        assert np.load(file)["y_prob"].shape[1] == 47


def test_arm_that_fails_is_a_row_and_the_others_go_on(copied: Path, run_again: RunAgain) -> None:
    _, said = run_again(copied, "heads.knn.k=0")
    (line,) = said.of("failed")
    assert "knn" in line
    report = read_report(copied)
    (failure,) = report["failures"]
    assert failure["arm"].endswith("+knn")
    assert "k=0" in failure["error"]
    assert len(report["arms"]) == 3
    assert any("failed" in sentence or "knn" in sentence for sentence in report["caveats"])
    _, said = run_again(copied)
    assert not said.of("failed")
    assert not read_report(copied)["failures"]


def test_lightgbm_has_an_error_of_its_own(copied: Path, run_again: RunAgain) -> None:
    _, said = run_again(copied, "heads={lightgbm: {num_leaves: 1}, dummy: {}}", "finetune=[]")
    (line,) = said.of("failed")
    assert "num_leaves" in line
    assert len(said.of("arm")) == 1


def test_report_knows_when_it_is_stale(copied: Path, run_again: RunAgain) -> None:
    config = load_config(copied / "small.yaml")
    assert experiment.report_is_fresh(config)
    assert not experiment.report_is_fresh(
        load_config(copied / "small.yaml", ["compare.margin=0.02"])
    )
    (copied / "reports/small/report.html").unlink()
    assert not experiment.report_is_fresh(config)
    experiment.report(config)
    assert experiment.report_is_fresh(config)


def test_other_folds_are_other_runs(copied: Path, run_again: RunAgain) -> None:
    _, said = run_again(copied, "splits.seed=5", "finetune=[]")
    assert not any(line.endswith("cached") for line in said.of("arm"))
    assert "cached" in said.of("embedding")[0]
    with pytest.raises(ResultsError, match="run 'featurebench run' again"):
        experiment.report(load_config(copied / "small.yaml"))


def test_changed_tiles_do_not_mix_with_a_stores(copied: Path, run_again: RunAgain) -> None:
    table = copied / "stores/small.tiles/tiles.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(StoreMismatchError, match="48 other tiles than the 47"):
        run_again(
            copied,
            "data.synthetic=null",
            "data.manifest=stores/small.tiles/tiles.csv",
        )


def test_outlook_writes_nothing(tmp_path: Path, finished: Path, new_recorder: Any) -> None:
    (tmp_path / "small.yaml").write_text((finished / "small.yaml").read_text())
    recorder = new_recorder()
    experiment.outlook(load_config(tmp_path / "small.yaml"), recorder.console())
    assert "would embed 48 of 48 tiles" in recorder.of("embedding")[0]
    assert all(line.endswith("would run") for line in recorder.of("arm"))
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "stores/small.store").exists()
    recorder = new_recorder()
    experiment.outlook(load_config(finished / "small.yaml"), recorder.console())
    assert all(line.endswith("cached") for line in recorder.of("arm"))


def test_steps_need_the_ones_before_them(tmp_path: Path, finished: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text((finished / "small.yaml").read_text())
    with pytest.raises(MissingRowsError, match="featurebench extract"):
        experiment.probe_arms(load_config(file))
    with pytest.raises(ResultsError, match="featurebench run"):
        experiment.report(load_config(file))
    with pytest.raises(ConfigError, match="--head 'svm' is not in the experiment file"):
        experiment.probe_arms(load_config(file), head="svm")
    with pytest.raises(ConfigError, match="--backbone 'vgg16'"):
        experiment.embed_tiles(load_config(file), only="vgg16")


def test_steps_one_by_one_give_what_run_gives(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text((finished / "small.yaml").read_text())
    config = load_config(file)
    experiment.embed_tiles(config)
    experiment.probe_arms(config, head="logistic")
    experiment.fine_tune_arms(config)
    partial = experiment.compare_arms(config)
    assert [arm["kind"] for arm in partial["arms"]] == ["probe", "finetune"]
    assert len(partial["provenance"]["pending"]) == 2
    assert "not run yet" in partial["caveats"][0]
    experiment.probe_arms(config)
    experiment.report(config)
    assert numbers_of(read_report(tmp_path)) == numbers_of(read_report(finished))


def test_unknown_group_is_named(copied: Path, run_again: RunAgain) -> None:
    with pytest.raises(ConfigError, match="no column 'hospital'; they have"):
        run_again(copied, "splits.group=hospital")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("heads.logistic.ruel=3", "head 'logistic' has no parameter 'ruel': did you mean 'rule'?"),
        ("heads.svm={}", "unknown head 'svm'"),
        ("compare.metric=acuracy", "compare.metric 'acuracy' is unknown: did you mean 'accuracy'"),
        ("backbones.0.weights=lost.pth", "backbones.0.weights: no file"),
        ("finetune.0.weights=lost.pth", "finetune.0.weights: no file"),
    ],
)
def test_typo_is_found_before_any_tile_is_embedded(
    tmp_path: Path, finished: Path, run_again: RunAgain, override: str, message: str
) -> None:
    (tmp_path / "small.yaml").write_text((finished / "small.yaml").read_text())
    with pytest.raises(ConfigError, match=re.escape(message)):
        run_again(tmp_path, override)
    assert not (tmp_path / "stores").exists()


def test_unknown_reference_is_found_before_any_arm_runs(copied: Path, run_again: RunAgain) -> None:
    _remove(copied / "results/small/runs")
    with pytest.raises(ConfigError, match=r"did you mean 'tf_efficientnet_lite0\.package"):
        run_again(copied, "compare.reference=efficientnet_lite0.package+logistic")
    assert not (copied / "results/small/runs").exists()


def test_two_fine_tunes_need_two_names(copied: Path, run_again: RunAgain) -> None:
    entry = "{model: tf_efficientnet_lite0, weights: package, epochs: 1, image_size: 32}"
    with pytest.raises(ConfigError, match="give one of them a name"):
        run_again(copied, f"finetune=[{entry}, {entry}]")


def test_fine_tunes_alone_check_their_tiles(copied: Path, run_again: RunAgain) -> None:
    _, said = run_again(copied, "backbones=[]", "heads={}", "name=alone")
    assert len(said.of("arm")) == 1
    report = json.loads((copied / "reports/alone/report.json").read_text())
    assert [arm["kind"] for arm in report["arms"]] == ["finetune"]


def test_hold_out_goes_through(copied: Path, run_again: RunAgain) -> None:
    run_again(copied, "splits={holdout: [0.5, 0.25, 0.25]}", "name=held")
    report = json.loads((copied / "reports/held/report.json").read_text())
    assert report["plan"]["n_folds"] == 1
    for row in report["comparisons"]:
        assert row["by_folds"]["p_value"] is None
        assert row["rule"] == "patients alone"
    for arm in report["arms"]:
        assert not math.isnan(arm["metrics"]["accuracy"]["value"])


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
