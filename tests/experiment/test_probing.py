"""Probes give the same whoever does the work, and whatever happens to the workers."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

from featurebench.cli import main
from featurebench.config import load_config
from featurebench.errors import ConfigError, ResultsError, WorkerError
from featurebench.evaluation import Views, cross_validate
from featurebench.experiment import Console, embed_tiles, probe_arms
from featurebench.experiment.arms import Arm, declare_probes
from featurebench.experiment.embedding import stored_specs
from featurebench.experiment.hands import Hands
from featurebench.experiment.networks import resolve_device
from featurebench.experiment.probing import _image_size, plan_tasks
from featurebench.experiment.study import Study, load_tiles, make_study
from featurebench.experiment.tasks import Order, Task, run_ordered
from featurebench.heads import make_head
from featurebench.results import Cost, load_run
from featurebench.store import EmbeddingSpec, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from featurebench.config import ExperimentConfig
    from featurebench.experiment.console import Advance


@pytest.mark.parametrize(
    ("preprocessing", "recorded"),
    [({"input_size": [3, 224, 224]}, {"image_size": 224}), ({"patch": 256}, {}), ({}, {})],
)
def test_what_the_network_read_is_recorded_where_it_is_known(
    preprocessing: dict[str, Any], recorded: dict[str, int]
) -> None:
    spec = EmbeddingSpec("net", "tag", 8, "ab" * 32, preprocessing)
    assert _image_size(Arm("net+logistic", "probe", {}, "", "", spec=spec)) == recorded
    assert _image_size(Arm("dummy", "baseline", {}, "", "")) == {}


TINY = """
data: {synthetic: {patients: 12, tiles_per_patient: 4, size: 32, class_effect: 2.0, seed: 2}}
backbones:
  - {model: handcrafted, model_args: {groups: [colour]}, views: 2}
splits: {folds: 3, repeats: 2, group: patient_id}
heads:
  logistic: {Cs: [0.001, 0.1]}
  knn_l2: {head: knn, k: 3, features: l2}
  lda_views: {head: lda, views: {}}
  lightgbm: {n_estimators: 10, class_weight: {malignant: 2}}
  dummy: {}
compute: {threads: 2}
"""
ARMS = ["logistic", "knn_l2", "lda_views", "lightgbm"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the embeddings of the tiny experiment, and its probes run undisturbed."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    config = load_config(folder / "tiny.yaml")
    embed_tiles(config)
    probe_arms(config)
    return folder


@pytest.fixture
def tiny(embedded: Path, tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """Load the experiment with results of its own."""

    def load(*overrides: str) -> ExperimentConfig:
        own = f"output.results={tmp_path / 'results'}"
        return load_config(embedded / "tiny.yaml", [own, *overrides])

    return load


def predictions(results: Path) -> dict[str, Any]:
    """Out-of-fold probabilities by the folder of the run."""
    return {
        folder.name: load_run(folder).y_prob
        for folder in sorted((results / "runs").iterdir())
        if (folder / "run.json").is_file()
    }


def assert_undisturbed(results: Path, embedded: Path) -> None:
    found, expected = predictions(results), predictions(embedded / "results/tiny")
    assert list(found) == list(expected)
    for name, y_prob in expected.items():
        np.testing.assert_array_equal(found[name], y_prob, err_msg=name)


def declared(config: ExperimentConfig) -> tuple[Study, list[Arm]]:
    tiles = load_tiles(config, Console())
    study = make_study(config, tiles, [])
    return study, declare_probes(config, stored_specs(config, tiles), study)


def arm_of(config: ExperimentConfig, entry: str) -> Arm:
    return next(arm for arm in declared(config)[1] if arm.entry == entry)


class Watcher:
    """A console that counts what its bars were told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.bars: list[tuple[str, int]] = []
        self.notes: list[str] = []
        self.done = 0

    def console(self) -> Console:
        return Console(say=lambda step, text: self.lines.append((step, text)), track=self.track)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Advance]:
        self.bars.append((label, total))

        def advance(n: int, note: str = "") -> None:
            self.done += n
            self.notes.append(note)

        yield advance

    def of(self, step: str) -> list[str]:
        return [text for name, text in self.lines if name == step]


