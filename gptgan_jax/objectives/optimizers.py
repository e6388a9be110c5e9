"""Optimisers by configuration, composed of Optax's."""

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import optax
from pydantic import model_validator

from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.types import path_name


@config_dataclass
class OptimizerConfig:
    """The optimiser of one of the two networks."""

    kind: Literal["adamw", "sgd"] = key("adamw", "AdamW (Adam if weight_decay is 0) or plain SGD")
    learning_rate: float = key(1e-3, "peak learning rate", gt=0)
    beta1: float = key(0.9, "decay of AdamW's first moment", ge=0, lt=1)
    beta2: float = key(0.999, "decay of AdamW's second moment", ge=0, lt=1)
    eps: float = key(1e-8, "AdamW's epsilon", gt=0)
    weight_decay: float = key(0.0, "decoupled weight decay, on matrices only", ge=0)
    warmup_steps: int = key(
        0, "updates of linear warm-up of the learning rate, from 1/(warmup_steps + 1) of its peak", ge=0
    )
    schedule: Literal["constant", "linear", "cosine"] = key("constant", "the learning rate after the warm-up")
    final_fraction: float = key(0.1, "final learning rate of linear and cosine, as a fraction of the peak", ge=0, le=1)
    clip_norm: float | None = key(1.0, "gradients are clipped to this global norm; null: off", gt=0)
    accumulate: int = key(1, "batches whose gradients are averaged for one update", ge=1)
    frozen: tuple[str, ...] = key((), "parameters that are not trained: path patterns, such as trunk/embedding/*")

    @model_validator(mode="after")
    def _check(self) -> "OptimizerConfig":
        if self.kind == "sgd" and self.weight_decay:
            raise ValueError("weight_decay is AdamW's; sgd has none")
        return self


def build_optimizer(
    config: OptimizerConfig, steps: int, learns: Callable[[str], bool] | None = None
) -> optax.GradientTransformation:
    """The optimiser for a phase of `steps` batches.

    Frozen parameters have no optimiser state, and their gradients don't count in the clipping norm.

    Args:
        config: of the optimiser.
        steps: number of batches; `config.accumulate` of them make one update.
        learns: whether the parameter at a path, such as trunk/embedding/table, is trained; by default all except those
            in `config.frozen`.
    """
    updates = max(steps // config.accumulate, 1)
    parts = [] if config.clip_norm is None else [optax.clip_by_global_norm(config.clip_norm)]
    if config.kind == "adamw":
        parts.append(optax.scale_by_adam(config.beta1, config.beta2, config.eps))
        if config.weight_decay:
            parts.append(optax.add_decayed_weights(config.weight_decay, _matrices))
    parts.append(optax.scale_by_learning_rate(_schedule(config, updates)))
    optimizer = optax.chain(*parts)
    if config.accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()
    if config.frozen or learns is not None:
        parts_of = {"learns": optimizer, "frozen": optax.set_to_zero()}
        optimizer = optax.multi_transform(parts_of, lambda params: _labels(params, config.frozen, learns))
    return optimizer


def learning_rate_at(config: OptimizerConfig, steps: int, done: int) -> float:
    """The learning rate of the update after `done` of a phase's `steps` batches; see `build_optimizer`."""
    schedule = _schedule(config, max(steps // config.accumulate, 1))
    # On the host, as the accelerator is busy with the next step.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return float(schedule(done // config.accumulate))


def unmatched(patterns: Sequence[str], params: optax.Params) -> list[str]:
    """The patterns of `frozen` that match no parameter's path."""
    paths = parameter_paths(params)
    return [pattern for pattern in patterns if not any(fnmatch.fnmatchcase(path, pattern) for path in paths)]


def parameter_paths(params: optax.Params) -> list[str]:
    """The path of every parameter, such as trunk/embedding/table."""
    return [path_name(path) for path, _ in jax.tree.leaves_with_path(params)]


def learning_count(params: optax.Params, patterns: Sequence[str], learns: Callable[[str], bool] | None = None) -> int:
    """The number of scalar parameters that are trained with these patterns of `frozen`; see `build_optimizer`."""
    labels = _labels(params, patterns, learns)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(labels), strict=True)
    return sum(x.size for x, label in pairs if label == "learns")


def _labels(params: optax.Params, patterns: Sequence[str], learns: Callable[[str], bool] | None) -> optax.Params:
    def label(path: tuple[Any, ...], _: jax.Array) -> str:
        name = path_name(path)
        frozen = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        return "frozen" if frozen or (learns is not None and not learns(name)) else "learns"

    return jax.tree.map_with_path(label, params)


def _schedule(config: OptimizerConfig, updates: int) -> optax.Schedule:
    peak, end = config.learning_rate, config.learning_rate * config.final_fraction
    remaining = max(updates - config.warmup_steps, 1)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, end, remaining),
        "cosine": lambda: optax.cosine_decay_schedule(peak, remaining, config.final_fraction),
    }[config.schedule]()
    if not config.warmup_steps:
        return after
    # The first update uses 1/(warmup+1) of the peak, as a rate of 0 would waste it.
    warmup = optax.linear_schedule(peak / (config.warmup_steps + 1), peak, config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def _matrices(params: optax.Params) -> optax.Params:
    """True for parameters with weight decay. Goes by name, as the biases of scanned layers have two axes too."""

    def decays(path: tuple[Any, ...], x: jax.Array) -> bool:
        return x.ndim > 1 and not (path and getattr(path[-1], "key", None) in ("bias", "scale"))

    return jax.tree.map_with_path(decays, params)
