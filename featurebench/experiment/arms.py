"""The arms of an experiment: all of them declared, in order, before the first one runs."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurebench.config import varied_label
from featurebench.errors import ConfigError, FeatureBenchError
from featurebench.experiment.recognition import Recognition
from featurebench.results import is_complete, run_folder, run_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from featurebench.config import ExperimentConfig, FineTuneConfig
    from featurebench.experiment.console import Console
    from featurebench.experiment.study import Study
    from featurebench.finetuning import RecipeSearch
    from featurebench.results import ArmKind
    from featurebench.store import EmbeddingSpec

# What estimators and networks raise at data or settings that they cannot use.
ARM_ERRORS = (FeatureBenchError, ValueError, ArithmeticError, RuntimeError, MemoryError)
# More cached arms than these are told in one line.
_LISTED = 20
# Between the seeds of one fine-tune, so that entries with neighbouring seeds share no draws.
_SEED_STEP = 1_000_003


@dataclass(frozen=True)
class Arm:
    """One arm as declared: what it is made of and the identity of its run.

    Parameters
    ----------
    name
        ``<embedding>+<entry>``, ``<backbone>+<strategy>``, or the entry alone for a baseline.
    params, fingerprint, run_id
        As in `RunResult`.
    spec
        Embedding that a probe reads; a baseline reads none.
    entry, head
        Of a probe or a baseline: its key in ``heads``, and the head's name in the catalogue.
    views
        Embeddings of other views of the tiles that the probe uses, too.
    fine_tune
        Of a fine-tune.
    seed
        Of all that is drawn in training.
    replica_of
        Name of the arm that this one repeats with another seed; not compared, but shown beside it.
    """

    name: str
    kind: ArmKind
    params: Mapping[str, Any]
    fingerprint: str
    run_id: str
    spec: EmbeddingSpec | None = None
    entry: str | None = None
    head: str | None = None
    views: tuple[EmbeddingSpec, ...] = ()
    fine_tune: FineTuneConfig | None = None
    seed: int = 0
    replica_of: str | None = None

    def folder(self, results: Path) -> Path:
        """Folder of the arm's run."""
        return run_folder(results / "runs", self.name, self.run_id)


def declare_probes(
    config: ExperimentConfig, specs: Sequence[EmbeddingSpec], study: Study
) -> list[Arm]:
    """Every embedding with every head; ``dummy`` looks at no embedding and so stands once.

    Parameters
    ----------
    specs
        Of the tiles as they are, and of their other views where a head uses them: its arms stand
        for the embeddings that have some.
    """
    from featurebench.experiment.probes import BASELINE, describe_probe, head_of, views_of

    described = {
        entry: describe_probe(config, entry, study.tiles.classes) | _truth(study)
        for entry in config.heads
    }
    baselines = [entry for entry in config.heads if head_of(config, entry) == BASELINE]
    probes = [entry for entry in config.heads if entry not in baselines]
    clean = [spec for spec in specs if spec.view == "clean"]
    short = Counter(_label(spec) for spec in clean)
    arms = []
    for spec in clean:
        label = _label(spec) if short[_label(spec)] == 1 else spec.name
        views = views_of(spec, specs)
        arms += [
            _declare_probe(
                config, study, entry, described[entry], label=label, spec=spec, views=views
            )
            for entry in probes
            if views or config.heads[entry].views is None
        ]
    return [*arms, *(_declare_probe(config, study, e, described[e]) for e in baselines)]


