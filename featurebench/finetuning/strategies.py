"""Strategies: which parameters of a network learn, and in which epoch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurebench.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from featurebench.finetuning.stages import Stage

# As they are written in an experiment file, in order of how much learns.
FORMS = ("head", "last:N", "from:STAGE", "lora", "gradual", "lp-ft", "full", "scratch")
_PLAIN = tuple(form for form in FORMS if ":" not in form)


@dataclass(frozen=True)
class Strategy:
    """How much of a network learns.

    ``head`` trains the classifier on frozen features; ``last:N`` the last N stages and the
    classifier; ``from:STAGE`` a stage or module and all that follows; ``gradual`` begins with
    the classifier and adds a stage at a time from the top (Howard and Ruder 2018, ULMFiT);
    ``lp-ft`` all of it, starting from the linear probe's solution (Kumar et al. 2022); ``lora``
    low-rank adapters beside frozen weights (Hu et al. 2022) and the classifier; ``full`` all;
    ``scratch`` all, from random weights.

    Parameters
    ----------
    name
        ``head``, ``last``, ``from``, ``gradual``, ``lp-ft``, ``lora``, ``full`` or ``scratch``.
    argument
        N of ``last:N``, STAGE of ``from:STAGE``, else None.
    """

    name: str
    argument: str | int | None = None

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Read a strategy as it is written in an experiment file.

        Parameters
        ----------
        text
            One of `FORMS`, with a number from 1 for N and a module's name for STAGE.

        Raises
        ------
        ConfigError
            If there is no such strategy, naming the nearest and all there are.
        """
        if text in _PLAIN:
            return cls(text)
        name, colon, argument = text.partition(":")
        if name == "last" and argument.isdecimal() and argument.isascii() and int(argument) >= 1:
            return cls(name, int(argument))
        if name == "from" and argument and argument == argument.strip():
            return cls(name, argument)
        if name == "last" and colon:
            raise ConfigError(
                f"strategy {text!r} cannot be used: N of last:N is a whole number from 1"
            )
        raise ConfigError(f"strategy {text!r} does not exist: {_nearest(text)}")

    @property
    def text(self) -> str:
        """As it is written: ``last:2``."""
        return self.name if self.argument is None else f"{self.name}:{self.argument}"

    @property
    def random_start(self) -> bool:
        """Whether training starts from random weights."""
        return self.name == "scratch"

    @property
    def probe_start(self) -> bool:
        """Whether the classifier starts as the linear probe's solution."""
        return self.name == "lp-ft"

    def check(self, network: nn.Module) -> None:
        """Refuse a network that the strategy does not apply to.

        Raises
        ------
        ConfigError
            Naming the stages that there are; for ``lora`` if no layer can take an adapter.
        WeightsError
            If the network has no classification layer.
        """
        if self.name == "lora":
            # it imports a good deal that no other strategy needs
            from featurebench.finetuning.adapters import lora_targets

            lora_targets(network)
        self.learning(network, 1)

    def learning(
        self, network: nn.Module, epoch: int, *, unfreeze_every: int = 1
    ) -> frozenset[str]:
        """Name the parameters that learn in an epoch.

        Parameters
        ----------
        network
            With a classification layer; for ``lora`` after its adapters were added.
        epoch
            Counted from 1.
        unfreeze_every
            Epochs after which ``gradual`` adds a stage.

        Returns
        -------
        frozenset of str
            Names as in ``network.named_parameters()``.

        Raises
        ------
        ConfigError
            As `check`.
        """
        # it imports timm, which reading a strategy does not need
        from featurebench.finetuning.stages import stages_of

        stages = stages_of(network)
        if self.name == "from":
            return _from_module(network, stages, str(self.argument))
        if self.name == "lora":
            adapters = {name for name, _ in network.named_parameters() if _is_adapter(name)}
            return frozenset(adapters.union(stages[-1].parameters))
        n_stages = {
            "head": 0,
            "last": int(self.argument or 0),
            "gradual": min((epoch - 1) // unfreeze_every, len(stages) - 1),
        }.get(self.name, len(stages) - 1)
        if n_stages > len(stages) - 1:
            raise ConfigError(
                f"strategy {self.text!r} needs {n_stages} stages before the classifier: "
                f"this network has {len(stages) - 1} ({_listed(stages)})"
            )
        return _together(stages[len(stages) - 1 - n_stages :])


def ever_learning(
    network: nn.Module, strategy: Strategy, epochs: int, unfreeze_every: int = 1
) -> frozenset[str]:
    """Name the parameters that learn in any of the epochs: those an optimiser has to hold."""
    return strategy.learning(network, epochs, unfreeze_every=unfreeze_every)


def set_learning(network: nn.Module, names: frozenset[str]) -> None:
    """Let exactly these parameters take gradients."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)


def set_modes(network: nn.Module) -> None:
    """Put what learns into training mode and all that is frozen into inference mode.

    So the statistics of batch normalisation, dropout and stochastic depth of frozen parts are
    as in inference. A module without parameters, such as dropout, goes with the parameters
    defined next after it, for it works on what they are given. Call it at each epoch's start.

    Parameters
    ----------
    network
        After `set_learning`.
    """
    network.train()
    modules = list(network.modules())
    next_learns = True
    frozen = []
    for module in reversed(modules):
        inside = [parameter.requires_grad for parameter in module.parameters()]
        if not (any(inside) if inside else next_learns):
            frozen.append(module)
        own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
        next_learns = any(own) if own else next_learns
    for module in frozen:
        module.eval()


def _from_module(network: nn.Module, stages: tuple[Stage, ...], start: str) -> frozenset[str]:
    """Gather the named stage, or what follows the named module's start, and all later stages."""
    for place, stage in enumerate(stages):
        if stage.name == start:
            return _together(stages[place:])
    following = _following(network, start)
    for place, stage in enumerate(stages):
        if following and following[0] in stage.parameters:
            return _together(stages[place + 1 :]).union(set(stage.parameters) & set(following))
    raise ConfigError(
        f"strategy 'from:{start}' names no stage or module of this network: "
        f"its stages are {_listed(stages)}"
    )


def _following(network: nn.Module, start: str) -> list[str]:
    """Name the parameters from a module's first on, in the order of their definition.

    A module without parameters, such as an activation, begins at the next that has some.
    """
    modules = [name for name, _ in network.named_modules()]
    if not start or start not in modules:
        return []
    later = set(modules[modules.index(start) :])
    return [name for name, _ in network.named_parameters() if name.rpartition(".")[0] in later]


def _together(stages: tuple[Stage, ...]) -> frozenset[str]:
    return frozenset(name for stage in stages for name in stage.parameters)


def _is_adapter(parameter: str) -> bool:
    return any(part.startswith("lora_") for part in parameter.split("."))


def _listed(stages: tuple[Stage, ...]) -> str:
    return ", ".join(stage.name for stage in stages)


def _nearest(text: str) -> str:
    known = ", ".join(FORMS)
    stem = text.partition(":")[0].strip().lower()
    names = {form.partition(":")[0]: form for form in FORMS}
    near = difflib.get_close_matches(stem, names, n=1, cutoff=0.5)
    return f"did you mean {names[near[0]]!r}? There are {known}" if near else f"use {known}"
