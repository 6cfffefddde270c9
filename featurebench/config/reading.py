"""From the experiment file to its models and back: YAML, ``--set`` and the plain dict."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from featurebench.config.fine_tuning import origins
from featurebench.config.problems import describe_problem
from featurebench.config.sections import ExperimentConfig
from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_BYTES = 1_000_000


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
    experiments = load_experiments(path, overrides)
    if len(experiments) > 1:
        raise ConfigError(
            f"{path.name} has {len(experiments)} splits: {', '.join(experiments)}; choose one"
        )
    return next(iter(experiments.values()))


def load_experiments(path: Path, overrides: Iterable[str] = ()) -> dict[str, ExperimentConfig]:
    """Read a file that may split its tiles in several ways: one experiment for each.

    Where ``splits`` holds named sections instead of one section's keys, every name is an
    experiment of its own, with folders of its own below the file's ``output``; they share the
    store.

    Parameters
    ----------
    path, overrides
        As in `load_config`.

    Returns
    -------
    dict
        Experiments by the name of their splits; one, under the file's name, if there is one way.

    Raises
    ------
    ConfigError
        As `load_config`.
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
    base = path.resolve().parent
    return {key: parse_config(each, base, path.name) for key, each in _by_splits(document).items()}


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
        written = origins(document.get("finetune"))
        # A mistake in an entry with lists is there in all its combinations.
        problems = dict.fromkeys(describe_problem(e, written) for e in error.errors())
        raise ConfigError(f"{source}: {'; '.join(problems)}") from None
    config._base = base
    return config


def dump_config(config: ExperimentConfig, base: Path) -> dict[str, Any]:
    """Plain dict of the whole configuration, every default written out, paths relative to base."""
    context = {"base": base, "has_budget": config.search is not None}
    return config.model_dump(mode="json", context=context)


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


def _by_splits(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give one document for each named section of ``splits``; the document itself without names."""
    splits, name = document.get("splits"), document["name"]
    if not isinstance(splits, dict) or not splits:
        return {str(name): document}
    if not all(isinstance(section, dict) for section in splits.values()):
        return {str(name): document}
    documents = {}
    for key, section in splits.items():
        output = document["output"]
        if isinstance(output, dict):
            output = output | {at: f"{output[at]}/{key}" for at in ("results", "reports")}
        documents[str(key)] = document | {
            "name": f"{name}-{key}",
            "splits": section,
            "output": output,
        }
    return documents


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
