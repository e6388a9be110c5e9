"""Reward functions by configuration: the function, its weight, and the data that it is given."""

import dataclasses
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.objectives.text_rewards import RewardFunction, TextReward, linear_schedule
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.schema.ranges import REWARD_WEIGHT
from gptgan_jax.text_rewards.calling import Call, Function, signature_of
from gptgan_jax.text_rewards.functions import BUILT_IN, NEEDS_WHOLE_STEP, bleu
from gptgan_jax.text_rewards.host import HostReward, Lookup
from gptgan_jax.tokenization.units import unit_for

# The number of training texts from which a unit is chosen.
LOOKED_AT = 1000


@config_dataclass
class ScheduleConfig:
    """How a weight changes: a factor that moves linearly from one number to another and then stays there."""

    start: float = key(1.0, "factor of the weight at the first step of the phase")
    end: float = key(..., "factor of the weight at the end")
    steps: int = key(..., "steps of the phase until the end value is reached", ge=1)


@config_dataclass
class RewardConfig:
    """A reward computed from the texts by a function."""

    function: str = key(
        ..., "module:name of a Python function, or exact_answer, length, pattern, bleu, grammatical, ...", min_length=1
    )
    name: str = key("", "name of its metric, reward/NAME; default: the function's name")
    weight: float = key(1.0, "weight in the generator's reward; 0: only measured", REWARD_WEIGHT)
    schedule: ScheduleConfig | None = key(None, "how the weight changes during the phase; null: constant")
    options: dict[str, Any] = key(dict, "other arguments of the function")
    per_token: bool = key(False, "the function returns a list for each text, one number per token")
    workers: int = key(0, "processes that share the texts; 0: only the training process", ge=0, le=256)
    timeout: float = key(60.0, "time limit for the texts of a step, in seconds", gt=0, le=1e6)

    def __hash__(self) -> int:
        # A dict has no hash; equal sections have equal functions and names.
        return hash((self.function, self.name))

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.function.rpartition(":")[2]

    @property
    def is_built_in(self) -> bool:
        """Whether the function is part of this package; such code is trusted wherever the configuration comes from."""
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
        """The function with its options. Imports the module of a user's function.

        Raises:
            UserError: it can't be imported, or has no such function.
        """
        return Call(self.called, self._function(), self.options, self.per_token)

    def _function(self) -> Function:
        if self.is_built_in:
            return BUILT_IN[self.function]
        module, _, name = self.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # a user's module may raise anything
            raise UserError(
                f"objective.rewards: function {self.function!r} should be module:name and importable: {error}"
            ) from error
        if not callable(found):
            raise UserError(f"objective.rewards: {self.function} is {type(found).__name__}, and should be a function")
        return found

    def text_reward(self, function: RewardFunction) -> TextReward:
        """The function with its weight and schedule, for a game."""
        schedule = self.schedule
        factor = None if schedule is None else linear_schedule(schedule.start, schedule.end, schedule.steps)
        return TextReward(self.called, function, self.weight, factor)


class _Prompts:
    """The text of each prompt of a split, computed on access."""

    def __init__(self, split: TokenisedSplit, tokenizer: AnyTokenizer) -> None:
        self.split, self.tokenizer = split, tokenizer

    def __getitem__(self, row: int, /) -> str:
        return self.split.prompt_text(row, self.tokenizer)


class HostRewards:
    """The reward functions of a run during training.

    Attributes:
        functions: by name.
        train: the training text. Its batches contain document numbers if a function needs more of the documents than
            batches have.
    """

    def __init__(self, configs: Sequence[RewardConfig], tokenizer: AnyTokenizer, train: TokenisedSplit) -> None:
        """Imports the functions; starts no process.

        Args:
            configs: of the functions.
            tokenizer: of the texts.
            train: the training text.

        Raises:
            UserError: one can't be imported, has other options, or takes columns and the data names none.
        """
        calls = {config.called: _with_unit(config.call(), tokenizer, train) for config in configs}
        lookup = None
        # Prompts are never decoded from a batch, where they have BOS (or the token before a window) and markup.
        if configs and (
            train.columns or train.answers is not None or any("prompts" in c.takes for c in calls.values())
        ):
            lookup = Lookup(train.columns, _Prompts(train, tokenizer), train.answers)
        self.train = train if lookup is None else dataclasses.replace(train, numbered=True)
        self.functions: dict[str, HostReward] = {
            config.called: HostReward(
                calls[config.called], tokenizer.decode, lookup, config.workers, config.timeout, raises=False
            )
            for config in configs
        }
        for name, call in calls.items():
            if not train.columns and "columns" in signature_of(call.function):
                raise UserError(
                    f"objective.rewards: {name} takes columns; name those that it needs in data.reward_columns"
                )

    def check(self) -> None:
        """Raises UserError if a function has failed; the step that called it was skipped."""
        for function in self.functions.values():
            if function.error is not None:
                raise function.error

    def close(self) -> None:
        """Ends the worker processes."""
        for function in self.functions.values():
            function.close()


def _with_unit(call: Call, tokenizer: AnyTokenizer, train: TokenisedSplit) -> Call:
    """The call with the unit of all training text, if it is left open: the texts of a step may look different."""
    if call.function is not bleu or call.options.get("unit", "auto") != "auto":
        return call
    some = range(0, len(train), max(len(train) // LOOKED_AT, 1))
    texts = [tokenizer.decode(train.targets[i].tolist()) for i in some]
    prompts = [train.prompt_text(i, tokenizer) for i in some] if train.prompts is not None else []
    unit = unit_for("auto", texts, prompts, own=tokenizer.own_unit)
    return dataclasses.replace(call, options={**call.options, "unit": unit})


def unpaid(configs: Sequence[RewardConfig]) -> Mapping[str, RewardFunction]:
    """Rewards of 0 in place of the functions, for programs that generate no text, such as those only compiled."""
    import jax.numpy as jnp

    def nothing(written: Any, batch: Any) -> Any:
        return jnp.zeros(written.mask.shape[0], jnp.float32)

    return {config.called: nothing for config in configs}
