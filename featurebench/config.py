"""The experiment file: YAML -> frozen models that refuse unknown keys; it holds every default."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BYTES = 1_000_000


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
PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class SyntheticConfig(_Section):
    """A drawn H&E-like cohort; parameters of `featurebench.tiles.write_cohort`."""

    patients: PositiveInt = 40
    tiles_per_patient: PositiveInt = 20
    classes: Annotated[int, Field(ge=2)] = 2
    sites: PositiveInt = 3
    class_effect: Annotated[float, Field(ge=0)] = 1.0
    site_effect: Annotated[float, Field(ge=0)] = 1.0
    size: Annotated[int, Field(ge=32)] = 96
    seed: Annotated[int, Field(ge=0)] = 0


class DataConfig(_Section):
    """Where the labelled tiles come from: exactly one of manifest, folder and synthetic."""

    manifest: FilePath | None = None
    root: FilePath | None = None
    columns: dict[str, str] = {}
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


class BackboneConfig(_Section):
    """A frozen network; parameters of `featurebench.backbones.Backbone.load`.

    Several layers, and the views (see `featurebench.tiles.make_views`), are embeddings of their
    own that come out of one pass.
    """

    model: ModelName
    weights: Weights = "hub"
    model_args: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}
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


class SplitConfig(_Section):
    """Repeated patient-grouped folds, or one hold-out; parameters of `SplitPlan.draw`."""

    folds: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 1
    holdout: tuple[float, float, float] | None = None
    group: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class FineTuneConfig(_Section):
    """A network trained on the pixels; parameters of `featurebench.finetuning.fine_tune`."""

    model: ModelName
    weights: Weights = "hub"
    model_args: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}
    name: str | None = None
    strategy: Literal["full"] = "full"
    epochs: PositiveInt = 10
    image_size: Annotated[int, Field(ge=32)] | None = None
    batch_size: Annotated[int, Field(ge=2)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    repeats: PositiveInt | None = None


class CompareConfig(_Section):
    """What is declared before the run; parameters of `featurebench.comparison.compare`."""

    metric: str = "balanced_accuracy"
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    reference: str | None = None
    resamples: Annotated[int, Field(ge=100)] = 2000


class OutputConfig(_Section):
    """Folders for the runs and for the report."""

    results: FilePath
    reports: FilePath


class ComputeConfig(_Section):
    """How the work is done; recorded with every run, never part of its identity."""

    device: str = "auto"
    threads: PositiveInt | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    batch_size: PositiveInt | None = None
    block_rows: PositiveInt | None = None
    compression: Literal["none", "zstd"] = "none"


class ExperimentConfig(_Section):
    """One experiment: data, networks, folds, heads and fine-tunes, and how they are compared."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    data: DataConfig
    store: FilePath
    backbones: list[BackboneConfig] = []
    splits: SplitConfig = SplitConfig()
    heads: dict[str, dict[str, Any]] = {}
    finetune: list[FineTuneConfig] = []
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

    @model_validator(mode="after")
    def _some_arm(self) -> Self:
        if not self.finetune and not (self.backbones and self.heads):
            raise ValueError("nothing to compare: give backbones and heads, or finetune entries")
        return self


class _SafeLoader(yaml.SafeLoader):
    """YAML's safe subset without duplicate keys (a later one would win silently) and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.line + 1
            raise ConfigError(f"line {line}: aliases (*name) are not allowed: write the value out")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"line {line}: key {key.value!r} stands twice: keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as text; the experiment file's readers mean a number.
_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")


_SafeLoader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def load_config(path: Path, overrides: Iterable[str] = ()) -> ExperimentConfig:
    """Read, complete and check an experiment file.

    Parameters
    ----------
    path
        The YAML file; paths in it are relative to its folder.
    overrides
        ``key.path=value`` each, the value read as YAML; list items by their number.

    Raises
    ------
    ConfigError
        With every problem in one message, unknown keys with the nearest known one.
    """
    document = _read_yaml(path)
    for override in overrides:
        _apply_override(document, override)
    name = document.setdefault("name", path.stem)
    document.setdefault("store", f"stores/{name}.store")
    output = document.setdefault("output", {})
    if isinstance(output, dict):
        output.setdefault("results", f"results/{name}")
        output.setdefault("reports", f"reports/{name}")
    return parse_config(document, path.resolve().parent, path.name)


def parse_config(
    document: Mapping[str, Any], base: Path, source: str = "the experiment"
) -> ExperimentConfig:
    """Check an experiment given as a dict, such as `dump_config` gives.

    Parameters
    ----------
    document
        As the YAML file holds it.
    base
        Folder that paths are relative to.
    source
        What error messages call it.

    Raises
    ------
    ConfigError
        With every problem in one message, unknown keys with the nearest known one.
    """
    try:
        config = ExperimentConfig.model_validate(document, context={"base": base})
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors())
        raise ConfigError(f"{source}: {problems}") from None
    config._base = base
    return config


def dump_config(config: ExperimentConfig, base: Path) -> dict[str, Any]:
    """Plain dict of the whole configuration, every default written out, paths relative to base."""
    return config.model_dump(mode="json", context={"base": base})


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no experiment file {path}: write one with 'featurebench init'")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path.name} is larger than 1 MB: that is no experiment file")
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path.name} is not valid YAML: {detail}") from None
    except ConfigError as error:
        raise ConfigError(f"{path.name}, {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name} holds no keys: start from 'featurebench init'")
    return document


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: write it as key.path=value")
    *parents, last = key.split(".")
    node: Any = document
    for part in parents:
        node = _child(node, part, override)
    try:
        value = yaml.load(text, _SafeLoader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML") from None
    if isinstance(node, list):
        node[_position(node, last, override)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, override: str) -> Any:  # noqa: ANN401
    if isinstance(node, list):
        return node[_position(node, part, override)]
    if node.get(part) is None:
        node[part] = {}
    if not isinstance(node[part], dict | list):
        raise ConfigError(f"--set {override!r}: {part!r} holds a value, not further keys")
    return node[part]


def _position(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(
            f"--set {override!r}: {part!r} is not a number below {len(node)}, the list's length"
        )
    return int(part)


def _problem(error: Mapping[str, Any]) -> str:
    location = [part for part in error["loc"] if isinstance(part, str | int)]
    where = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {where!r}: {hint}"
    if error["type"] == "missing":
        return f"missing key {where!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error["input"]
    shown = f" (got {value!r})" if isinstance(value, str | int | float | bool) else ""
    return f"{where or 'the file'}: {message[0].lower()}{message[1:]}{shown}"


def _known_keys(location: list[str | int]) -> list[str]:
    """Keys of the section at a location; list positions lead into the list's item model."""
    model: type[BaseModel] = ExperimentConfig
    for part in location:
        if isinstance(part, int):
            continue
        model = _section_of(model.model_fields[part].annotation)
    return list(model.model_fields)


def _section_of(annotation: Any) -> type[BaseModel]:  # noqa: ANN401
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        try:
            return _section_of(argument)
        except TypeError:
            continue
    raise TypeError(f"no section in {annotation}")
