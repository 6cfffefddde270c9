"""The heads of the experiment file: a name, a head, its parameters, its views and its search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

if TYPE_CHECKING:
    from pydantic import SerializerFunctionWrapHandler

PositiveInt = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the experiment file: frozen, and without unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class SearchConfig(Section):
    """The budget of every searched arm; parameters of `featurebench.heads.SearchPlan`."""

    method: Literal["tpe", "random", "grid"] = "tpe"
    trials: PositiveInt | None = 20
    seconds: Annotated[float, Field(gt=0)] | None = None


class FewLabelsConfig(Section):
    """Smaller training sets; parameters of `featurebench.evaluation.FewLabels`.

    ``heads`` are the entries that a curve is drawn of, all but the prior if None.
    """

    patients: list[PositiveInt] = Field(default_factory=list)
    tiles: list[PositiveInt] = Field(default_factory=list)
    shots: list[PositiveInt] = Field(default_factory=list)
    patient_shots: list[PositiveInt] = Field(default_factory=list)
    draws: PositiveInt = 5
    inner: Annotated[int, Field(ge=2)] = 3
    seed: Annotated[int, Field(ge=0)] = 0
    heads: list[str] | None = None

    @model_validator(mode="after")
    def _some_size(self) -> Self:
        if not (self.patients or self.tiles or self.shots or self.patient_shots):
            raise ValueError("no sizes: give patients, tiles, shots or patient_shots")
        return self


class ViewsConfig(Section):
    """What the stored views of the tiles are used for; see `featurebench.evaluation.Views`."""

    train: bool = True
    average: bool = True

    @model_validator(mode="after")
    def _some_use(self) -> Self:
        if not self.train and not self.average:
            raise ValueError("train and average are both false: leave views out")
        return self


class HeadSearchConfig(Section):
    """Where one head is searched; its entry of `featurebench.heads.DEFAULT_SPACES` if None."""

    space: Annotated[dict[str, Any], Field(min_length=1)] | None = None


def _kind_of_search(value: object) -> str:
    return "(off)" if isinstance(value, bool) else "(on)"


# The tags stand in errors' locations, where brackets tell them from keys.
Search = Annotated[
    Annotated[Literal[False], Tag("(off)")] | Annotated[HeadSearchConfig, Tag("(on)")],
    Discriminator(_kind_of_search),
]


class HeadConfig(Section):
    """One entry of ``heads``: what is not one of its keys is a parameter of the head.

    Parameters
    ----------
    head
        Name in `featurebench.heads.HEADS`; the entry's own name if None.
    views
        How the arm uses stored views; None for the tiles as they are alone.
    search
        Where the head is searched if the file has a budget for searches, or False for not at all.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    head: Annotated[str, Field(min_length=1)] | None = None
    views: ViewsConfig | None = None
    search: Search | None = None

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the head, as they are written."""
        return dict(self.model_extra or {})

    @field_validator("views", "search", mode="before")
    @classmethod
    def _bare_key(cls, value: object) -> object:
        """Take a key with nothing behind it, or with true, for its defaults."""
        return {} if value is None or value is True else value

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys that nobody gave; a parameter given as null stays."""
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}