def declare_fine_tunes(
    config: ExperimentConfig, study: Study, *, remember: bool = True
) -> list[Arm]:
    """Every entry of the experiment file's ``finetune`` list.

    Parameters
    ----------
    remember
        Whether a network that had to be loaded is noted beside the results.

    Raises
    ------
    ConfigError
        If two entries would have the same name.
    """
    arms = [
        _declare_fine_tune(config, study, entry, number=number, remember=remember)
        for entry in config.finetune
        for number in range(entry.seeds)
    ]
    names = [arm.name for arm in arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(
            f"finetune: two entries are called {twice.pop()!r}: give one of them a name"
        )
    return arms


def pending_arms(config: ExperimentConfig, arms: Sequence[Arm], console: Console) -> list[Arm]:
    """Give the arms that no folder holds yet, and say which ones are cached."""
    cached = [arm for arm in arms if is_complete(arm.folder(config.output.results))]
    if len(cached) > _LISTED:
        console.say("arm", f"{len(cached)} arms: cached")
    else:
        for arm in cached:
            console.say("arm", f"{arm.name}: cached")
    return [arm for arm in arms if arm not in cached]


def has_choice(arms: Sequence[Arm]) -> bool:
    """Tell whether there is more than one probe, of which the best is to be chosen."""
    return sum(arm.kind == "probe" for arm in arms) > 1


def arm_status(config: ExperimentConfig, arm: Arm) -> str:
    """Tell whether an arm is ``cached`` or ``would run``."""
    return "cached" if is_complete(arm.folder(config.output.results)) else "would run"


def arm_errors() -> tuple[type[Exception], ...]:
    """Give what an arm may raise without stopping the others; LightGBM has its own error."""
    lightgbm = sys.modules.get("lightgbm")
    return ARM_ERRORS if lightgbm is None else (*ARM_ERRORS, lightgbm.basic.LightGBMError)


def reason_of(error: Exception) -> str:
    """Give the first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def repeats_of(study: Study, entry: FineTuneConfig) -> int:
    """Give the repeats of a fine-tune: as asked for, at most those of the plan."""
    return min(entry.repeats, study.plan.n_repeats)


def _declare_probe(
    config: ExperimentConfig,
    study: Study,
    entry: str,
    params: Mapping[str, Any],
    *,
    label: str | None = None,
    spec: EmbeddingSpec | None = None,
    views: tuple[EmbeddingSpec, ...] = (),
) -> Arm:
    """Declare an entry on an embedding, which ``label`` names; without one, as a baseline."""
    name = entry if label is None else f"{label}+{entry}"
    use = config.heads[entry].views
    if use is not None:
        fingerprints = {view.view: view.fingerprint for view in views}
        params = {**params, "views": {**use.model_dump(), "fingerprints": fingerprints}}
    fingerprint = "" if spec is None else spec.fingerprint
    return Arm(
        name=name,
        kind="baseline" if spec is None else "probe",
        params=params,
        fingerprint=fingerprint,
        run_id=run_id(name, params, fingerprint, study.plan.id, config.splits.seed),
        spec=spec,
        entry=entry,
        head=params["head"],
        views=() if use is None else views,
        seed=config.splits.seed,
    )


def _declare_fine_tune(
    config: ExperimentConfig,
    study: Study,
    entry: FineTuneConfig,
    *,
    number: int,
    remember: bool,
) -> Arm:
    """Declare an entry, trained with the seed of that number."""
    seed = config.splits.seed + number * _SEED_STEP
    start = _recognise_start(config, study, entry, seed=seed, remember=remember)
    params = {**start["params"], **_truth(study)}
    search = search_of(config, entry)
    if search is not None:
        params["search"] = search.to_dict()
    name = fine_tune_name(entry)
    told = name if number == 0 else f"{name}, seed {number + 1}"
    return Arm(
        name=told,
        kind="finetune",
        params=params,
        fingerprint=start["fingerprint"],
        run_id=run_id(told, params, start["fingerprint"], study.plan.id, seed),
        fine_tune=entry,
        seed=seed,
        replica_of=None if number == 0 else name,
    )


def fine_tune_name(entry: FineTuneConfig) -> str:
    """Name an entry's arm: as it says, or by its model and strategy and what else is varied."""
    source = {"hub": "", "package": ".package", "random": ".random"}.get(entry.weights, ".file")
    name = entry.name or f"{entry.model}{source}+{entry.recipe.strategy}"
    varied = entry.varied if entry.name else _beyond_model_and_strategy(entry.varied)
    return f"{name},{varied_label(varied)}" if varied else name


def search_of(config: ExperimentConfig, entry: FineTuneConfig) -> RecipeSearch | None:
    """Give the search of an entry's recipe, within the budget that all searched arms share.

    As with the heads, everything is searched where the file has a budget and the entry does not
    say ``search: false``; what the entry or its preset sets is not searched by default.

    Raises
    ------
    ConfigError
        If the space cannot be used.
    """
    if config.search is None or not entry.space:
        return None
    from featurebench.finetuning import RecipeSearch
    from featurebench.heads.search import SearchPlan

    return RecipeSearch(SearchPlan(**config.search.model_dump()), entry.space)


def _beyond_model_and_strategy(varied: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in varied.items() if key not in {"model", "strategy"}}


def _recognise_start(
    config: ExperimentConfig,
    study: Study,
    entry: FineTuneConfig,
    *,
    seed: int,
    remember: bool,
) -> Mapping[str, Any]:
    """Give ``params`` and ``fingerprint`` of a fine-tune; loads its network at the first time."""
    recipe = entry.recipe
    how: dict[str, Any] = {
        "repeats": repeats_of(study, entry),
        "grouped": study.groups is not None,
        "seed": seed,
    }
    recognition = Recognition(config.output.results)
    request = {"finetune": True, **recipe.to_dict(), **how}
    known = recognition.recall(request)
    if known is not None:
        return known
    from featurebench.finetuning import identify

    start = identify(recipe, **how)
    answer = {"params": dict(start.params), "fingerprint": start.fingerprint}
    if remember:
        recognition.remember(request, answer)
    return answer


def _truth(study: Study) -> dict[str, str]:
    """Hash what an arm is trained on besides pixels and folds: a mended label is another run."""
    groups = [] if study.groups is None else study.groups.tolist()
    text = json.dumps([study.tiles.classes, study.tiles.labels.tolist(), groups])
    return {"labels_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _label(spec: EmbeddingSpec) -> str:
    """Shorten an embedding's name to model, tag and layer, where no other has the same."""
    stage = "" if spec.layer in {"final", "unknown"} else f".{spec.layer}"
    return spec.name.partition("@")[0] + stage
