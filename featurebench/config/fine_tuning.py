"""The fine-tunes of the experiment file: an entry is a recipe, and lists in it are a sweep."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializationInfo,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from featurebench.config.heads import PositiveInt, Search, Section
from featurebench.config.paths import ModelName, Weights, relative_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from featurebench.finetuning import Recipe

# What an entry says besides its recipe; none of them is swept.
_OWN = ("name", "repeats", "seeds", "few_labels", "search", "varied")


class FineTuneConfig(Section):
    """A network trained on the pixels: what is not one of its keys is one of `Recipe`'s.

    Parameters
    ----------
    name
        Of the arm; the model, the strategy and what is varied if None.
    repeats
        Repeats of the plan that are run, at most; with fewer than two the test over folds has
        almost no power.
    seeds
        Trainings of every fold, each with draws of its own; the first is the arm, the others tell
        how much the draws matter.
    few_labels
        Whether it is trained on the smaller training sets of ``few_labels`` as well.
    search
        Where its recipe is searched if the file has a budget for searches, or False for not at
        all.
    varied
        Values of the keys that were lists where the file was read.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    model: ModelName
    weights: Weights = "hub"
    name: str | None = None
    repeats: PositiveInt = 3
    seeds: PositiveInt = 1
    few_labels: bool = False
    search: Search | None = None
    varied: Annotated[dict[str, Any], Field(repr=False)] = Field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Give the keys of the recipe, as they are written."""
        return {"model": self.model, "weights": self.weights, **(self.model_extra or {})}

    @property
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return _read_recipe(self.settings)

    @property
    def space(self) -> dict[str, Any]:
        """Where the recipe is searched if the file has a budget for searches; empty for not at all.

        By default that is what neither the entry nor its preset sets.
        """
        if self.search is False:
            return {}
        if self.search and self.search.space:
            return self.search.space
        from featurebench.finetuning import DEFAULT_SPACE, with_preset

        given = with_preset(self.settings)
        return {key: each for key, each in DEFAULT_SPACE.items() if key not in given}

    @field_validator("search", mode="before")
    @classmethod
    def _bare_search(cls, value: object) -> object:
        """Take a key with nothing behind it, or with true, for its defaults."""
        return {} if value is None or value is True else value

    @model_validator(mode="after")
    def _usable_recipe(self) -> Self:
        try:
            _read_recipe(self.settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in first["loc"])
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise ValueError(f"{where}{reason[0].lower()}{reason[1:]}") from None
        return self

    @model_serializer(mode="plain")
    def _in_full(self, info: SerializationInfo) -> dict[str, Any]:
        """Write out the whole recipe, without the preset that it came from.

        So the space of a search is written out, too: afterwards all keys are set.
        """
        own = {key: getattr(self, key) for key in _OWN if key in self.model_fields_set}
        if isinstance(self.search, Section):
            own["search"] = self.search.model_dump(exclude_none=True)
        if (info.context or {}).get("has_budget"):
            own["search"] = {"space": self.space} if self.space else False
        recipe = self.recipe.to_dict()
        recipe["weights"] = relative_weights(self.weights, info)
        return {**recipe, **own}


def _read_recipe(settings: Mapping[str, Any]) -> Recipe:
    from featurebench.finetuning import Recipe, check_keys, with_preset

    check_keys(settings)
    recipe: Recipe = TypeAdapter(Recipe).validate_python(with_preset(settings))
    return recipe


def expand(entries: object) -> object:
    """Turn every entry with lists into one entry per combination of their values.

    Parameters
    ----------
    entries
        As read from the file; anything but a list of mappings is left to be refused later.

    Returns
    -------
    object
        The list with the combinations in place of their entry, in the order of the keys, the last
        one varying fastest; each with the values that are its own under ``varied``.
    """
    if not isinstance(entries, list):
        return entries
    expanded: list[object] = []
    for entry in entries:
        expanded += _combinations(entry) if isinstance(entry, dict) else [entry]
    return expanded


def origins(entries: object) -> list[int]:
    """Give the place in the file of each entry that `expand` makes."""
    if not isinstance(entries, list):
        return []
    numbers = [
        [i] * (len(list(_combinations(entry))) if isinstance(entry, dict) else 1)
        for i, entry in enumerate(entries)
    ]
    return list(itertools.chain.from_iterable(numbers))


def varied_label(varied: Mapping[str, Any]) -> str:
    """Name a combination, such as ``learning_rate=0.001,epochs=5``."""
    return ",".join(f"{key}={value}" for key, value in varied.items())


def _combinations(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    swept = {
        key: value
        for key, value in entry.items()
        if isinstance(value, list) and key not in _OWN and value
    }
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        yield {**entry, **chosen, **({"varied": chosen} if chosen else {})}
