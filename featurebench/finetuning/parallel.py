"""Several processes: folds side by side on devices of their own, or one fold shared out."""

from __future__ import annotations

import fcntl
import os
import pickle
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.multiprocessing.spawn import ProcessException

from featurebench.errors import FeatureBenchError, WorkerError
from featurebench.finetuning.fabric import own_randomness
from featurebench.finetuning.watching import History, state_on_cpu
from featurebench.scaling import deal_locally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lightning_fabric import Fabric

    from featurebench.finetuning.folds import FoldOutcome
    from featurebench.finetuning.learner import FoldLearner
    from featurebench.splits import Split

_LEARNT = "learnt.pt"


def learn_side_by_side(
    learner: FoldLearner,
    splits: Sequence[Split],
    devices: Sequence[torch.device],
    *,
    done: Callable[[FoldOutcome], None],
) -> None:
    """Learn folds in one process per device; a fold is dealt out when a device is free.

    Parameters
    ----------
    learner
        Its own device is not used, nor its progress.
    done
        Called in this process with each outcome, in the order in which they arrive.

    Raises
    ------
    WorkerError
        If a fold ended its process each time that it was tried.
    """
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        deal_locally(
            _OnDevices(learner, tuple(splits), tuple(map(str, devices)), folder, threads),
            [_Place(i, f"fold {s.fold} of repeat {s.repeat}") for i, s in enumerate(splits)],
            processes=len(devices),
            threads_each=threads,
            progress=done,
        )


def train_in_processes(
    fabric: Fabric, learner: FoldLearner, split: Split
) -> tuple[dict[str, torch.Tensor], History]:
    """Train one fold in the processes of a fabric; return the network's state and its history.

    Raises
    ------
    FeatureBenchError
        What a process raised, as itself; a `WorkerError` if it was none, or a process died.
    """
    threads = max(1, torch.get_num_threads() // fabric.world_size)
    with tempfile.TemporaryDirectory() as folder, _own_port():
        # Fabric looks into what it is given, but not into a partial.
        share = partial(_train_share, learner=learner, split=split, threads=threads, folder=folder)
        try:
            fabric.launch(share)
        except ProcessException as failure:
            for file in sorted(Path(folder).glob("error*")):
                raise pickle.loads(file.read_bytes()) from failure
            raise WorkerError(
                f"{learner.recipe.model}: {str(failure).strip().splitlines()[-1]} in a process of "
                f"data_parallel {fabric.world_size}; use fewer processes and run it again"
            ) from failure
        found = torch.load(Path(folder) / _LEARNT, weights_only=True)
    return found["network"], History(**found["history"])


@dataclass(frozen=True)
class _Place:
    """A fold to learn, by its number in the list of splits."""

    number: int
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _OnDevices:
    """What a process does: learn folds on the device that it finds free."""

    learner: FoldLearner
    splits: tuple[Split, ...]
    devices: tuple[str, ...]
    folder: str
    threads: int

    def __call__(self, place: _Place) -> FoldOutcome:
        torch.set_num_threads(self.threads)
        device = torch.device(_claim(self.folder, self.devices))
        learner = replace(self.learner, feed=replace(self.learner.feed, device=device))
        return learner.outcome(self.splits[place.number])


@lru_cache(maxsize=1)
def _claim(folder: str, devices: tuple[str, ...]) -> str:
    """Take a device for as long as this process lives; there are as many as processes."""
    for number, device in enumerate(devices):
        descriptor = os.open(Path(folder) / str(number), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return device
    raise RuntimeError(f"none of {len(devices)} devices is free for another process")


def _train_share(
    fabric: Fabric, *, learner: FoldLearner, split: Split, threads: int, folder: str
) -> None:
    """Run in each process of a fabric: train on its share of every batch.

    What was learnt is left in the folder: a queue would hold its tensors only for as long as this
    process lives. So is an error that the user can mend, of which Fabric makes text.
    """
    torch.set_num_threads(threads)
    learner = replace(learner, feed=replace(learner.feed, device=fabric.device))
    lesson, seeds = learner.lesson(split)
    checkpoints = learner.checkpoints(split)
    try:
        with own_randomness(fabric.device):
            network, history = learner.trained(lesson, seeds, fabric, checkpoints)
    except FeatureBenchError as error:
        (Path(folder) / f"error{fabric.global_rank}").write_bytes(pickle.dumps(error))
        raise
    if fabric.is_global_zero:
        learnt = {"network": state_on_cpu(network), "history": history.to_dict()}
        torch.save(learnt, Path(folder) / _LEARNT)


@contextmanager
def _own_port() -> Iterator[None]:
    """Let Fabric choose a free port, and forget it."""
    before = os.environ.pop("MASTER_PORT", None)
    try:
        yield
    finally:
        os.environ.pop("MASTER_PORT", None)
        if before is not None:
            os.environ["MASTER_PORT"] = before