class TestSharing:
    @pytest.mark.parametrize("hands", [{"jobs": 2}, {"jobs": 2, "dask": "local"}])
    def test_workers_give_what_this_process_gives(
        self, tiny: Callable[..., ExperimentConfig], embedded: Path, hands: dict[str, Any]
    ) -> None:
        config, watcher = tiny(), Watcher()
        probe_arms(config, watcher.console(), **hands)
        assert_undisturbed(config.output.results, embedded)
        assert (watcher.bars, watcher.done) == ([("probing 5 arms", 30)], 30)
        assert sorted(line.partition(":")[0] for line in watcher.of("arm")) == sorted(
            ["dummy", *(f"handcrafted.v1+{name}" for name in ARMS)]
        )

    def test_cost_is_that_of_all_folds_and_threads_are_shared(
        self, tiny: Callable[..., ExperimentConfig]
    ) -> None:
        config = tiny("heads={lightgbm: {n_estimators: 10}}")
        probe_arms(config, jobs=2)
        (folder,) = (config.output.results / "runs").iterdir()
        run = load_run(folder)
        assert run.cost.cpu_s > 0
        assert run.cost.wall_s > 0
        assert run.extraction_cost.wall_s > 0
        assert run.provenance["machine"]["threads"] == 1

    @pytest.mark.parametrize("hands", [["--jobs", "2"], ["--jobs", "2", "--dask", "local"]])
    def test_a_killed_worker_costs_nothing_but_time(
        self, embedded: Path, tmp_path: Path, hands: list[str]
    ) -> None:
        with subprocess.Popen(
            [*probing(embedded, tmp_path), *hands], stderr=subprocess.PIPE, text=True
        ) as process:
            workers = wait_for_workers(process, 2)
            if "--dask" in hands:  # its cluster must be up
                wait_for_a_run(process, tmp_path)
            workers[0].kill()
            assert process.stderr is not None
            told = process.stderr.read()
        assert process.returncode == 0, told
        assert_undisturbed(tmp_path / "results", embedded)

    def test_a_worker_with_other_folds_is_refused(
        self, tiny: Callable[..., ExperimentConfig]
    ) -> None:
        from featurebench.config import dump_config

        config = tiny()
        order = Order(json.dumps(dump_config(config, config.base)), str(config.base), (), "0" * 16)
        with pytest.raises(ResultsError, match="give all workers the same files"):
            run_ordered(order, Task(arm_of(config, "dummy"), (0,)))

    def test_a_cluster_has_its_own_number_of_workers(self, embedded: Path) -> None:
        with pytest.raises(ConfigError, match="--jobs 3 says nothing to the cluster tcp://h:1"):
            Hands(3, "tcp://h:1")
        result = CliRunner().invoke(
            main, ["probe", str(embedded / "tiny.yaml"), "--dask", "tcp://h:1", "--jobs", "3"]
        )
        assert result.exit_code == 2


