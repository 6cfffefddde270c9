"""The arms of an experiment: declare them all in order, run those that no folder holds yet."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError, FeatureBenchError
from featurebench.experiment.networks import resolve_device, resolve_threads
from featurebench.experiment.provenance import machine, versions
from featurebench.experiment.recognition import Recognition
from featurebench.results import (
    Cost,
    RunResult,
    is_complete,
    run_folder,
    run_id,
    save_failure,
    save_run,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featurebench.config import ExperimentConfig, FineTuneConfig
    from featurebench.experiment.console import Console
    from featurebench.experiment.study import Study
    from featurebench.results import ArmKind
    from featurebench.store import EmbeddingSpec, FeatureStore

# Parameters of scikit-learn estimators that say how work is done, not what comes out.
_UNHASHED = frozenset({"cv", "n_jobs", "nthread", "verbose", "verbosity"})
INNER_FOLDS = 3
# What estimators and networks raise at data or settings that they cannot use.
ARM_ERRORS = (FeatureBenchError, ValueError, ArithmeticError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Arm:
    """One arm as declared: what it is made of and the identity of its run.

    Parameters
    ----------
    name
        ``<embedding>+<head>``, ``<backbone>+<strategy>``, or the head alone for a baseline.
    spec, head, head_params
        Of a probe; a baseline reads no embedding.
    fine_tune
        Of a fine-tune.
    params, fingerprint, run_id
        As in `RunResult`.
    """

    name: str
    kind: ArmKind
    params: Mapping[str, Any]
    fingerprint: str
    run_id: str
    spec: EmbeddingSpec | None = None
    head: str | None = None
    head_params: Mapping[str, Any] | None = None
    fine_tune: FineTuneConfig | None = None


def declare_probes(
    config: ExperimentConfig, specs: Sequence[EmbeddingSpec], study: Study
) -> list[Arm]:
    """Every embedding with every head; ``dummy`` looks at no embedding and so stands once."""
    short = Counter(_label(spec) for spec in specs)
    probes = [
        _declare_probe(config, study, head, params, spec, unique=short[_label(spec)] == 1)
        for spec in specs
        for head, params in config.heads.items()
        if head != "dummy"
    ]
    if "dummy" in config.heads:
        probes.append(_declare_probe(config, study, "dummy", config.heads["dummy"], None))
    return probes


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
        _declare_fine_tune(config, study, entry, remember=remember) for entry in config.finetune
    ]
    names = [arm.name for arm in arms]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(
            f"finetune: two entries are called {twice.pop()!r}: give one of them a name"
        )
    return arms


def run_arms(
    config: ExperimentConfig,
    arms: Sequence[Arm],
    study: Study,
    store: FeatureStore | None,
    console: Console,
) -> None:
    """Run what is not there yet; an arm that fails is recorded and the next one goes on."""
    root = config.output.results / "runs"
    for arm in arms:
        if is_complete(run_folder(root, arm.name, arm.run_id)):
            console.say("arm", f"{arm.name}: cached")
            continue
        try:
            result = _run(config, arm, study, store, console)
        except _arm_errors() as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            save_failure(root, arm.name, arm.kind, arm.run_id, reason)
            console.say("failed", f"{arm.name}: {reason}")
            continue
        save_run(result, root)
        console.say("arm", f"{arm.name}: {result.cost.wall_s:.1f} s")


def _arm_errors() -> tuple[type[Exception], ...]:
    """Give what an arm may raise without stopping the others; LightGBM has its own error."""
    lightgbm = sys.modules.get("lightgbm")
    return ARM_ERRORS if lightgbm is None else (*ARM_ERRORS, lightgbm.basic.LightGBMError)


def arm_status(config: ExperimentConfig, arm: Arm) -> str:
    """Tell whether an arm is ``cached`` or ``would run``."""
    folder = run_folder(config.output.results / "runs", arm.name, arm.run_id)
    return "cached" if is_complete(folder) else "would run"


def _declare_probe(
    config: ExperimentConfig,
    study: Study,
    head: str,
    head_params: Mapping[str, Any],
    spec: EmbeddingSpec | None,
    *,
    unique: bool = True,
) -> Arm:
    from featurebench.heads import make_head

    estimator = make_head(head, seed=config.splits.seed, **head_params)
    resolved = {
        key: value
        for key, value in estimator.get_params(deep=False).items()
        if key not in _UNHASHED and isinstance(value, str | int | float | bool | list | tuple)
    }
    params = {"head": head, "inner_folds": INNER_FOLDS, **_finite(resolved), **_truth(study)}
    fingerprint = "" if spec is None else spec.fingerprint
    name = head
    if spec is not None:
        name = f"{_label(spec) if unique else spec.name}+{head}"
    return Arm(
        name=name,
        kind="baseline" if spec is None else "probe",
        params=params,
        fingerprint=fingerprint,
        run_id=run_id(name, params, fingerprint, study.plan.id, config.splits.seed),
        spec=spec,
        head=head,
        head_params=head_params,
    )


def _declare_fine_tune(
    config: ExperimentConfig, study: Study, entry: FineTuneConfig, *, remember: bool
) -> Arm:
    start = _recognise_start(config, study, entry, remember=remember)
    params = {**start["params"], **_truth(study)}
    source = {"hub": "", "package": ".package", "random": ".random"}.get(entry.weights, ".file")
    name = entry.name or f"{entry.model}{source}+{entry.strategy}"
    seed = config.splits.seed
    return Arm(
        name=name,
        kind="finetune",
        params=params,
        fingerprint=start["fingerprint"],
        run_id=run_id(name, params, start["fingerprint"], study.plan.id, seed),
        fine_tune=entry,
    )


def _recognise_start(
    config: ExperimentConfig, study: Study, entry: FineTuneConfig, *, remember: bool
) -> Mapping[str, Any]:
    """Give ``params`` and ``fingerprint`` of a fine-tune; loads its network at the first time."""
    settings = _training(entry)
    how: dict[str, Any] = {
        "repeats": _repeats(study, entry),
        "grouped": study.groups is not None,
        "seed": config.splits.seed,
    }
    recognition = Recognition(config.output.results)
    request = {"finetune": True, **settings, **how}
    known = recognition.recall(request)
    if known is not None:
        return known
    from featurebench.finetuning import Recipe, identify

    start = identify(Recipe(**settings), **how)
    answer = {"params": dict(start.params), "fingerprint": start.fingerprint}
    if remember:
        recognition.remember(request, answer)
    return answer


def _training(entry: FineTuneConfig) -> dict[str, Any]:
    """Give the parameters of the entry's `Recipe`."""
    return entry.model_dump(exclude={"name", "repeats"})


