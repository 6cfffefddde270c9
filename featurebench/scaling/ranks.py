"""Rank: which of several equal processes this one is, as torchrun or srun tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

# SLURM numbers what is no step of tasks (batch script, interactive shell, ...) down from 2^32.
_FIRST_SPECIAL_STEP = 2**32 - 16


@dataclass(frozen=True)
class Rank:
    """One of several processes that were started together.

    Parameters
    ----------
    index
        This process among all, from 0.
    count
        Number of processes on all nodes.
    local_index
        This process among those of its node, from 0; chooses the GPU.
    """

    index: int
    count: int
    local_index: int


def rank_from_environment(environ: Mapping[str, str]) -> Rank | None:
    """Find out whether a launcher started this process as one of several.

    Parameters
    ----------
    environ
        Environment variables, usually ``os.environ``.

    Returns
    -------
    Rank or None
        From ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` (torchrun, `run_ranks`) where any of the
        first two is set. Else from ``SLURM_PROCID``, ``SLURM_STEP_NUM_TASKS`` and
        ``SLURM_LOCALID`` inside a step of srun. Else None.

    Raises
    ------
    ConfigError
        If variables are missing or contradict each other; the message names them.

    Notes
    -----
    A batch script, too, has ``SLURM_PROCID=0``, ``SLURM_LOCALID=0`` and ``SLURM_NTASKS``, however
    many tasks it asked for, although it runs once. Only srun sets ``SLURM_STEP_NUM_TASKS``, and
    ``SLURM_STEP_ID`` to the small number of a step, so those two decide.

    Examples
    --------
    >>> rank_from_environment({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    Rank(index=5, count=8, local_index=1)
    >>> rank_from_environment({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) is None
    True
    """
    if "RANK" in environ or "WORLD_SIZE" in environ:
        return _read(environ, "RANK", "WORLD_SIZE", "LOCAL_RANK")
    if _in_a_step(environ):
        return _read(environ, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    return None


def _in_a_step(environ: Mapping[str, str]) -> bool:
    if not {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"} <= environ.keys():
        return False
    return _number(environ, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS") < _FIRST_SPECIAL_STEP


def _read(environ: Mapping[str, str], index: str, count: str, local_index: str) -> Rank:
    rank = Rank(
        index=_number(environ, index, count),
        count=_number(environ, count, index),
        local_index=_number(environ, local_index, index),
    )
    if rank.count < 1:
        raise ConfigError(f"{count}={rank.count} is not positive; unset {index} and {count}")
    for name, value in ((index, rank.index), (local_index, rank.local_index)):
        if value >= rank.count:
            raise ConfigError(
                f"{name}={value} contradicts {count}={rank.count}: ranks count from 0; "
                "correct them, or unset them where no launcher is used"
            )
    return rank


def _number(environ: Mapping[str, str], name: str, partner: str) -> int:
    text = environ.get(name)
    if text is None:
        raise ConfigError(
            f"{partner}={environ.get(partner)} is set but {name} is not; set {name} as torchrun "
            f"and srun do, or unset {partner}"
        )
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name}={text!r} is not a whole number from 0; correct or unset it")
    return int(text)
