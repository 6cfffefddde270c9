"""The heads of an experiment file: made as their entries say, and what fixes their numbers."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from featurebench.errors import ConfigError
from featurebench.heads import DEFAULT_SPACES, HEADS, SearchedHead, SearchPlan, make_head
from featurebench.heads.search import parse_space
from featurebench.heads.search.space import as_json, check_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sklearn.base import ClassifierMixin

    from featurebench.config import ExperimentConfig, HeadConfig
    from featurebench.store import EmbeddingSpec

INNER_FOLDS = 3
BASELINE = "dummy"
# Parameters that say how work is done, not what comes out.
_UNHASHED = frozenset({"cv", "device", "n_jobs", "nthread", "threads", "verbose", "verbosity"})
# LightGBM's packages are built without CUDA.
_ON_PROCESSOR = frozenset({"lightgbm"})


def head_of(config: ExperimentConfig, entry: str) -> str:
    """Give the name in the catalogue of the head that an entry of ``heads`` stands for."""
    return config.heads[entry].head or entry


def make_probe(
    config: ExperimentConfig,
    entry: str,
    classes: Sequence[str],
    *,
    threads: int = 1,
    device: str = "cpu",
) -> ClassifierMixin:
    """Make the unfitted head of an entry, inside a search where the file asks for one.

    Parameters
    ----------
    entry
        Key in ``heads``.
    classes
        Names of the classes in the order of their codes, for class weights given by name.
    threads, device
        As in `featurebench.heads.make_head`.

    Raises
    ------
    ConfigError
        If the entry cannot be used.
    """
    head, params = head_of(config, entry), config.heads[entry].params
    if isinstance(params.get("class_weight"), Mapping):
        params["class_weight"] = _by_code(entry, params["class_weight"], classes)
    estimator = make_head(
        head,
        seed=config.splits.seed,
        threads=threads,
        device="cpu" if head in _ON_PROCESSOR else device,
        **params,
    )
    space = _space_of(config, entry)
    if space is None:
        return estimator
    return SearchedHead(
        estimator, space, **asdict(_plan_of(config)), random_state=config.splits.seed
    )


def device_of(head: ClassifierMixin) -> str:
    """Tell where a head computes."""
    inner = head.estimator if isinstance(head, SearchedHead) else head
    return str(getattr(inner, "device", "cpu"))


def describe_probe(config: ExperimentConfig, entry: str, classes: Sequence[str]) -> dict[str, Any]:
    """Give what changes the numbers of an entry's arms besides their embeddings; JSON-ready."""
    head = make_probe(config, entry, classes)
    searched = {}
    if isinstance(head, SearchedHead):
        space = {name: asdict(each) for name, each in parse_space(head.space).items()}
        searched = {"search": {**asdict(_plan_of(config)), "space": as_json(space)}}
        head = head.estimator
    params = {
        name: as_json(_by_name(value, classes) if name == "class_weight" else value)
        for name, value in head.get_params(deep=False).items()
        if name not in _UNHASHED and value is not None
    }
    return {"head": head_of(config, entry), "inner_folds": INNER_FOLDS} | _finite(params) | searched


def check_probe(config: ExperimentConfig, entry: str) -> None:
    """Refuse an entry that could not be fitted, before there are any tiles.

    Raises
    ------
    ConfigError
        Naming the entry.
    """
    try:
        _check_entry(config, entry, config.heads[entry])
        params = config.heads[entry].params
        estimator = make_head(head_of(config, entry), **params)
        space = _space_of(config, entry)
        if space is not None:
            check_space(parse_space(space), estimator, _plan_of(config).method)
    except ConfigError as error:
        raise ConfigError(f"heads.{entry}: {error}") from None


def check_class_weights(config: ExperimentConfig, classes: Sequence[str]) -> None:
    """Refuse class weights of classes that no tile has.

    Raises
    ------
    ConfigError
        Naming the entry and the class.
    """
    for entry, written in config.heads.items():
        weights = written.params.get("class_weight")
        if isinstance(weights, Mapping):
            _by_code(entry, weights, classes)


def is_searched(config: ExperimentConfig, entry: str) -> bool:
    """Tell whether an entry's hyper-parameters are searched."""
    return _space_of(config, entry) is not None


def used_specs(config: ExperimentConfig, specs: Iterable[EmbeddingSpec]) -> list[EmbeddingSpec]:
    """Choose the embeddings that some probe reads: other views only where a head asks for them."""
    with_views = any(entry.views is not None for entry in config.heads.values())
    return [spec for spec in specs if with_views or spec.view == "clean"]


def views_of(clean: EmbeddingSpec, specs: Iterable[EmbeddingSpec]) -> tuple[EmbeddingSpec, ...]:
    """Find the other views of an embedding of the tiles as they are."""
    return tuple(
        spec for spec in specs if spec.view != "clean" and replace(spec, view="clean") == clean
    )


def _check_entry(config: ExperimentConfig, entry: str, written: HeadConfig) -> None:
    head = head_of(config, entry)
    if head not in HEADS and written.head is None:
        near = difflib.get_close_matches(head, HEADS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"unknown head {head!r}: {hint}use one of {', '.join(HEADS)}, or give it as head: "
            "beside a name of your own"
        )
    if entry in HEADS and entry != head:
        raise ConfigError(f"the name is another head's than {head!r}: choose another name")
    if head == BASELINE and (written.views or written.search):
        raise ConfigError(f"{head} looks at no embedding: leave views and search out")
    if written.search and _space_of(config, entry) is None:
        raise ConfigError(
            f"nothing of {head} is searched by default: give search: {{space: {{...}}}}, or leave "
            "search out"
        )


def _plan_of(config: ExperimentConfig) -> SearchPlan:
    search = config.search
    return SearchPlan() if search is None else SearchPlan(**search.model_dump())


def _space_of(config: ExperimentConfig, entry: str) -> dict[str, Any] | None:
    """Give where an entry is searched; what it sets itself is not searched by default."""
    written = config.heads[entry]
    if config.search is None or written.search is False:
        return None
    if written.search is not None and written.search.space is not None:
        return written.search.space
    default = DEFAULT_SPACES.get(head_of(config, entry), {})
    return {name: space for name, space in default.items() if name not in written.params} or None


def _by_code(entry: str, weights: Mapping[Any, float], classes: Sequence[str]) -> dict[int, float]:
    """Give weights by the classes' codes; a class that is not named has weight 1."""
    known = {name: code for code, name in enumerate(classes)}
    for name in map(str, weights):
        if name not in known:
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(classes)}"
            raise ConfigError(f"heads.{entry}: class_weight names no class {name!r}: {hint}")
    named = {known[str(name)]: weight for name, weight in weights.items()}
    return {code: named.get(code, 1.0) for code in known.values()}


def _by_name(weights: object, classes: Sequence[str]) -> object:
    if not isinstance(weights, Mapping):
        return weights
    return {classes[code]: weight for code, weight in weights.items()}


def _finite(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out NaN, which JSON does not have; XGBoost's ``missing`` is one."""
    return {k: v for k, v in params.items() if not (isinstance(v, float) and math.isnan(v))}
