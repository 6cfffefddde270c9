"""The sections of the experiment file: frozen models that hold every default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

from featurebench.config.fine_tuning import FineTuneConfig, expand
from featurebench.config.heads import (
    FewLabelsConfig,
    HeadConfig,
    PositiveInt,
    SearchConfig,
    Section,
)
from featurebench.config.paths import FilePath, ModelName, Weights
from featurebench.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]


class SyntheticConfig(Section):
    """A drawn H&E-like cohort; parameters of `featurebench.tiles.write_cohort`."""

    patients: PositiveInt = 40
    tiles_per_patient: PositiveInt = 20
    classes: Annotated[int, Field(ge=2)] = 2
    sites: PositiveInt = 3
    class_effect: Annotated[float, Field(ge=0)] = 1.0
    site_effect: Annotated[float, Field(ge=0)] = 1.0
    size: Annotated[int, Field(ge=32)] = 96
    seed: Annotated[int, Field(ge=0)] = 0
    effect: Literal["nuclei", "colour", "texture"] = "nuclei"


class DataConfig(Section):
    """Where the labelled tiles come from: one of manifest, folder, medmnist and synthetic."""

    manifest: FilePath | None = None
    root: FilePath | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    folder: FilePath | None = None
    patient_regex: str | None = None
    medmnist: FilePath | None = None
    class_names: Annotated[list[str], Field(min_length=2)] | None = None
    synthetic: SyntheticConfig | None = None
    max_bad_tiles: Share = 0.01

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = ("manifest", "folder", "medmnist", "synthetic")
        named = [name for name in sources if getattr(self, name) is not None]
        if len(named) != 1:
            got = " and ".join(named) or "none"
            raise ValueError(
                f"give exactly one of manifest, folder, medmnist and synthetic (got {got})"
            )
        if self.manifest is None and self.columns:
            raise ValueError("columns go with manifest only")
        if self.manifest is None and self.medmnist is None and self.root is not None:
            raise ValueError("root goes with manifest and medmnist only")
        if self.folder is None and self.patient_regex is not None:
            raise ValueError("patient_regex goes with folder only")
        if self.medmnist is None and self.class_names is not None:
            raise ValueError("class_names go with medmnist only")
        return self


class BackboneConfig(Section):
    """A frozen network; parameters of `featurebench.backbones.Backbone.load`.

    Several layers, and the views (see `featurebench.tiles.make_views`), are embeddings of their
    own that come out of one pass.
    """

    model: ModelName
    weights: Weights = "hub"
    model_args: dict[str, Any] = Field(default_factory=dict)
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    layer: str | Annotated[list[str], Field(min_length=1)] = "final"
    pool: Literal["avg", "max", "gem", "cls", "pre_logits"] | None = None
    views: int | dict[str, int] = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    engine: Literal["eager", "compile", "openvino"] = "eager"

    @field_validator("views")
    @classmethod
    def _known_views(cls, views: int | dict[str, int]) -> int | dict[str, int]:
        from featurebench.tiles import make_views

        try:
            make_views(views)
        except ConfigError as error:
            raise ValueError(str(error).removeprefix("views: ")) from None
        return views

    @property
    def has_views(self) -> bool:
        """Whether tiles are embedded in other views than as they are."""
        from featurebench.tiles import make_views

        return len(make_views(self.views)) > 1


class SplitConfig(Section):
    """Repeated patient-grouped folds, or one hold-out, drawn or given; as of `SplitPlan.draw`."""

    folds: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 10
    holdout: tuple[float, float, float] | None = None
    given: Annotated[str, Field(min_length=1)] | None = None
    group: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _one_hold_out(cls, data: object) -> object:
        """Repeat folds by default, but not a split that is drawn or given once."""
        if not isinstance(data, dict) or not (data.get("holdout") or data.get("given")):
            return data
        return {"repeats": 1, **data}

    @model_validator(mode="after")
    def _given_alone(self) -> Self:
        if self.given is not None and self.holdout is not None:
            raise ValueError("given and holdout are two ways to one split: keep one of them")
        if self.given is not None and self.repeats > 1:
            raise ValueError(
                f"a given split is not drawn and so not repeated: repeats is {self.repeats}, "
                "remove it"
            )
        return self


class OperatingPointConfig(Section):
    """A threshold on the probability of the second of two classes, declared before the run."""

    threshold: Annotated[float, Field(gt=0, lt=1)]


class CompareConfig(Section):
    """What is declared before the run; parameters of `featurebench.comparison.compare`.

    Without a margin only better and worse are claimed, and without a floor no probe is called
    enough. ``margin_rationale`` is the reason for the margin, which the report prints. ``weights``
    says what counts the same in every score: patients, by themselves where tiles are spread very
    unequally over them, or tiles.
    """

    metric: str = "balanced_accuracy"
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None
    margin_rationale: Annotated[str, Field(min_length=1)] | None = None
    floor: float | None = None
    min_recall: Share | None = None
    max_ece: Share | None = None
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    reference: str | None = None
    weights: Literal["auto", "tiles", "patients"] = "auto"
    resamples: Annotated[int, Field(ge=100)] = 10_000
    tests: list[str] = Field(default_factory=list)
    subgroups: list[str] | None = None
    operating_point: OperatingPointConfig | None = None
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None

    @field_validator("tests")
    @classmethod
    def _offered_tests(cls, tests: list[str]) -> list[str]:
        if tests:
            from featurebench.comparison import check_tests

            try:
                check_tests(tests)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return tests

    @model_validator(mode="after")
    def _rationale_of_a_margin(self) -> Self:
        if self.margin_rationale is not None and self.margin is None:
            raise ValueError("margin_rationale goes with a margin only: give margin, too")
        return self


class AuditConfig(Section):
    """What is looked for in tiles and embeddings besides the comparison.

    ``duplicates`` is the least similarity of a pair, or False for no search; ``columns`` are those
    that an embedding could tell instead of the class; ``map`` draws the tiles.
    """

    duplicates: Annotated[float, Field(gt=0, le=1)] | Literal[False] = 0.75
    columns: list[str] = Field(default_factory=lambda: ["site"])
    map: Literal["pca", "umap"] | Literal[False] = "pca"


def _kind_of_audit(value: object) -> str:
    return "(off)" if isinstance(value, bool) else "(on)"


Audit = Annotated[
    Annotated[Literal[False], Tag("(off)")] | Annotated[AuditConfig, Tag("(on)")],
    Discriminator(_kind_of_audit),
]


class OutputConfig(Section):
    """Folders for the runs and for the report."""

    results: FilePath
    reports: FilePath


class ComputeConfig(Section):
    """How the work is done; recorded with every run, never part of its identity."""

    device: str = "auto"
    devices: list[str] = Field(default_factory=list)
    data_parallel: PositiveInt = 1
    threads: PositiveInt | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    batch_size: PositiveInt | None = None
    block_rows: PositiveInt | None = None
    compression: Literal["none", "zstd"] = "none"


class ExperimentConfig(Section):
    """One experiment: data, networks, folds, heads and fine-tunes, and how they are compared."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    data: DataConfig
    store: FilePath
    backbones: list[BackboneConfig] = Field(default_factory=list)
    splits: SplitConfig = SplitConfig()
    heads: dict[str, HeadConfig] = Field(default_factory=dict)
    search: SearchConfig | None = None
    few_labels: FewLabelsConfig | None = None
    finetune: list[FineTuneConfig] = Field(default_factory=list)
    compare: CompareConfig = CompareConfig()
    audit: Audit = AuditConfig()
    output: OutputConfig
    compute: ComputeConfig = ComputeConfig()
    _base: Path = PrivateAttr(default_factory=Path)

    @property
    def base(self) -> Path:
        """Folder of the experiment file."""
        return self._base

    @field_validator("heads", mode="before")
    @classmethod
    def _bare_head(cls, heads: object) -> object:
        """``knn:`` with nothing behind it means its defaults."""
        if isinstance(heads, dict):
            return {name: {} if params is None else params for name, params in heads.items()}
        return heads

    @field_validator("audit", mode="before")
    @classmethod
    def _bare_audit(cls, audit: object) -> object:
        """Take ``audit:`` with nothing behind it, or with true, for its defaults."""
        return {} if audit is None or audit is True else audit

    @field_validator("finetune", mode="before")
    @classmethod
    def _swept(cls, entries: object) -> object:
        """Let lists in an entry stand for all their combinations."""
        return expand(entries)

    @field_validator("heads")
    @classmethod
    def _usable_names(cls, heads: dict[str, HeadConfig]) -> dict[str, HeadConfig]:
        """Names become parts of arms' names and of folders."""
        for name in heads:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
                raise ValueError(
                    f"{name!r} is no name of an entry: use up to 64 letters, digits, '.', '_', '-'"
                )
        return heads

    @model_validator(mode="after")
    def _some_arm(self) -> Self:
        if not self.finetune and not (self.backbones and self.heads):
            raise ValueError("nothing to compare: give backbones and heads, or finetune entries")
        return self

    @model_validator(mode="after")
    def _head_needs(self) -> Self:
        """Refuse what one head asks for and the rest of the file does not have."""
        some_views = any(backbone.has_views for backbone in self.backbones)
        for name, head in self.heads.items():
            if head.views is not None and not some_views:
                raise ValueError(
                    f"heads.{name}: views need some to be stored: give a backbone views, such as "
                    "views: 8"
                )
            if head.search and self.search is None:
                raise ValueError(
                    f"heads.{name}: search needs the budget that all searched heads share: add "
                    "search: {trials: 20} beside heads"
                )
        return self

    @model_validator(mode="after")
    def _fine_tune_needs(self) -> Self:
        """Refuse what one fine-tune asks for and the rest of the file does not have."""
        for entry in self.finetune:
            if entry.search and self.search is None:
                raise ValueError(
                    f"finetune, {entry.model}: search needs the budget that all searched arms "
                    "share: add search: {trials: 20} beside finetune"
                )
            if entry.few_labels and self.few_labels is None:
                raise ValueError(
                    f"finetune, {entry.model}: few_labels needs the sizes that all arms share: add "
                    "few_labels: {patients: [5, 10, 20]} beside finetune"
                )
        return self
