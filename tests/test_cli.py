"""The command line as its user meets it: messages, exit status, and what may be interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from featurebench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SMALL_CONFIG = "small.yaml"


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "featurebench.cli", *map(str, arguments)]


def test_help_lists_the_verbs_in_the_order_of_the_work() -> None:
    status, out, _ = invoke("--help")
    assert status == 0
    verbs = ["init", "run", "doctor", "extract", "probe", "finetune", "compare", "report", "store"]
    positions = [out.index(f"\n  {verb} ") for verb in verbs]
    assert positions == sorted(positions)


@pytest.mark.parametrize("code", ["import featurebench", "import featurebench.cli"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    heavy = "{'torch', 'timm', 'sklearn', 'pandas', 'zarr', 'numpy', 'xgboost', 'lightgbm'}"
    check = f"{code}; import sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_all_there() -> None:
    import featurebench

    assert set(featurebench.__all__) <= set(dir(featurebench))
    for name in featurebench.__all__:
        assert getattr(featurebench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        featurebench.__getattr__("nothing")


def test_mistake_in_the_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("data: {manifest: tiles.csv}\nhead: {knn: }\n")
    status, out, err = invoke("run", file)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "unknown key 'head': did you mean 'heads'?" in err
    assert "Traceback" not in err


def test_absent_file_says_how_to_write_one(tmp_path: Path) -> None:
    status, _, err = invoke("run", tmp_path / "absent.yaml")
    assert status == 2
    assert "featurebench init" in err


def test_init_then_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from featurebench.finetuning import pace
    from featurebench.tiles import write_cohort

    monkeypatch.setattr(pace, "measure_pace", lambda *_, **__: pace.Pace(10.0, 1.0))
    write_cohort(tmp_path / "mine", patients=6, tiles_per_patient=2, size=32)
    monkeypatch.chdir(tmp_path)
    status, out, told = invoke("init", "mine")
    assert status == 0
    assert "12 tiles, 6 patients" in out
    assert "featurebench run experiment.yaml" in out
    assert "in all at most" in told
    status, _, err = invoke("run", "experiment.yaml", "--dry-run")
    assert status == 0
    assert "would embed 12 of 12 tiles" in err
    assert err.count("would run") == 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["experiment.yaml", "mine"]
    status, _, err = invoke("init", "mine")
    assert status == 2
    assert "exists" in err


def test_finished_experiment_is_shown_without_doing_anything(finished: Path) -> None:
    config = finished / SMALL_CONFIG
    status, out, err = invoke("run", config)
    assert status == 0
    assert err.count("cached") == 7
    report: dict[str, Any] = json.loads((finished / "reports/small/report.json").read_text())
    assert report["verdict"] in " ".join(out.split())
    assert out.strip().endswith("reports/small/report.html")

    status, out, _ = invoke("compare", config)
    assert status == 0
    for arm in report["arms"]:
        assert f"\n{arm['id']} " in out
        assert f" {arm['metrics']['balanced_accuracy']['value']:.3f} " in out

    status, out, _ = invoke("compare", config, "--json")
    assert json.loads(out)["comparisons"] == report["comparisons"]

    status, out, _ = invoke("report", config, "--check")
    assert (status, out.strip()) == (0, "the report is up to date")
    status, _, err = invoke("report", config, "--check", "--set", "compare.alpha=0.1")
    assert status == 2
    assert "stale" in err


def test_store_info_and_verify(copied: Path) -> None:
    store = copied / "stores/small.store"
    status, out, _ = invoke("store", "info", store)
    assert status == 0
    assert "48/48 tiles x 1280" in out
    status, out, _ = invoke("store", "info", store, "--json")
    (row,) = json.loads(out)["embeddings"]
    assert (row["n_tiles"], row["n_done"], row["n_refused"]) == (48, 48, 0)
    status, out, _ = invoke("store", "verify", store)
    assert status == 0
    assert "every committed block is as it was written" in out
    (shard,) = [p for p in store.glob("embeddings.zarr/obsm/*/c/*/*") if p.is_file()]
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    status, out, err = invoke("store", "verify", store)
    assert status == 2
    assert "rows 0 to 47" in out
    assert "store verify --repair" in err
    status, out, _ = invoke("store", "verify", store, "--repair")
    assert status == 0
    assert "1 blocks are pending again" in out
    assert "0/48 tiles" in invoke("store", "info", store)[1]
    invoke("extract", copied / SMALL_CONFIG)
    assert "48/48 tiles" in invoke("store", "info", store)[1]
    assert invoke("store", "verify", store, "--config", copied / SMALL_CONFIG)[0] == 0
    status, _, err = invoke("store", "info", copied / "absent.store")
    assert status == 2
    assert "absent.store" in err


def test_patients_are_in_no_line(finished: Path) -> None:
    _, out, err = invoke("run", finished / SMALL_CONFIG)
    table = (finished / "stores/small.tiles/tiles.csv").read_text().splitlines()
    header = table[0].split(",")
    patients = {line.split(",")[header.index("patient_id")] for line in table[1:]}
    assert not any(patient in out + err for patient in patients)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_says_how_to_go_on(
    finished: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    (tmp_path / SMALL_CONFIG).write_text((finished / SMALL_CONFIG).read_text())
    with subprocess.Popen(
        command("run", tmp_path / SMALL_CONFIG), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(sent)
        rest = process.stderr.read()
    assert process.returncode == status
    assert "goes on from there" in rest
    assert "Traceback" not in rest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_it_ends_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    """SIGKILL after random seconds, again and again, until a run comes through."""
    import numpy as np

    (tmp_path / SMALL_CONFIG).write_text((finished / SMALL_CONFIG).read_text())
    rng = np.random.default_rng(0)
    n_killed = 0
    for attempt in range(60):
        with subprocess.Popen(
            command("run", tmp_path / SMALL_CONFIG),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                # Ever longer lives, since every start alone costs seconds.
                process.communicate(timeout=rng.uniform(2, 7 + attempt / 2))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                n_killed += 1
    assert process.returncode == 0
    assert n_killed >= 3
    disturbed, calm = (
        json.loads((folder / "reports/small/report.json").read_text())
        for folder in (tmp_path, finished)
    )
    for key in ("metrics", "patient_metrics", "confusion", "fold_scores"):
        assert [arm[key] for arm in disturbed["arms"]] == [arm[key] for arm in calm["arms"]]
    for row, expected in zip(disturbed["comparisons"], calm["comparisons"], strict=True):
        assert {**row, "cost_ratio": 0} == {**expected, "cost_ratio": 0}
