"""The sections of the experiment file: frozen models that hold every default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializationInfo,
    ValidationInfo,
    field_validator,
    model_validator,
)

from featurebench.config.heads import (
    FewLabelsConfig,
    HeadConfig,
    PositiveInt,
    SearchConfig,
    Section,
)
from featurebench.errors import ConfigError


def _anchor(path: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the experiment file."""
    base: Path = (info.context or {}).get("base", Path())
    return Path(os.path.normpath(base / path.expanduser()))


def _relative(path: Path, info: SerializationInfo) -> str:
    base = (info.context or {}).get("base")
    return path.as_posix() if base is None else Path(os.path.relpath(path, base)).as_posix()


def _anchor_weights(weights: str, info: ValidationInfo) -> str:
    return weights if weights in WEIGHT_SOURCES else str(_anchor(Path(weights), info))


def _relative_weights(weights: str, info: SerializationInfo) -> str:
    return weights if weights in WEIGHT_SOURCES else _relative(Path(weights), info)


FOREIGN = "foreign"
WEIGHT_SOURCES = ("hub", "package", "random", FOREIGN)
FilePath = Annotated[Path, AfterValidator(_anchor), PlainSerializer(_relative)]
Weights = Annotated[str, AfterValidator(_anchor_weights), PlainSerializer(_relative_weights)]
ModelName = Annotated[str, Field(min_length=1)]
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


class DataConfig(Section):
    """Where the labelled tiles come from: exactly one of manifest, folder and synthetic."""

    manifest: FilePath | None = None
    root: FilePath | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    folder: FilePath | None = None
    patient_regex: str | None = None
    synthetic: SyntheticConfig | None = None
    max_bad_tiles: Share = 0.01

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [k for k in ("manifest", "folder", "synthetic") if getattr(self, k) is not None]
        if len(named) != 1:
            got = " and ".join(named) or "none"
            raise ValueError(f"give exactly one of manifest, folder and synthetic (got {got})")
        if self.manifest is None and (self.root is not None or self.columns):
            raise ValueError("root and columns go with manifest only")
        if self.folder is None and self.patient_regex is not None:
            raise ValueError("patient_regex goes with folder only")
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
    """Repeated patient-grouped folds, or one hold-out; parameters of `SplitPlan.draw`."""

    folds: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 1
    holdout: tuple[float, float, float] | None = None
    group: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class FineTuneConfig(Section):
    """A network trained on the pixels; parameters of `featurebench.finetuning.fine_tune`."""

    model: ModelName
    weights: Weights = "hub"
    model_args: dict[str, Any] = Field(default_factory=dict)
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    name: str | None = None
    strategy: Literal["full"] = "full"
    epochs: PositiveInt = 10
    image_size: Annotated[int, Field(ge=32)] | None = None
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    repeats: PositiveInt | None = None


class CompareConfig(Section):
    """What is declared before the run; parameters of `featurebench.comparison.compare`."""

    metric: str = "balanced_accuracy"
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    reference: str | None = None
    resamples: Annotated[int, Field(ge=100)] = 2000


class OutputConfig(Section):
    """Folders for the runs and for the report."""

    results: FilePath
    reports: FilePath


class ComputeConfig(Section):
    """How the work is done; recorded with every run, never part of its identity."""

    device: str = "auto"
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
