"""Fine-tunes with fewer labels: on the heads' own training sets, kept when killed, and reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from featurebench import experiment
from featurebench.config import load_config
from featurebench.evaluation import draw_subsets
from featurebench.experiment import fine_tune_arms
from featurebench.experiment.console import QUIET
from featurebench.experiment.study import load_tiles, make_study
from featurebench.experiment.tasks import few_labels_of
from featurebench.finetuning import learner, training
from featurebench.results import load_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.evaluation import Subsets
    from featurebench.experiment.study import Study
    from featurebench.finetuning.training import Lesson
    from featurebench.results import LearningCurve

TINY = """
data: {synthetic: {patients: 12, tiles_per_patient: 2, size: 32, class_effect: 3.0, seed: 2}}
backbones: [{model: handcrafted, model_args: {groups: [colour]}}]
splits: {folds: 2, repeats: 2, group: patient_id}
heads: {knn: {k: 1}}
few_labels: {shots: [1], patients: [4], draws: 1}
finetune:
  - {model: test_resnet, weights: random, image_size: 32, batch_size: 8, epochs: 1, repeats: 1,
     few_labels: true}
compare: {resamples: 100}
compute: {threads: 1, device: cpu}
"""
ARM = "test_resnet.random+full"


class Killed(BaseException):
    """What no handler of errors takes."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    load_tiles(load_config(folder / "tiny.yaml"), QUIET)
    return folder


