"""Ranks: what torchrun and srun say, and what a batch script only seems to say."""

from __future__ import annotations

import pytest

from featurebench.errors import ConfigError
from featurebench.scaling import Rank, rank_from_environment

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
# What a batch script of --ntasks=8 finds: it runs once, and only looks like task 0 of 8.
BATCH = {
    "SLURM_JOB_ID": "200505",
    "SLURM_NTASKS": "8",
    "SLURM_NPROCS": "8",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
SRUN = BATCH | {
    "SLURM_PROCID": "6",
    "SLURM_LOCALID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
}


def test_a_process_of_its_own_has_no_rank() -> None:
    assert rank_from_environment({"PATH": "/bin", "LOCAL_RANK": "0"}) is None


def test_torchrun() -> None:
    assert rank_from_environment(TORCHRUN) == Rank(index=5, count=8, local_index=1)


def test_a_step_of_srun() -> None:
    assert rank_from_environment(SRUN) == Rank(index=6, count=8, local_index=2)


def test_a_batch_script_is_not_one_of_many() -> None:
    assert rank_from_environment(BATCH) is None


@pytest.mark.parametrize("step", [2**32 - 6, 2**32 - 5, 2**32 - 4])
def test_an_interactive_shell_is_not_one_of_many(step: int) -> None:
    assert rank_from_environment(SRUN | {"SLURM_STEP_ID": str(step)}) is None


def test_a_step_counts_its_own_tasks_not_those_of_the_job() -> None:
    assert rank_from_environment(
        SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    ) == Rank(index=1, count=2, local_index=0)


def test_torchrun_inside_srun_counts() -> None:
    assert rank_from_environment(SRUN | TORCHRUN) == Rank(index=5, count=8, local_index=1)


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"RANK": "0"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "8"}, "RANK"),
        ({"RANK": "0", "WORLD_SIZE": "8"}, "LOCAL_RANK"),
        (TORCHRUN | {"RANK": "8"}, "RANK=8"),
        (TORCHRUN | {"LOCAL_RANK": "9"}, "LOCAL_RANK=9"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        (TORCHRUN | {"RANK": "-1"}, "RANK='-1'"),
        (TORCHRUN | {"WORLD_SIZE": ""}, "WORLD_SIZE=''"),
        (TORCHRUN | {"RANK": "%q{PMIX_RANK}"}, "RANK='%q"),
        (TORCHRUN | {"RANK": "²"}, "RANK='²'"),
        (SRUN | {"SLURM_PROCID": "8"}, "SLURM_PROCID=8"),
        (SRUN | {"SLURM_STEP_ID": "batch"}, "SLURM_STEP_ID='batch'"),
        ({k: v for k, v in SRUN.items() if k != "SLURM_LOCALID"}, "SLURM_LOCALID"),
    ],
)
def test_nonsense_is_refused_by_name(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as error:
        rank_from_environment(environ)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
