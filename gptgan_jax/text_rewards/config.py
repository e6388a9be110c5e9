"""Reward functions by configuration: which function, what it weighs, and what of the data it sees."""

import dataclasses
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.text_rewards import RewardFunction, TextReward, linear_schedule
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.schema.ranges import REWARD_WEIGHT
from gptgan_jax.text_rewards.calling import Call, Function, signature_of
from gptgan_jax.text_rewards.functions import BUILT_IN, NEEDS_WHOLE_STEP
from gptgan_jax.text_rewards.host import Decode, HostReward, Lookup


@config_dataclass
class ScheduleConfig:
    """How a weight changes: a factor that goes in equal steps from one number to another, where it stays."""

    start: float = key(1.0, "factor of the weight at the first step of the phase")
    end: float = key(..., "factor of the weight in the end")
    steps: int = key(..., "steps of the phase until then", ge=1)


@config_dataclass
class RewardConfig:
    """A reward by a function of the texts."""

    function: str = key(
        ..., "module:name of a Python function, or exact_answer, length, pattern, bleu, grammatical, ...", min_length=1
    )
    name: str = key("", "what its figures are called, reward/NAME; default: the function's name")
    weight: float = key(1.0, "of it in what the generator is paid; 0: measured, not paid", REWARD_WEIGHT)
    schedule: ScheduleConfig | None = key(None, "how the weight changes in the phase; none: it stays")
    options: dict[str, Any] = key(dict, "other arguments of the function")
    per_token: bool = key(False, "the function gives a list for each text, a number a token")
    workers: int = key(0, "processes that share the texts; 0: the one that trains", ge=0, le=256)
    timeout: float = key(60.0, "seconds that it may take for the texts of a step", gt=0, le=1e6)

    def __hash__(self) -> int:
        # A dict has no hash; equal sections have equal functions and names.
        return hash((self.function, self.name))

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.function.rpartition(":")[2]

    @property
    def is_built_in(self) -> bool:
        """Whether the function is of this package: such code is trusted wherever the configuration lies."""
        return ":" not in self.function

    @model_validator(mode="after")
    def _check(self) -> "RewardConfig":
        if self.is_built_in and self.function not in BUILT_IN:
            raise ValueError(
                f"function {self.function!r} is none of {', '.join(BUILT_IN)}; one of your own is written module:name"
            )
        if not re.fullmatch(r"[\w.-]+", self.called):
            raise ValueError(f"name {self.called!r} should be letters, digits, dots, hyphens and underscores")
        if self.function in NEEDS_WHOLE_STEP and self.workers and not self.options.get("alone"):
            raise ValueError(
                f"{self.function} compares with the real texts of all prompts, which no worker sees: set options "
                "{alone: true} (the one of its own prompt), or workers 0"
            )
        if self.is_built_in:
            self.call().check()
        return self

    def call(self) -> Call:
        """The function with its options. This imports the module of a function of the user's.

        Raises:
            UserError: it can't be imported, or there is no such function in it.
        """
        return Call(self.called, self._function(), self.options, self.per_token)

    def _function(self) -> Function:
        if self.is_built_in:
            return BUILT_IN[self.function]
        module, _, name = self.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # the module is the user's, and may raise anything
            raise UserError(
                f"objective.rewards: function {self.function!r} should be module:name and importable: {error}"
            ) from error
        if not callable(found):
            raise UserError(f"objective.rewards: {self.function} is {type(found).__name__}, and should be a function")
        return found

    def text_reward(self, function: RewardFunction) -> TextReward:
        """With its weight and schedule, as a game takes it."""
        schedule = self.schedule
        factor = None if schedule is None else linear_schedule(schedule.start, schedule.end, schedule.steps)
        return TextReward(self.called, function, self.weight, factor)


class HostRewards:
    """The reward functions of a run, while it trains.

    Attributes:
        functions: by their names.
        train: the text that prompts are of, whose batches say which documents they are where a function is told more
            of them than is in a batch.
    """

    def __init__(self, configs: Sequence[RewardConfig], decode: Decode, train: TokenisedSplit) -> None:
        """Imports them, and starts nothing.

        Args:
            configs: of the functions.
            decode: token ids -> text.
            train: the text that prompts are of.

        Raises:
            UserError: one can't be imported, has other options, or takes columns where none are named.
        """
        lookup = None
        # The rows of a mixture are not numbered: prompts and references are decoded there.
        if (
            configs
            and train.sources is None
            and (train.columns or train.answers is not None or train.asked is not None)
        ):
            lookup = Lookup(train.columns, train.asked, train.answers)
        self.train = train if lookup is None else dataclasses.replace(train, numbered=True)
        self.functions: dict[str, HostReward] = {
            config.called: HostReward(config.call(), decode, lookup, config.workers, config.timeout, raises=False)
            for config in configs
        }
        for config in configs:
            if not train.columns and "columns" in signature_of(config.call().function):
                raise UserError(
                    f"objective.rewards: {config.called} takes columns; name those that it needs in data.reward_columns"
                )

    def check(self) -> None:
        """Raises UserError where one of them has failed; a step that asked it was left out."""
        for function in self.functions.values():
            if function.error is not None:
                raise function.error

    def close(self) -> None:
        """Ends their processes."""
        for function in self.functions.values():
            function.close()


def unpaid(configs: Sequence[RewardConfig]) -> Mapping[str, RewardFunction]:
    """In place of the functions where no text is written, as in a program that is only compiled: 0 for every text."""
    import jax.numpy as jnp

    def nothing(written: Any, batch: Any) -> Any:
        return jnp.zeros(written.mask.shape[0], jnp.float32)

    return {config.called: nothing for config in configs}