class TestFaults:
    @pytest.mark.parametrize("jobs", [1, 2])
    def test_an_arm_that_fails_is_recorded_and_the_others_go_on(
        self, tiny: Callable[..., ExperimentConfig], jobs: int
    ) -> None:
        config, watcher = tiny("heads.knn_l2.k=0", "heads.lightgbm.num_leaves=1"), Watcher()
        probe_arms(config, watcher.console(), jobs=jobs)
        failed = sorted(watcher.of("failed"))
        assert [line.partition(":")[0] for line in failed] == [
            "handcrafted.v1+knn_l2",
            "handcrafted.v1+lightgbm",
        ]
        assert "num_leaves" in failed[1]
        assert len(predictions(config.output.results)) == 3
        assert len(list((config.output.results / "runs").glob("*/failure.json"))) == 2
        assert watcher.done == watcher.bars[0][1] == 30

    def test_an_arm_that_ends_its_workers_is_recorded(
        self, tiny: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deal(function: Any, items: Iterable[Task], *, progress: Any, **_: object) -> None:
            for task in items:
                if task.arm.entry != "knn_l2":
                    progress(function(task))
            raise WorkerError("handcrafted.v1+knn_l2, folds 0-5 ended the worker; use fewer")

        monkeypatch.setattr("featurebench.scaling.deal_locally", deal)
        config, watcher = tiny(), Watcher()
        probe_arms(config, watcher.console(), jobs=2)
        (line,) = watcher.of("failed")
        assert line.startswith("handcrafted.v1+knn_l2: ")
        assert "ended the worker" in line
        assert len(predictions(config.output.results)) == 4

    def test_workers_that_all_die_stop_the_probes(
        self, tiny: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def deal(function: Any, items: Iterable[Task], **_: object) -> None:
            next(iter(items))
            raise WorkerError("stopped")

        monkeypatch.setattr("featurebench.scaling.deal_locally", deal)
        with pytest.raises(WorkerError, match="stopped"):
            probe_arms(tiny(), jobs=2)

    @pytest.mark.parametrize(
        ("sent", "hands"), [(signal.SIGINT, []), (signal.SIGKILL, ["--jobs", "2"])]
    )
    def test_stopped_between_arms_it_goes_on_to_the_same_results(
        self, embedded: Path, tmp_path: Path, sent: signal.Signals, hands: list[str]
    ) -> None:
        command = [*probing(embedded, tmp_path), *hands]
        runs = tmp_path / "results/runs"
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for_a_run(process, tmp_path)
            process.send_signal(sent)
            assert process.stderr is not None
            told = process.stderr.read()
        kept = {file: file.stat().st_mtime_ns for file in runs.glob("*/run.json")}
        assert kept
        if process.returncode:
            assert process.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
        assert "Traceback" not in told
        subprocess.run(command, check=True, capture_output=True)
        assert {file: file.stat().st_mtime_ns for file in kept} == kept
        assert_undisturbed(tmp_path / "results", embedded)


class TestTasks:
    def test_heads_that_share_work_are_not_cut(self, tiny: Callable[..., ExperimentConfig]) -> None:
        config = tiny()
        study, arms = declared(config)
        tasks = plan_tasks(config, arms, study)
        folds: dict[str, list[int]] = {}
        for task in tasks:
            folds.setdefault(task.arm.entry or "", []).append(len(task.folds))
        assert folds == {
            "logistic": [6],
            "knn_l2": [6],
            "lda_views": [6],
            "lightgbm": [1] * 6,
            "dummy": [1] * 6,
        }
        assert str(tasks[0]) == "handcrafted.v1+logistic, folds 0-5"
        assert str(tasks[-1]) == "dummy, fold 5"

    def test_searched_heads_are_cut(self, tiny: Callable[..., ExperimentConfig]) -> None:
        config = tiny("search={trials: 2}", "heads.logistic.search=false")
        study, arms = declared(config)
        n_tasks = {arm.entry: len(plan_tasks(config, [arm], study)) for arm in arms}
        assert n_tasks["logistic"] == 1
        assert n_tasks["knn_l2"] == 6

    def test_a_searched_arm_says_what_it_chose(self, tiny: Callable[..., ExperimentConfig]) -> None:
        space = "heads.knn_l2.search={space: {k: [1, 5, 9]}}"
        config = tiny("search={method: grid, trials: null}", "heads.lightgbm.search=false", space)
        probe_arms(config, head="knn_l2")
        (folder,) = (config.output.results / "runs").iterdir()
        run = load_run(folder)
        assert run.params["search"]["method"] == "grid"
        assert run.params["search"]["trials"] is None
        assert run.params["search"]["space"] == {"k": {"values": [1, 5, 9]}}
        assert all(fold["params"]["k"] in {1, 3, 5, 9} for fold in run.details["folds"])
        n_trials = sum(fold["trials"] for fold in run.details["folds"])
        # The same grid is searched again on each inner fold, to choose between the probes.
        n_inner = sum(entry["folds"] for entry in run.details["inner"])
        assert run.cost.trials == n_trials + n_inner * n_trials // 6 >= 2 * 6 * 3

    def test_views_are_trained_on_and_averaged(
        self, tiny: Callable[..., ExperimentConfig], embedded: Path
    ) -> None:
        config = tiny()
        study, _ = declared(config)
        store = FeatureStore.open(config.store)
        clean, flipped = sorted(store.embeddings(), key=lambda spec: spec.view != "clean")
        expected = cross_validate(
            make_head("lda"),
            store.load(clean),
            study.tiles.labels,
            study.plan,
            classes=study.tiles.classes,
            groups=study.groups,
            views=Views([store.load(flipped)]),
        )
        (folder,) = (embedded / "results/tiny/runs").glob("*lda_views*")
        run = load_run(folder)
        np.testing.assert_allclose(run.y_prob, expected.y_prob, atol=1e-6)
        assert run.params["views"] == {
            "train": True,
            "average": True,
            "fingerprints": {"flip": flipped.fingerprint},
        }
        index = json.loads((embedded / "results/tiny/arms.json").read_text())
        assert [entry["name"] for entry in index["embeddings"]] == [clean.name, flipped.name]
        plain = load_run(next((embedded / "results/tiny/runs").glob("*logistic*")))
        assert run.extraction_cost.wall_s > plain.extraction_cost.wall_s
        assert set(run.embedding_costs) == {clean.name, flipped.name}
        assert sum(run.embedding_costs.values(), Cost()) == run.extraction_cost
        assert run.embedding_costs[clean.name] == plain.extraction_cost
        assert plain.extraction_cost.bytes_written == store.stored_bytes(clean)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts bytes")
    def test_rows_that_are_mapped_count_as_read(
        self, tiny: Callable[..., ExperimentConfig], embedded: Path
    ) -> None:
        (clean,) = (s for s in FeatureStore.open(tiny().store).embeddings() if s.view == "clean")
        run = load_run(next((embedded / "results/tiny/runs").glob("*logistic*")))
        n_bytes = run.y_prob.shape[1] * clean.dim * np.dtype(clean.dtype).itemsize
        assert run.cost.bytes_read is not None
        assert run.cost.bytes_read >= n_bytes
        assert run.cost.trials == 0

    def test_class_weights_go_by_name(self, tiny: Callable[..., ExperimentConfig]) -> None:
        config = tiny()
        study, arms = declared(config)
        arm = next(arm for arm in arms if arm.entry == "lightgbm")
        assert arm.params["class_weight"] == {"benign": 1.0, "malignant": 2}
        probe_arms(config, head="lightgbm")
        store = FeatureStore.open(config.store)
        assert arm.spec is not None
        expected = cross_validate(
            make_head("lightgbm", n_estimators=10, class_weight={0: 1, 1: 2}),
            store.load(arm.spec),
            study.tiles.labels,
            study.plan,
            classes=study.tiles.classes,
            groups=study.groups,
        )
        (y_prob,) = predictions(config.output.results).values()
        np.testing.assert_allclose(y_prob, expected.y_prob, atol=1e-6)
        with pytest.raises(ConfigError, match=r"heads\.lightgbm: .*'malig': did you mean"):
            probe_arms(tiny("heads.lightgbm.class_weight={malig: 2}"))


class TestIdentity:
    @pytest.mark.parametrize(
        ("entry", "override"),
        [
            ("logistic", "heads.logistic.Cs=[0.001, 0.2]"),
            ("logistic", "heads.logistic.features=[l2, standardise]"),
            ("logistic", "heads.logistic.class_weight=balanced"),
            ("logistic", "heads.logistic.class_weight={benign: 3}"),
            ("logistic", "heads.logistic.views={train: false}"),
            ("logistic", "heads.logistic.rule=one_se"),
            ("lda_views", "heads.lda_views.views={average: false}"),
            ("knn_l2", "heads.knn_l2.features={pca: 4}"),
            ("knn_l2", "heads.knn_l2.search={space: {k: [1, 2]}}"),
            ("lightgbm", "heads.lightgbm.class_weight={malignant: 3}"),
        ],
    )
    def test_what_changes_numbers_is_another_run(
        self, tiny: Callable[..., ExperimentConfig], entry: str, override: str
    ) -> None:
        changed = [override] + (["search={trials: 2}"] if ".search" in override else [])
        assert arm_of(tiny(), entry).run_id != arm_of(tiny(*changed), entry).run_id

    @pytest.mark.parametrize(
        "override", ["search={trials: 3}", "search={method: random}", "search={seconds: 5}"]
    )
    def test_the_budget_of_a_search_is_part_of_it(
        self, tiny: Callable[..., ExperimentConfig], override: str
    ) -> None:
        arms = [arm_of(tiny(search), "lightgbm") for search in ("search={}", override)]
        assert arms[0].run_id != arms[1].run_id
        assert "search" not in arm_of(tiny(override), "dummy").params

    @pytest.mark.parametrize(
        "override",
        ["compute.device=cuda", "compute.threads=1", "heads.knn_l2.features=[l2]"],
    )
    def test_how_the_work_is_done_is_not(
        self, tiny: Callable[..., ExperimentConfig], override: str
    ) -> None:
        before = [arm.run_id for arm in declared(tiny())[1]]
        assert [arm.run_id for arm in declared(tiny(override))[1]] == before

    def test_what_an_entry_sets_is_not_searched_by_default(
        self, tiny: Callable[..., ExperimentConfig]
    ) -> None:
        arms = {arm.entry: arm for arm in declared(tiny("search={}"))[1]}
        assert set(arms["knn_l2"].params["search"]["space"]) == {"metric", "weights"}
        assert set(arms["logistic"].params["search"]["space"]) == {"features"}

    def test_views_stand_only_for_embeddings_that_have_some(
        self, tiny: Callable[..., ExperimentConfig]
    ) -> None:
        config = tiny()
        tiles = load_tiles(config, Console())
        study = make_study(config, tiles, [])
        specs = [spec for spec in stored_specs(config, tiles) if spec.view == "clean"]
        assert [arm.entry for arm in declare_probes(config, specs, study)] == [
            "logistic",
            "knn_l2",
            "lightgbm",
            "dummy",
        ]


class TestSettings:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["heads.svm={}"], "heads.svm: unknown head 'svm': "),
            (["heads.mine={head: logistc}"], "heads.mine: unknown head 'logistc': did you mean"),
            (["heads.ridge={head: knn}"], "heads.ridge: the name is another head's than 'knn'"),
            (["heads.knn_l2.kk=3"], "heads.knn_l2: head 'knn' has no parameter 'kk'"),
            (["heads.knn_l2.features=[l3]"], "heads.knn_l2: features: unknown step 'l3'"),
            (["heads.dummy.views={}"], "heads.dummy: dummy looks at no embedding"),
            (["search={}", "heads.c={head: centroid, search: {}}"], "heads.c: nothing of centroid"),
            (["search={method: grid}"], "heads.lightgbm: search: "),
            (
                ["search={}", "heads.knn_l2.search={space: {kk: [1]}}"],
                "heads.knn_l2: search: KnnProbe has no 'kk'",
            ),
            (["search={}", "heads.knn_l2.search={space: {k: 3}}"], "heads.knn_l2: search: k: 3 is"),
            (["search={trials: null}"], "search: tpe ends by trials or by seconds"),
        ],
    )
    def test_a_mistake_is_found_before_any_work(
        self, tiny: Callable[..., ExperimentConfig], overrides: list[str], message: str
    ) -> None:
        config, watcher = tiny(*overrides), Watcher()
        with pytest.raises(ConfigError) as caught:
            probe_arms(config, watcher.console())
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not watcher.lines

    def test_two_arms_of_one_name_are_refused(self, tiny: Callable[..., ExperimentConfig]) -> None:
        tuned = "{model: x, weights: random, name: dummy, epochs: 1, image_size: 32}"
        config = tiny(f"finetune=[{tuned.replace('model: x', 'model: resnet18')}]")
        with pytest.raises(ConfigError, match="2 arms are called 'dummy'"):
            probe_arms(config)

    def test_one_entry_can_be_chosen(self, tiny: Callable[..., ExperimentConfig]) -> None:
        config = tiny()
        probe_arms(config, head="knn_l2")
        (name,) = predictions(config.output.results)
        assert name.startswith("handcrafted.v1+knn_l2__")

    def test_many_cached_arms_are_told_in_one_line(
        self, tiny: Callable[..., ExperimentConfig], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config, watcher = tiny(), Watcher()
        probe_arms(config)
        monkeypatch.setattr("featurebench.experiment.arms._LISTED", 4)
        probe_arms(config, watcher.console())
        assert watcher.of("arm") == ["5 arms: cached"]
        assert not watcher.bars

    def test_notes_tell_what_runs_and_what_is_left(
        self, tiny: Callable[..., ExperimentConfig]
    ) -> None:
        watcher = Watcher()
        probe_arms(tiny(), watcher.console())
        assert watcher.notes[0] == "5 arms left: handcrafted.v1+logistic"
        assert watcher.notes[-1] == "dummy"

    def test_without_a_driver_nobody_asks_torch_for_a_gpu(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse() -> bool:
            raise AssertionError

        monkeypatch.setattr("torch.cuda.is_available", refuse)
        monkeypatch.setattr("featurebench.experiment.networks._has_driver", lambda: False)
        assert resolve_device("auto") == "cpu"
        assert resolve_device("cuda:1") == "cuda:1"


def probing(embedded: Path, tmp_path: Path) -> list[str]:
    file, results = str(embedded / "tiny.yaml"), f"output.results={tmp_path / 'results'}"
    return [sys.executable, "-m", "featurebench.cli", "probe", file, "--set", results]


def wait_for_a_run(process: subprocess.Popen[str], folder: Path) -> None:
    while process.poll() is None and not list(folder.glob("results/runs/*/run.json")):
        time.sleep(0.005)


def wait_for_workers(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """The processes that tasks are dealt to, as soon as they are there."""
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = [c for c in psutil.Process(process.pid).children() if is_worker(c)]
            if len(workers) >= count:
                return workers
        time.sleep(0.01)
    raise AssertionError("it ended without workers")


def is_worker(process: psutil.Process) -> bool:
    words = " ".join(process.cmdline())
    return "pool_worker" in words or "spawn_main" in words
