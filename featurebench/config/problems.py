"""What is wrong with an experiment file, in words."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from featurebench.config.sections import ExperimentConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def describe_problem(error: Mapping[str, Any], fine_tunes: Sequence[int] = ()) -> str:
    """Say in one clause what pydantic found; an unknown key with the nearest known one.

    Parameters
    ----------
    error
        One of those of a `pydantic.ValidationError`.
    fine_tunes
        Place in the file of each fine-tune, of which an entry with lists makes several.
    """
    location = [part for part in error["loc"] if not str(part).startswith("(")]
    if location[:1] == ["finetune"] and location[1:] and fine_tunes:
        location[1] = fine_tunes[int(location[1])]
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
    place = f"{where}: " if where else ""
    return f"{place}{message[0].lower()}{message[1:]}{shown}"


def _known_keys(location: list[str | int]) -> list[str]:
    """Keys of the section at a location; positions and names of entries lead into the entry."""
    model: type[BaseModel] = ExperimentConfig
    for part in location:
        if part in model.model_fields:
            model = _section_of(model.model_fields[str(part)].annotation)
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
