"""What each arm was given to learn with, and where the arms of a contrast were not given alike."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from featurebench.comparison import wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.comparison.model import ArmSummary, Comparison, Contrast
    from featurebench.results import RunResult

# As the name of an embedding has them, with which the network of a fine-tune is compared.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Training:
    """What an arm was given to learn with; None, 0 or empty where that was not recorded.

    Parameters
    ----------
    network
        Architecture that a probe reads or that was fine-tuned, without the tag of its weights.
    image_size
        Side of the network's input, in pixels.
    epochs
        Most epochs of a fine-tune.
    n_watched, n_cut
        Folds that were trained beside validation tiles, and those of them whose best epoch was
        the last one allowed.
    slowest
        Largest over median of the folds' seconds per tile and epoch; NaN where not recorded.
    """

    network: str = ""
    image_size: int | None = None
    epochs: int | None = None
    n_watched: int = 0
    n_cut: int = 0
    slowest: float = math.nan

    @classmethod
    def of(cls, run: RunResult) -> Training:
        """Read it from what a run recorded of itself."""
        if run.kind != "finetune":
            network = (run.embedding or "").partition("@")[0]
            return cls(_architecture(network), run.provenance.get("image_size"))
        folds = run.details.get("folds", ())
        watched = [fold for fold in folds if fold.get("n_validation") and "best_epoch" in fold]
        return cls(
            network=_architecture(run.params.get("model", "")),
            image_size=run.params.get("image_size"),
            epochs=run.params.get("epochs"),
            n_watched=len(watched),
            n_cut=sum(fold["best_epoch"] == fold["epochs"] for fold in watched),
            slowest=_slowest(folds),
        )


def trainings(comparison: Comparison, arm: ArmSummary) -> list[Training]:
    """List what an arm was trained with: of one that was put together, all that it is made of."""
    made_of = [comparison.arm(name) for name in arm.chosen] or [arm]
    return [each.training for each in made_of]


def is_cut(found: Sequence[Training]) -> bool:
    """Whether the best epoch was the last one allowed in more than half of the folds."""
    return 2 * sum(each.n_cut for each in found) > sum(each.n_watched for each in found)


def describe(found: Sequence[Training]) -> dict[str, str]:
    """Write what is recorded of input size and epochs, such as ``64 px`` and ``3 to 5 epochs``."""
    sizes = sorted({each.image_size for each in found if each.image_size is not None})
    epochs = sorted({each.epochs for each in found if each.epochs is not None})
    told = {"image_size": f"{_range(sizes)} px"} if sizes else {}
    if epochs:
        told["epochs"] = f"{_range(epochs)} epoch{'s' if epochs[-1] != 1 else ''}"
    return told


def sizes_of(comparison: Comparison, contrast: Contrast) -> tuple[str, str] | None:
    """Write the input sizes of a contrast's arms; None where they are alike or not recorded."""
    pair = [
        {each.image_size for each in trainings(comparison, comparison.arm(name))}
        for name in (contrast.arm_a, contrast.arm_b)
    ]
    if pair[0] == pair[1] or any(None in sizes for sizes in pair):
        return None
    first, second = (_range(sorted(size for size in sizes if size)) for sizes in pair)
    return f"{first} px", f"{second} px"


def handicaps(comparison: Comparison, contrast: Contrast) -> list[str]:
    """Say in what a fine-tune and a frozen probe were not given alike, one clause each.

    That is recorded of their input sizes, of their networks, and of training that ended while the
    last epoch was still the best. [] where nothing of the kind is known, and for other pairs.
    """
    arms = {comparison.arm(name).kind: name for name in (contrast.arm_a, contrast.arm_b)}
    if set(arms) != {"probe", "finetune"}:
        return []
    tuned, frozen = (
        trainings(comparison, comparison.arm(arms[kind])) for kind in ("finetune", "probe")
    )
    found = []
    sizes = sizes_of(comparison, contrast)
    if sizes is not None:
        own, other = sizes if contrast.arm_a == arms["finetune"] else sizes[::-1]
        found.append(f"it was trained on tiles of {own} and the probe reads {other}")
    if is_cut(tuned):
        n_cut, n_watched = sum(each.n_cut for each in tuned), sum(each.n_watched for each in tuned)
        found.append(
            f"the last epoch that it was allowed was the best one in {n_cut} of {n_watched} folds"
        )
    networks = [{each.network for each in side} for side in (tuned, frozen)]
    if "" not in networks[0] | networks[1] and networks[0].isdisjoint(networks[1]):
        own, other = (wording.listed(sorted(each)) for each in networks)
        found.append(f"{own} was fine-tuned and the probe reads {other}")
    return found


def _architecture(name: str) -> str:
    return _UNSAFE.sub("-", name).lstrip("._").partition(".")[0]


def _slowest(folds: Sequence[Mapping[str, Any]]) -> float:
    paces = [
        fold["seconds"] / (fold["epochs"] * fold["n_train"])
        for fold in folds
        if fold.get("epochs") and fold.get("n_train") and "seconds" in fold
    ]
    return max(paces) / median(paces) if paces and median(paces) > 0 else math.nan


def _range(values: Sequence[int]) -> str:
    return f"{values[0]}" if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
