"""What an experiment remembers beside its runs: index, known networks, where numbers came from."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from featurebench.config import load_config
from featurebench.errors import ConfigError, ExtractionError, ResultsError
from featurebench.experiment import Console, provenance
from featurebench.experiment.arms import Arm
from featurebench.experiment.index import Index, digest_files, read_index, write_index
from featurebench.experiment.recognition import Recognition
from featurebench.experiment.study import BadTile, Study, find_bad_tiles, make_study
from featurebench.splits import SplitPlan
from featurebench.tiles import TileManifest, write_cohort

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = {"model": "resnet18", "weights": "package", "model_args": {}}


@dataclass
class Known:
    """A cohort with its manifest and its experiment file."""

    tiles: TileManifest
    file: Path


@pytest.fixture
def known(tmp_path: Path) -> Known:
    tiles = write_cohort(tmp_path / "tiles", patients=8, tiles_per_patient=2, size=32)
    file = tmp_path / "study.yaml"
    file.write_text(
        "data: {manifest: tiles/tiles.csv}\nbackbones: [{model: x}]\nheads: {knn: }\n"
        "splits: {folds: 2, repeats: 1}\n"
    )
    return Known(tiles, file)


def make_arm(name: str, spec: Any = None) -> Arm:
    return Arm(name, "probe", {"head": "knn"}, "f" * 64, f"{abs(hash(name)):016x}"[:16], spec=spec)


def make_a_study(known: Known, bad: tuple[BadTile, ...] = (), *overrides: str) -> Study:
    return make_study(load_config(known.file, overrides), known.tiles, bad)


class TestIndex:
    def test_arms_come_back_in_the_order_declared(self, known: Known, tmp_path: Path) -> None:
        study = make_a_study(known)
        results = tmp_path / "results"
        results.mkdir()
        names = ["net+knn", "net+logistic", "dummy", "net+full"]
        write_index(results, study, [make_arm(name) for name in names])
        index = read_index(results)
        assert [entry["arm"] for entry in index.arms] == names
        assert index.plan_id == study.plan.id
        saved = SplitPlan.load(results / "splits.csv")
        np.testing.assert_array_equal(saved.test_fold, study.plan.test_fold)

    def test_another_plan_replaces_the_index(self, known: Known, tmp_path: Path) -> None:
        results = tmp_path / "results"
        results.mkdir()
        write_index(results, make_a_study(known), [make_arm("net+full")])
        other = make_a_study(known, (), "splits.seed=1")
        write_index(results, other, [make_arm("net+knn")])
        index = read_index(results)
        assert [entry["arm"] for entry in index.arms] == ["net+knn"]
        assert index.plan_id == other.plan.id

    def test_embeddings_are_listed_once_with_their_weights(
        self, known: Known, tmp_path: Path
    ) -> None:
        spec = SimpleNamespace(
            name="net.package@0", fingerprint="f", weights_sha256="w", preprocessing={"mean": [0.5]}
        )
        results = tmp_path / "results"
        results.mkdir()
        arms = [make_arm("net+knn", spec), make_arm("net+logistic", spec), make_arm("dummy")]
        index = write_index(results, make_a_study(known), arms)
        assert [dict(entry) for entry in index.embeddings] == [
            {
                "name": "net.package@0",
                "fingerprint": "f",
                "weights_sha256": "w",
                "preprocessing": {"mean": [0.5]},
            }
        ]

    def test_bad_tiles_come_back(self, known: Known, tmp_path: Path) -> None:
        bad = (BadTile(3, str(known.tiles.table["tile_id"][3]), "it is empty"),)
        results = tmp_path / "results"
        results.mkdir()
        write_index(results, make_a_study(known, bad), [])
        assert read_index(results).bad_tiles == bad

    def test_absent_and_damaged_are_told_apart(self, tmp_path: Path) -> None:
        with pytest.raises(ResultsError, match="start with 'featurebench run'"):
            read_index(tmp_path)
        (tmp_path / "arms.json").write_text('{"plan_id": "x"')
        with pytest.raises(ResultsError, match=r"arms\.json is damaged"):
            read_index(tmp_path)
        (tmp_path / "arms.json").write_text('{"plan_id": "x", "bad_tiles": [], "more": 1}')
        with pytest.raises(ResultsError, match="delete it and run again"):
            read_index(tmp_path)

    def test_empty_index_has_no_arms(self) -> None:
        assert list(Index("x", ()).arms) == []

    def test_digest_sees_every_byte_and_absence(self, tmp_path: Path) -> None:
        files = [tmp_path / "a", tmp_path / "b"]
        absent = digest_files(files)
        files[0].write_bytes(b"one")
        one = digest_files(files)
        files[0].write_bytes(b"onf")
        assert len({absent, one, digest_files(files), digest_files(files, "more")}) == 4


class TestStudy:
    def test_bad_tiles_leave_all_arrays_in_step(self, known: Known) -> None:
        ids = known.tiles.table["tile_id"]
        bad = (BadTile(5, str(ids[5]), "torn"), BadTile(2, str(ids[2]), "empty"))
        study = make_a_study(known, bad)
        assert [tile.row for tile in study.bad_tiles] == [2, 5]
        assert len(study.tiles) == len(study.rows) == study.plan.n_tiles == 14
        assert study.tiles.table["tile_id"].tolist() == ids[study.rows].tolist()
        assert study.plan.tile_ids.tolist() == ids[study.rows].tolist()

    def test_patients_are_grouped_unless_there_are_none(self, known: Known) -> None:
        study = make_a_study(known)
        assert study.plan.group == "patient_id"
        assert study.patients is not None
        assert study.patients.max() == 7
        anonymous = TileManifest(
            known.tiles.table.drop(columns="patient_id"), known.tiles.root, known.tiles.classes
        )
        study = make_study(load_config(known.file), anonymous, [])
        assert (study.plan.group, study.groups, study.patients) == (None, None, None)

    def test_site_can_group_instead(self, known: Known) -> None:
        study = make_a_study(known, (), "splits.group=site")
        assert study.plan.group == "site"
        for train, test in study.plan:
            sites = study.tiles.table["site"]
            assert not set(sites[train]) & set(sites[test])

    def test_impossible_folds_name_the_section(self, known: Known) -> None:
        with pytest.raises(ValueError, match=r"^splits: .*4 patients"):
            make_a_study(known, (), "splits.folds=5")

    def test_every_tile_is_looked_at_where_nothing_was_embedded(self, known: Known) -> None:
        known.tiles.path_of(4).write_bytes(b"")
        (bad,) = find_bad_tiles(known.tiles, 0.1, Console())
        assert (bad.row, bad.tile_id) == (4, known.tiles.table["tile_id"][4])
        assert bad.reason
        with pytest.raises(ExtractionError, match=r"1 of 16 tiles .* raise data\.max_bad_tiles"):
            find_bad_tiles(known.tiles, 0.01, Console())

    def test_unknown_group_lists_the_columns(self, known: Known) -> None:
        with pytest.raises(ConfigError, match="patient_id"):
            make_a_study(known, (), "splits.group=ward")


class TestRecognition:
    def test_recalls_what_it_was_told(self, tmp_path: Path) -> None:
        recognition = Recognition(tmp_path / "results")
        assert recognition.recall(REQUEST) is None
        recognition.remember(REQUEST, {"dim": 512})
        recognition.remember({**REQUEST, "model": "other"}, {"dim": 3})
        assert Recognition(tmp_path / "results").recall(REQUEST) == {"dim": 512}

    @pytest.mark.parametrize(
        "change", [{"model": "resnet34"}, {"weights": "random"}, {"model_args": {"a": 1}}]
    )
    def test_another_request_is_unknown(self, tmp_path: Path, change: dict[str, Any]) -> None:
        recognition = Recognition(tmp_path)
        recognition.remember(REQUEST, {"dim": 512})
        assert recognition.recall(REQUEST | change) is None

    def test_a_changed_weight_file_is_unknown(self, tmp_path: Path) -> None:
        file = tmp_path / "weights.pth"
        file.write_bytes(b"old")
        request = {**REQUEST, "weights": str(file)}
        recognition = Recognition(tmp_path)
        recognition.remember(request, {"dim": 512})
        assert recognition.recall(request) is not None
        state = file.stat()
        file.write_bytes(b"new")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
        assert recognition.recall(request) is None
        file.unlink()
        assert recognition.recall(request) is None

    def test_other_libraries_forget(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        recognition = Recognition(tmp_path)
        recognition.remember(REQUEST, {"dim": 512})
        monkeypatch.setattr("featurebench.experiment.recognition.__version__", "99.0")
        assert recognition.recall(REQUEST) is None

    @pytest.mark.parametrize("content", ["", "[1]", '{"x": ', "\x00"])
    def test_damaged_memory_is_no_memory(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "networks.json").write_text(content)
        recognition = Recognition(tmp_path)
        assert recognition.recall(REQUEST) is None
        recognition.remember(REQUEST, {"dim": 1})
        assert recognition.recall(REQUEST) == {"dim": 1}


class TestProvenance:
    def test_versions_are_those_installed(self) -> None:
        found = provenance.versions()
        assert found["numpy"] == np.__version__
        assert all(found.values())

    def test_absent_package_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
        assert provenance.versions()["no-such-package"] == "absent"

    def test_machine_names_kernels_and_no_host(self) -> None:
        import platform

        found = provenance.machine(3, "cpu")
        assert (found["threads"], found["device"]) == (3, "cpu")
        assert found["blas"]
        assert platform.node() not in json.dumps(found) or not platform.node()

    def test_commit_of_a_repository_and_of_none(self, tmp_path: Path) -> None:
        assert provenance.git_commit(tmp_path) is None
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
        subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
        commit = cast("str", provenance.git_commit(tmp_path))
        assert len(commit) == 12
