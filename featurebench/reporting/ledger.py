"""The ledger: what arms cost, alone and with embeddings shared, and whether budgets match."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from featurebench.comparison.wording import listed
from featurebench.reporting import formats
from featurebench.results import Cost, extraction_shares

if TYPE_CHECKING:
    from featurebench.results import RunResult

Arm = Mapping[str, Any]
Place = tuple[str, str]


def _seconds(value: float | None) -> str:
    return formats.seconds(value or None)


def _count(value: int | None) -> str:
    return formats.count(value or None)


# Key and title of a column, how it is written, and where a summary's arm has it, alone and shared.
_MEASURES: tuple[tuple[str, str, Callable[[Any], str], Place, Place], ...] = (
    ("time", "Time", formats.seconds, ("cost", "wall_s"), ("amortised_cost", "wall_s")),
    (
        "embedding",
        "of which embedding",
        _seconds,
        ("extraction_cost", "wall_s"),
        ("extraction_share", "wall_s"),
    ),
    ("cpu", "CPU", _seconds, ("cost", "cpu_s"), ("amortised_cost", "cpu_s")),
    ("gpu", "GPU", _seconds, ("cost", "gpu_s"), ("amortised_cost", "gpu_s")),
    (
        "memory",
        "Peak memory",
        formats.memory,
        ("cost", "peak_memory_mb"),
        ("amortised_cost", "peak_memory_mb"),
    ),
    (
        "gpu_memory",
        "GPU memory",
        formats.memory,
        ("cost", "peak_gpu_memory_mb"),
        ("amortised_cost", "peak_gpu_memory_mb"),
    ),
    ("read", "Read", formats.size, ("cost", "bytes_read"), ("amortised_cost", "bytes_read")),
    ("stored", "Stored", formats.size, ("stored", "bytes"), ("stored", "amortised_bytes")),
    ("energy", "GPU energy", formats.energy, ("cost", "energy_j"), ("amortised_cost", "energy_j")),
    ("trials", "Trials", _count, ("cost", "trials"), ("cost", "trials")),
)


@dataclass(frozen=True)
class Column:
    """One column of the ledger; ``cells`` are in the order of the arms: alone, and shared.

    The second text is empty where sharing the embedding changes nothing that can be read.
    """

    key: str
    title: str
    cells: tuple[tuple[str, str], ...]


def costs_of_arms(
    runs: Sequence[RunResult], stored_bytes: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Gather what each arm cost, for the summary.

    Parameters
    ----------
    runs
        All arms of the experiment, among which embeddings are shared out.
    stored_bytes
        Size of what each arm left on disk, by arm; not known of those that are not named.

    Returns
    -------
    dict
        By arm: ``cost`` of the arm standing alone, ``amortised_cost`` with each embedding shared
        out over the arms that read it, ``training_cost``, ``extraction_cost`` (whole) and
        ``extraction_share``; ``stored``, the ``bytes`` of the arm's own files and its embedding,
        and ``amortised_bytes``; and ``search``, the arm's budget and the fewest and most trials of
        its folds, None where it was not searched.
    """
    shares = extraction_shares(runs)
    found = {}
    for run in runs:
        own, share = stored_bytes.get(run.arm), shares[run.arm]
        found[run.arm] = {
            "cost": asdict(run.cost + run.extraction_cost),
            "amortised_cost": asdict(run.cost + share),
            "training_cost": asdict(run.cost),
            "extraction_cost": asdict(run.extraction_cost),
            "extraction_share": asdict(share),
            "stored": {
                "bytes": _stored(own, run.extraction_cost),
                "amortised_bytes": _stored(own, share),
            },
            "search": _search_of(run),
        }
    return found


def cost_columns(arms: Sequence[Arm]) -> list[Column]:
    """Lay out the ledger of a summary's arms; columns without a known number are left out."""
    columns = []
    for key, title, write, (group, name), (other_group, other_name) in _MEASURES:
        if any(arm[group][name] for arm in arms):
            cells = tuple(
                _cell(write(arm[group][name]), write(arm[other_group][other_name])) for arm in arms
            )
            columns.append(Column(key, title, cells))
    return columns


def budget_sentences(arms: Sequence[Arm]) -> list[str]:
    """Say whether the arms that were searched had one budget, and which arms were not searched."""
    searched = [arm for arm in arms if arm["search"]]
    if not searched:
        return []
    budgets: dict[str, list[str]] = {}
    for arm in searched:
        budgets.setdefault(_budget(arm["search"]), []).append(arm["label"])
    if len(budgets) == 1:
        text = f"Budget-matched: every searched arm had {next(iter(budgets))} in each fold."
    else:
        parts = [f"{listed(names)} had {budget}" for budget, names in budgets.items()]
        text = f"Not budget-matched: in each fold {'; '.join(parts)}."
    others = [a["label"] for a in arms if not a["search"] and a["kind"] != "baseline"]
    alone = f"Not searched, and so without that budget: {listed(others)}." if others else ""
    return [sentence for sentence in (text, *_unspent(searched), alone) if sentence]


def _cell(alone: str, shared: str) -> tuple[str, str]:
    return alone, "" if shared in {alone, formats.MISSING} else shared


def _stored(own: int | None, embedding: Cost) -> int | None:
    """Add what the embeddings take in the store; an arm that reads none has nothing to add."""
    if embedding == Cost():
        return own
    theirs = embedding.bytes_written
    return None if own is None or theirs is None else own + theirs


def _search_of(run: RunResult) -> dict[str, Any] | None:
    plan = run.params.get("search")
    if not isinstance(plan, Mapping):
        return None
    # A fine-tune's folds have more to tell, and keep their search apart.
    searches = [fold.get("search", fold) for fold in run.details.get("folds", ())]
    spent = [each["trials"] for each in searches if "trials" in each]
    return {
        **{key: plan.get(key) for key in ("method", "trials", "seconds")},
        "spent": [min(spent), max(spent)] if spent else None,
    }


def _budget(search: Mapping[str, Any]) -> str:
    limits = []
    if search["trials"] is not None:
        limits.append(formats.counted(search["trials"], "trial"))
    if search["seconds"] is not None:
        limits.append(formats.seconds(search["seconds"]))
    if not limits:
        return "its whole grid"
    return " or ".join(limits) + (", whichever ended first," if len(limits) > 1 else "")


def _unspent(searched: Sequence[Arm]) -> Iterator[str]:
    """Name the arms that tried fewer configurations than they had trials."""
    short = []
    for arm in searched:
        search = arm["search"]
        if search["trials"] is not None and search["spent"] is not None:
            least, most = search["spent"]
            if least < search["trials"]:
                tried = f"{least}" if least == most else f"{least} to {most}"
                short.append(f"{arm['label']} ({tried})")
    if not short:
        return
    timed = any(arm["search"]["seconds"] is not None for arm in searched)
    why = "the time was up, or the space held no more" if timed else "the space held no more"
    yield f"Fewer trials were made by {listed(short)}: {why}."