@pytest.fixture
def tiny(drawn: Path, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Load the experiment with results of its own; without heads unless ``heads`` is true."""

    def load(*overrides: str, heads: bool = False) -> ExperimentConfig:
        own = [f"output.results={tmp_path / 'results'}", f"output.reports={tmp_path / 'reports'}"]
        own += [] if heads else ["heads={}", "backbones=[]"]
        return load_config(drawn / "tiny.yaml", [*own, *overrides])

    return load


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> list[Lesson]:
    """What networks are trained on, in order."""
    seen: list[Lesson] = []
    train = training.train

    def spy(network: Any, feed: Any, lesson: Lesson, **given: Any) -> Any:
        seen.append(lesson)
        return train(network, feed, lesson, **given)

    monkeypatch.setattr(learner, "train", spy)
    return seen


def heads_subsets(config: ExperimentConfig) -> tuple[Study, Subsets]:
    """Draw the training sets as `few_label_curve` has them."""
    study = make_study(config, load_tiles(config, QUIET), [])
    few = few_labels_of(config)
    assert few is not None
    labels = study.tiles.labels
    groups, patients = study.groups, study.patients
    return study, draw_subsets(labels, study.plan, few, groups=groups, patients=patients)


def curve_of(config: ExperimentConfig) -> LearningCurve:
    (folder,) = (config.output.results / "curves").iterdir()
    return load_curve(folder)


def sizes(curve: LearningCurve) -> list[tuple[object, ...]]:
    return [
        (p.kind, p.size, p.draw, p.repeat, p.fold, p.n_tiles, p.n_patients) for p in curve.points
    ]


def values(curve: LearningCurve) -> list[dict[str, float]]:
    return [dict(point.values) for point in curve.points]


def test_training_sets_are_those_of_the_heads(
    tiny: Callable[..., ExperimentConfig], lessons: list[Lesson]
) -> None:
    """Of the plan's two repeats the fine-tune runs one, and draws its curve on that one."""
    config = tiny()
    fine_tune_arms(config)
    study, subsets = heads_subsets(config)
    mine = [subset for subset in subsets if subset.repeat == 0]
    assert (len(mine), len(list(subsets))) == (4, 8)
    trained = lessons[2:]
    for lesson, subset in zip(trained, mine, strict=True):
        assert set(lesson.rows) | set(lesson.validation) == set(subset.rows.tolist())
        assert not set(lesson.rows) & set(lesson.validation)
        if subset.inner is None:
            assert len(lesson.validation) == 0
        else:
            np.testing.assert_array_equal(lesson.validation, subset.train[subset.inner == 0])
    assert {subset.inner is None for subset in mine} == {True, False}

    curve = curve_of(config)
    assert (curve.arm, curve.head, curve.embedding) == (ARM, None, None)
    assert (curve.plan_id, curve.classes) == (study.plan.id, study.tiles.classes)
    assert sizes(curve) == [
        (s.kind, s.size, s.draw, s.repeat, s.fold, len(s.rows), s.n_patients) for s in mine
    ]
    assert [point.inner for point in curve.points] == [s.level or "fixed" for s in mine]
    assert curve.metrics[0] == "balanced_accuracy"
    assert all(np.isfinite(list(each.values())).all() for each in values(curve))
    assert curve.cost.wall_s > 0


def test_all_repeats_where_all_are_run(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny("finetune.0.repeats=2", "few_labels={shots: [2], draws: 2}")
    fine_tune_arms(config)
    _, subsets = heads_subsets(config)
    assert [(p.draw, p.repeat, p.fold) for p in curve_of(config).points] == [
        (s.draw, s.repeat, s.fold) for s in subsets
    ]
    assert len(curve_of(config).points) == 2 * 2 * 2


def test_probabilities_are_scored_on_the_whole_test_side(
    tiny: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With probabilities of our own, the accuracy of each point is known by hand."""
    from featurebench.experiment import tuned_curves
    from featurebench.finetuning.folds import FoldOutcome
    from featurebench.results import Cost

    config = tiny("compare.metric=accuracy")
    study, _ = heads_subsets(config)
    labels = study.tiles.labels

    def guess(_: object, subsets: dict[str, Any], *__: object, **given: Any) -> dict[str, Any]:
        """Right on all tiles tested but the first."""
        outcomes = {}
        for name, split in subsets.items():
            y_prob = np.eye(2, dtype=np.float32)[labels[split.test]] * 0.8 + 0.1
            y_prob[0] = y_prob[0, ::-1]
            cost = Cost(wall_s=2.0)
            outcomes[name] = FoldOutcome(split.repeat, split.fold, split.test, y_prob, cost, {})
            given["done"](name)
        return outcomes

    monkeypatch.setattr("featurebench.finetuning.fine_tune_subsets", guess, raising=False)
    told: list[int] = []
    from featurebench.experiment.arms import declare_fine_tunes
    from featurebench.experiment.tasks import Bench

    (arm,) = declare_fine_tunes(config, study)
    curve = tuned_curves.tuned_curve(
        Bench(config, study), arm, config.finetune[0], folder=None, progress=told.append
    )
    n_test = [len(test) for _, test in study.plan][:2]
    expected = [1 - 1 / n_test[point.fold] for point in curve.points]
    assert [point.values["accuracy"] for point in curve.points] == pytest.approx(expected)
    # Progress adds up to the training sets of both repeats, cost to the folds'.
    assert sum(told) == 8
    assert curve.cost.wall_s == 2.0 * len(curve.points)


def test_curve_is_kept(
    tiny: Callable[..., ExperimentConfig], lessons: list[Lesson], new_recorder: type[Any]
) -> None:
    config = tiny()
    fine_tune_arms(config)
    n_trained, first = len(lessons), values(curve_of(config))
    recorder = new_recorder()
    fine_tune_arms(config, recorder.console())
    assert recorder.of("few labels") == [f"{ARM}: cached"]
    assert len(lessons) == n_trained
    assert values(curve_of(config)) == first


@pytest.mark.parametrize("killed_at", [3, 5])
def test_killed_curve_goes_on_to_the_same_numbers(
    tiny: Callable[..., ExperimentConfig],
    tmp_path: Path,
    lessons: list[Lesson],
    killed_at: int,
) -> None:
    calm, config = tiny(f"output.results={tmp_path / 'calm'}"), tiny()
    fine_tune_arms(calm)
    lessons.clear()
    with pytest.MonkeyPatch.context() as patch:
        spied: Any = vars(learner)["train"]

        def dying(*given: Any, **named: Any) -> Any:
            if len(lessons) == killed_at:
                raise Killed
            return spied(*given, **named)

        patch.setattr(learner, "train", dying)
        with pytest.raises(Killed):
            fine_tune_arms(config)
    fine_tune_arms(config)
    # Two folds and four smaller sets in all, none of them twice.
    assert len(lessons) == 6
    disturbed, expected = curve_of(config), curve_of(calm)
    assert sizes(disturbed) == sizes(expected)
    assert values(disturbed) == values(expected)
    assert disturbed.curve_id == expected.curve_id
    # What was spent before is on the ledger.
    folder = next((config.output.results / "curves").iterdir()) / "folds"
    assert len(list(folder.iterdir())) == 4
    assert disturbed.cost.wall_s == pytest.approx(_spent(folder.rglob("*.npz")))


def _spent(files: Any) -> float:
    headers = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            headers.append(json.loads(str(arrays["header"])))
    return float(sum(header["cost"]["wall_s"] for header in headers))


def test_replicas_and_entries_that_do_not_ask_have_no_curve(
    tiny: Callable[..., ExperimentConfig],
) -> None:
    config = tiny("finetune.0.seeds=2", "few_labels={shots: [1], draws: 1}")
    fine_tune_arms(config)
    assert curve_of(config).arm == ARM
    listed = json.loads((config.output.results / "arms.json").read_text())["arms"]
    assert ["curve" in arm for arm in listed] == [True, False]
    without = tiny(f"output.results={config.output.results / 'off'}", "finetune.0.few_labels=false")
    fine_tune_arms(without)
    assert not (without.output.results / "curves").exists()


def test_curve_that_fails_is_told_and_the_arm_stays(
    tiny: Callable[..., ExperimentConfig], new_recorder: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no more tiles\nand more lines")

    monkeypatch.setattr("featurebench.finetuning.fine_tune_subsets", fail, raising=False)
    recorder, config = new_recorder(), tiny()
    fine_tune_arms(config, recorder.console())
    assert recorder.of("failed") == [f"{ARM}, few labels: no more tiles"]
    assert len(recorder.of("arm")) == 1


@pytest.mark.parametrize("strategy", ["lp-ft", "head"])
def test_probe_may_start_the_smallest_sets(
    tiny: Callable[..., ExperimentConfig], new_recorder: type[Any], strategy: str
) -> None:
    recorder = new_recorder()
    few = "few_labels={shots: [1, 2], draws: 1}"
    config = tiny(few, f"finetune.0.strategy={strategy}", "splits.repeats=1")
    fine_tune_arms(config, recorder.console())
    assert recorder.of("failed") == []
    assert [point.size for point in curve_of(config).points] == [1, 2, 1, 2]


def test_both_curves_are_in_the_report(tiny: Callable[..., ExperimentConfig]) -> None:
    config = tiny(heads=True)
    page = experiment.run(config).read_text(encoding="utf-8")
    assert "Few labels" in page
    summary = json.loads((config.output.reports / "report.json").read_text())
    panels = summary["few_labels"]["panels"]
    assert {panel["kind"] for panel in panels} == {"shots", "patients"}
    for panel in panels:
        shown: Sequence[dict[str, Any]] = panel["arms"]
        assert len(shown) == 2
        assert any(ARM in json.dumps(arm) for arm in shown)
