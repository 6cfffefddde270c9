"""What shows that a network was frozen, arm by arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.results import RunResult

State = Literal["frozen", "not shown", "trained"]

HASHED_TWICE = (
    "its parameters and buffers were hashed when it was loaded and again before the embedding's "
    "blocks were committed, and the two hashes are equal"
)
IMPORTED = (
    "the embedding was imported: the hash is of its files, and nothing is known of the network"
)
DESCRIPTORS = "descriptors with fixed formulas: there are no weights; the hash is of their settings"
CLASSIFIER_ONLY = (
    "only the classifier learnt ({learning} of {all} parameters); the hash is of the network that "
    "every fold started from"
)


@dataclass(frozen=True)
class FrozenProof:
    """What is known of the network behind one arm.

    Parameters
    ----------
    arm, kind
        As of the run.
    network
        The embedding's name, or the model that fine-tuning started from.
    sha256
        Of the weights; for a fine-tune, of those that training started from.
    state
        ``frozen``, ``not shown`` or ``trained``.
    shown
        How that was shown, in words.
    """

    arm: str
    kind: str
    network: str
    sha256: str
    state: State
    shown: str


def frozen_proofs(
    runs: Sequence[RunResult], embeddings: Sequence[Mapping[str, str]]
) -> tuple[FrozenProof, ...]:
    """List every arm that has a network.

    Parameters
    ----------
    runs
        As on disk.
    embeddings
        Of the index: ``name``, ``fingerprint`` and ``weights_sha256``.
    """
    hashes = {entry["name"]: entry["weights_sha256"] for entry in embeddings}
    return tuple(
        _of_fine_tune(run) if run.kind == "finetune" else _of_probe(run, hashes)
        for run in runs
        if run.kind != "baseline"
    )


def _of_probe(run: RunResult, hashes: Mapping[str, str]) -> FrozenProof:
    name = run.embedding or ""
    state: State = "frozen"
    shown = HASHED_TWICE
    if name.startswith("handcrafted."):
        shown = DESCRIPTORS
    elif ".foreign@" in name:
        state, shown = "not shown", IMPORTED
    elif name not in hashes:
        state, shown = "not shown", "the embedding is not in the index of these results"
    return FrozenProof(run.arm, run.kind, name, hashes.get(name, ""), state, shown)


def _of_fine_tune(run: RunResult) -> FrozenProof:
    network = str(run.params.get("model", ""))
    if run.strategy != "head":
        random = run.params.get("weights") == "random"
        start = "random weights" if random else "these weights"
        shown = f"trained from {start}; no claim is made that it stayed as it was"
        return FrozenProof(run.arm, run.kind, network, run.fingerprint, "trained", shown)
    learning, whole = _learning(run.details)
    if learning is None or whole is None:
        shown = "the strategy trains the classifier alone; how many parameters learnt is not noted"
        return FrozenProof(run.arm, run.kind, network, run.fingerprint, "not shown", shown)
    shown = CLASSIFIER_ONLY.format(learning=f"{learning:,}", all=f"{whole:,}")
    return FrozenProof(run.arm, run.kind, network, run.fingerprint, "frozen", shown)


def _learning(details: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the most parameters that learnt in any epoch of any fold, and all there are."""
    folds = details.get("folds") or ()
    counts = [count for fold in folds for count in fold.get("n_learning") or ()]
    totals = [fold["n_parameters"] for fold in folds if fold.get("n_parameters")]
    return (max(counts) if counts else None), (max(totals) if totals else None)
