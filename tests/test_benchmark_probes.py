"""The benchmark of probes runs each of its sections, and both sides of each do the same work."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from benchmarks.probes import clock as clock_module
from benchmarks.probes import neighbours
from benchmarks.probes.agreement import _objective, compare_optima, describe_optima
from benchmarks.probes.clock import Clock, Section, Timing, Way
from benchmarks.probes.cohort import Cohort, Shape, make_task
from benchmarks.probes.efficiency import count_gigaflop, profile
from benchmarks.probes.footprint import AnonymousMemory, read_status
from benchmarks.probes.linear import PEERS, USEFUL, search_grid, solve_ours
from benchmarks.probes.memory import memory
from benchmarks.probes.ridge import ALPHAS
from benchmarks.probes.run import MEASURES, format_section, main, measure
from benchmarks.probes.settings import SECTIONS, Settings, read_options

if TYPE_CHECKING:
    from pathlib import Path

TINY = [
    *("--rows", "450", "--columns", "16", "--patients", "30", "--threads", "1"),
    *("--peer-folds", "2", "--trees", "3", "--tree-folds", "1", "--product", "64"),
    *("--curve-rows", "450", "460", "--curve-folds", "1", "5"),
    *("--memory-rows", "450", "--keep-bytes", "1000"),
]
SMALL = Shape(rows=450, columns=16, patients=30)


def tiny(*options: str) -> Settings:
    return read_options([*TINY, *options])


def silent(rounds: int = 1) -> Clock:
    return Clock(rounds, lambda _: None)


def test_the_cohort_is_drawn_from_its_seed() -> None:
    first, again, other = (make_task(SMALL, seed=seed) for seed in (1, 1, 2))
    assert first.X.shape == (450, 16)
    assert first.X.dtype == np.float32
    assert np.isfinite(first.X).all()
    assert (first.X >= 0).all()
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.y, other.y)


def test_patients_have_several_classes_and_stand_on_one_side() -> None:
    cohort = Cohort.draw(Shape(5000, 4), seed=0)
    assert set(cohort.y) == set(range(9))
    assert len(set(cohort.patients)) == 86
    of_patient = [set(cohort.y[cohort.patients == patient]) for patient in range(86)]
    assert np.mean([len(classes) for classes in of_patient]) > 4
    assert 0.005 < (cohort.y != cohort.tissue).mean() < 0.02
    splits = cohort.splits(5, 2)
    assert len(splits) == 10
    for train, test in splits:
        assert not set(cohort.patients[train]) & set(cohort.patients[test])
        assert len(train) + len(test) == 5000


def test_a_file_is_filled_as_memory_is(tmp_path: Path) -> None:
    cohort = Cohort.draw(Shape(5000, 3), seed=0)
    X = np.empty((5000, 3), dtype=np.float32)
    mapped = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float16, X.shape)
    cohort.fill(X)
    cohort.fill(mapped)
    np.testing.assert_array_equal(X.astype(np.float16), mapped)


def test_weak_penalties_lose_accuracy_and_strong_ones_do_not() -> None:
    task = make_task(Shape(4000, 205), folds=2)
    strong, weak = solve_ours(task, (5e-3, 10.0), 1).accuracy.mean(axis=0)
    assert strong > 0.85
    assert weak < strong - 0.03


def test_quick_changes_defaults_but_not_what_is_given() -> None:
    assert read_options(["--quick"]).rows == 4000
    assert read_options(["--quick", "--rows", "7"]).rows == 7
    assert read_options([]).rows == 20_000
    assert read_options([]).peer_folds is None
    assert set(read_options([]).only) == set(SECTIONS) == set(MEASURES)


@pytest.mark.parametrize("option", [["--rows", "0"], ["--only", "all"]])
def test_wrong_options_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(option)
    assert option[1] in capsys.readouterr().err


def test_ways_take_turns_and_parts_are_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(SMALL, folds=4)
    seen: list[tuple[str, int, int]] = []

    def note(name: str) -> Way:
        return Way(
            name,
            lambda part: seen.append((name, len(part.y), len(part.splits))),
            1 if name == "b" else None,
        )

    def take_two_seconds(run: Any, part: Any) -> tuple[float, None]:
        return 2.0, run(part)

    monkeypatch.setattr(clock_module, "time_once", take_two_seconds)
    monkeypatch.setattr(clock_module, "_WARM_UP", Shape(100, 4, classes=2, patients=10))
    timings, _ = silent(2).time([note("a"), note("b")], task)
    assert seen == [
        ("a", 100, 2),
        ("b", 100, 2),
        ("a", 450, 4),
        ("b", 450, 1),
        ("b", 450, 1),
        ("a", 450, 4),
    ]
    assert [timing.seconds for timing in timings] == [[2.0, 2.0], [8.0, 8.0]]
    assert [timing.note for timing in timings] == ["", "timed on 1 of 4 folds, scaled"]


def test_a_section_is_laid_out_with_ratios_of_medians() -> None:
    timings = [Timing("ours", [1.0, 2.0, 4.0]), Timing("peer", [5.0], "scaled")]
    section = Section("title", timings, ["line"])
    assert section.ratios == {"peer": 2.5}
    title, ours, peer, line = format_section(section)
    assert (title, line) == ("title", "  line")
    assert "2.00 s (1.00 to 4.00)" in ours
    assert "times ours" not in ours
    assert "2.50 times ours  scaled" in peer
    assert Section("no times").ratios == {}


@pytest.mark.parametrize(("name", "n_penalties", "n_folds"), [("useful", 4, 25), ("grid", 10, 5)])
def test_logistic_sections_compare_the_same_fits(name: str, n_penalties: int, n_folds: int) -> None:
    section = measure(name, tiny())
    assert [timing.name for timing in section.timings] == ["featurebench", *PEERS]
    assert [timing.note for timing in section.timings[1:]] == [
        f"timed on 2 of {n_folds} folds, scaled"
    ] * len(PEERS)
    assert len(section.facts["accuracy"]) == len(section.facts["optima"]) == n_penalties
    assert len(section.facts["n_iter"]) == n_penalties * n_folds
    # of some 90 held-out rows, at most two on the edge
    assert section.facts["largest_difference"]["GridSearchCV, tol 1e-6"] < 0.03
    for optimum in section.facts["optima"]:
        assert set(optimum["gap"]) == {"featurebench", *PEERS}
        assert all(abs(gap) < 1e-4 for gap in optimum["gap"].values())
    assert all(pool["num_threads"] == 1 for pool in section.facts["threadpools"])
    json.dumps(section.facts)


def test_grid_search_has_the_accuracies_of_ours_fold_by_fold() -> None:
    task = make_task(SMALL, folds=3)
    ours = solve_ours(task, USEFUL, 1).accuracy
    theirs = search_grid(task, USEFUL, 1, solver={"tol": 1e-8, "max_iter": 1000})
    assert ours.shape == (3, 4)
    np.testing.assert_allclose(ours, theirs, atol=0.011)


def test_a_worse_optimum_has_a_gap() -> None:
    task = make_task(SMALL, folds=3)
    models = solve_ours(task, (1e-3, 1.0), 1).models
    good = compare_optima(task, (1e-3, 1.0), models, {}, 1)
    bad = dataclasses.replace(models, coef=-models.coef)
    found = compare_optima(task, (1e-3, 1.0), bad, {}, 1)
    for before, after in zip(good, found, strict=True):
        assert abs(before["gap"]["featurebench"]) < 1e-5
        assert before["labels_differing"]["featurebench"] == 0
        assert after["gap"]["featurebench"] > 0.01
        assert after["labels_differing"]["featurebench"] > 10
    assert f"of {len(task.splits[0][1])} labels" in describe_optima(found)[1]


def test_the_objective_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    Z, coef, intercept = rng.normal(size=(30, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
    y = np.arange(30) % 3
    p = np.exp(Z @ coef.T + intercept)
    expected = log_loss(y, p / p.sum(axis=1, keepdims=True), normalize=False)
    expected += (coef**2).sum() / (2 * 0.1)
    assert _objective(Z, y, (coef, intercept, 0), 0.1) == pytest.approx(expected)


def test_ridge_has_the_labels_of_scikit_learn() -> None:
    section = measure("ridge", tiny())
    assert section.facts["labels_differing"] == [0] * len(ALPHAS)
    assert section.facts["largest_difference"] < 0.011
    assert len(section.timings) == 2


def test_neighbours_have_the_labels_of_their_peers() -> None:
    section = measure("knn", tiny())
    peers = ["KNeighborsClassifier, brute"]
    if neighbours.find_faiss() is not None:
        peers.append("faiss IndexFlatIP")
    assert [timing.name for timing in section.timings] == ["featurebench", *peers]
    assert set(section.facts["same_labels"]) == set(peers)
    assert min(section.facts["same_labels"].values()) > 0.995


def test_faiss_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "find_spec", lambda _: None)
    section = neighbours.knn(tiny(), silent())
    assert len(section.timings) == 2
    assert any("faiss is not installed" in line for line in section.lines)


def test_trees_are_scored_on_both_sides() -> None:
    section = measure("lightgbm", tiny())
    scores = section.facts["balanced_accuracy"]
    assert set(scores) == {"featurebench", "LGBMClassifier, defaults"}
    assert all(1 / 9 < score <= 1 for score in scores.values())
    assert "1 fold x 3 rounds" in section.title


def test_efficiency_is_a_share_of_the_products() -> None:
    section = measure("efficiency", tiny("--profile", "3"))
    rates, shares = section.facts["rates"], section.facts["shares"]
    assert shares["square"] == pytest.approx(rates["solver"] / rates["square"])
    assert shares["shapes"] == pytest.approx(rates["solver"] / rates["shapes"])
    assert any("tottime" in line for line in section.lines)


def test_arithmetic_is_counted_by_passes() -> None:
    task = make_task(SMALL, folds=2)
    models = solve_ours(task, (1e-3,), 1).models
    passes = int(models.n_iter.sum())
    assert count_gigaflop(models, task) == pytest.approx(4 * 450 * 17 * 9 * passes / 1e9)
    assert any("_softmax_residual" in line for line in profile(task, 10))


def test_the_curve_has_a_point_for_each_size() -> None:
    found = measure("curve", tiny()).facts
    assert [(each["rows"], each["folds"]) for each in found["by_rows"]] == [(450, 5), (460, 5)]
    assert [(each["rows"], each["folds"]) for each in found["by_folds"]] == [(450, 1), (450, 5)]
    for each in [*found["by_rows"], *found["by_folds"]]:
        assert each["models"] == 4 * each["folds"]
        assert each["s_per_model"] == pytest.approx(each["median_s"] / each["models"])


def test_memory_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    section = memory(tiny("--scratch", str(tmp_path)), silent())
    facts = section.facts
    assert list(tmp_path.iterdir()) == []
    assert facts["peak_rss_bytes"] > facts["peak_anon_bytes"] >= facts["anon_before_bytes"] > 0
    assert facts["largest_gap"] < 3e-6
    assert len(section.lines) == 4


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    settings = tiny("--scratch", str(tmp_path), "--memory-rows", str(10**15))
    with pytest.raises(ValueError, match="--scratch on another disk"):
        memory(settings, silent())


def test_anonymous_memory_is_seen_while_it_is_there() -> None:
    before = read_status("RssAnon")
    with AnonymousMemory() as watched:
        block = np.ones(100_000_000, dtype=np.uint8)
        deadline = time.monotonic() + 20
        while watched.peak < before + 90_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
    assert watched.peak >= before + 90_000_000
    with pytest.raises(ValueError, match="Linux only"):
        read_status("NoSuchSize")


def test_a_section_is_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "probes.json"
    main([*TINY, "--only", "ridge", "--json", str(target)])
    report = json.loads(target.read_text())
    ridge = report["sections"]["ridge"]
    ours, peer = (timing["median_s"] for timing in ridge["timings"])
    assert list(ridge["ratios"].values()) == [pytest.approx(peer / ours)]
    printed = capsys.readouterr().out
    for text in (ridge["title"], *ridge["lines"], "GridSearchCV, RidgeClassifier", "450 x 16"):
        assert text in printed
    assert report["settings"]["rows"] == 450
    assert {"scikit-learn", "lightgbm", "numpy"} <= set(report["machine"]["libraries"])
    assert len(report["machine"]["load_before_and_after"]) == 2
    assert any(pool["user_api"] == "blas" for pool in ridge["threadpools"])