def _repeats(study: Study, entry: FineTuneConfig) -> int:
    """Give the repeats of a fine-tune: as asked for, at most those of the plan."""
    return min(entry.repeats or study.plan.n_repeats, study.plan.n_repeats)


def _truth(study: Study) -> dict[str, str]:
    """Hash what an arm is trained on besides pixels and folds: a mended label is another run."""
    groups = [] if study.groups is None else study.groups.tolist()
    text = json.dumps([study.tiles.classes, study.tiles.labels.tolist(), groups])
    return {"labels_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _run(
    config: ExperimentConfig,
    arm: Arm,
    study: Study,
    store: FeatureStore | None,
    console: Console,
) -> RunResult:
    if arm.fine_tune is not None:
        result = _run_fine_tune(config, arm, arm.fine_tune, study, console)
    else:
        result = _run_probe(config, arm, study, store, console)
    threads = resolve_threads(config.compute.threads)
    record = {"versions": versions(), "machine": machine(threads, result.device)}
    return replace(result, params=arm.params, provenance=record)


def _run_probe(
    config: ExperimentConfig,
    arm: Arm,
    study: Study,
    store: FeatureStore | None,
    console: Console,
) -> RunResult:
    import numpy as np

    from featurebench.evaluation import cross_validate
    from featurebench.heads import make_head

    threads = resolve_threads(config.compute.threads)
    head = make_head(
        arm.head or "", seed=config.splits.seed, threads=threads, **(arm.head_params or {})
    )
    if arm.spec is None or store is None:
        X = np.zeros((len(study.tiles), 1), dtype=np.float32)
        extraction = Cost()
    else:
        X = store.load(arm.spec, study.rows)
        extraction = _extraction_cost(store.cost(arm.spec))
    plan = study.plan
    with console.track(arm.name, plan.n_repeats * plan.n_folds) as advance:
        return cross_validate(
            head,
            X,
            study.tiles.labels,
            plan,
            classes=study.tiles.classes,
            groups=study.groups,
            arm=arm.name,
            kind=arm.kind,
            embedding=None if arm.spec is None else arm.spec.name,
            head_name=arm.head,
            params=arm.params,
            fingerprint=arm.fingerprint,
            extraction_cost=extraction,
            inner=INNER_FOLDS,
            seed=config.splits.seed,
            threads=threads,
            progress=advance,
        )


def _extraction_cost(cost: Mapping[str, float]) -> Cost:
    return Cost(cost["wall_s"], cost["cpu_s"], cost["gpu_s"], cost["peak_memory_mb"])


def _run_fine_tune(
    config: ExperimentConfig,
    arm: Arm,
    entry: FineTuneConfig,
    study: Study,
    console: Console,
) -> RunResult:
    import numpy as np

    from featurebench.finetuning import Recipe, count_passes, fine_tune

    groups = study.groups
    codes = None if groups is None else np.unique(groups.astype(str), return_inverse=True)[1]
    repeats = _repeats(study, entry)
    total = count_passes(study.plan, epochs=entry.epochs, repeats=repeats)
    root = config.output.results / "runs"
    with console.track(arm.name, total) as advance:
        return fine_tune(
            study.tiles,
            study.plan,
            Recipe(**_training(entry)),
            arm=arm.name,
            repeats=repeats,
            groups=codes,
            seed=config.splits.seed,
            device=resolve_device(config.compute.device),
            threads=resolve_threads(config.compute.threads),
            workers=config.compute.workers or 0,
            fold_dir=run_folder(root, arm.name, arm.run_id) / "folds",
            progress=advance,
        )


def _label(spec: EmbeddingSpec) -> str:
    """Shorten an embedding's name to model, tag and layer, where no other has the same."""
    stage = "" if spec.layer in {"final", "unknown"} else f".{spec.layer}"
    return spec.name.partition("@")[0] + stage


def _finite(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out NaN, which JSON does not have; XGBoost's ``missing`` is one."""
    return {k: v for k, v in params.items() if not (isinstance(v, float) and math.isnan(v))}
