"""A whole configuration: all sections in one frozen dataclass, checked for consistency. `files` reads and writes it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError, model_validator

from gptgan_jax.config.choosing import problems_of_choice
from gptgan_jax.config.compatibility import check_combination
from gptgan_jax.config.sections import PHASES, Phase, Sections
from gptgan_jax.data.config import GrammarData, MixtureData
from gptgan_jax.models.discriminator_networks import CnnConfig, TransformerDiscriminatorConfig
from gptgan_jax.models.transformer_config import TransformerConfig
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.schema import config_dataclass


@config_dataclass
class Config(Sections):
    """One experiment."""

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if problems := list(self._problems()):
            raise ValueError("\n".join(problems))
        check_combination(self)
        resampled = self.init_from and self.objective.residual_candidates
        if not self.likelihood.steps and not self.adversarial.steps and not resampled and not self.classifies:
            raise ValueError("likelihood.steps and adversarial.steps are both 0: nothing would train the generator")
        return self

    def _problems(self) -> Iterator[str]:
        """What does not go together, one line each; each check is independent of the others."""
        if self.name in (".", "..") or "/" in self.name or "\\" in self.name:
            yield f"name {self.name!r} must be a plain folder name; runs_folder says where it is made"
        yield from self._problems_of_places()
        needed = 1 + self.data.max_prompt_length + self.data.max_length
        for role, network in (("generator", self.generator), ("discriminator", self.discriminator)):
            if isinstance(network, TransformerConfig) and network.max_positions < needed:
                yield (
                    f"{role}.max_positions {network.max_positions} is less than 1 + data.max_prompt_length "
                    f"{self.data.max_prompt_length} + data.max_length {self.data.max_length}; make it >= {needed}"
                )
        for phase in PHASES:
            yield from self._problems_of_updates(phase)
        if 0 < self.steps("continued") < self.likelihood.optimizer.accumulate:
            yield (
                f"continued.steps {self.steps('continued')} (adversarial.steps where it is null) is less than "
                f"likelihood.optimizer.accumulate {self.likelihood.optimizer.accumulate}: the baseline would make no "
                "update; set it to 0 to go without, or higher"
            )
        if isinstance(self.discriminator, TransformerDiscriminatorConfig) and self.discriminator.from_generator:
            yield from self._problems_of_shared_trunk(self.discriminator)
        if is_model(self.init_from) and self.init_checkpoint != "likelihood":
            yield (f"init_checkpoint {self.init_checkpoint} is of a run, and init_from names a model; drop the key")
        data = self.data
        if isinstance(data, GrammarData) and data.task is not None and (data.label is not None or data.label_prompts):
            yield f"data.task {data.task} has prompts of its own and no labels; drop it, or data.label"
        if self.evaluation.task is not None and not self.conditional:
            yield (
                f"evaluation.task {self.evaluation.task} measures answers to prompts: set data.prompt_column "
                "(data.kind hf), data.task (data.kind grammar) or data.infilling.share, or drop it"
            )
        if self.evaluation.best_of and self.conditional:
            yield (
                "evaluation.best_of needs text without prompts, as the likelihood of the likeliest of several texts is "
                "another for every prompt; set it to 0"
            )
        yield from problems_of_choice(self)
        if getattr(data, "answer_column", None) is not None and self.evaluation.task not in ("summary", "answer"):
            yield (
                "data.answer_column has right answers, which evaluation.task summary or answer measures by: set one of "
                "them, or drop the column"
            )
        pays_answers = any(reward.function == "exact_answer" for reward in self.objective.rewards)
        if isinstance(data, MixtureData) and data.answer_column is not None and pays_answers:
            yield (
                "objective.rewards: exact_answer compares with the texts of a mixture, not with its answer_column; "
                "train on one source (data.kind hf), or make the right answer the text_column"
            )

    def _problems_of_places(self) -> Iterator[str]:
        """Only checkpoints can be in a bucket: anywhere else its name would be that of a local folder."""
        for key, folder in (("runs_folder", self.runs_folder), ("data.store", getattr(self.data, "store", None))):
            if folder is not None and "://" in folder:
                yield (
                    f"{key} {folder} is no folder of this machine: mount the bucket and name a folder in it; only "
                    "checkpoints.folder may be gs://BUCKET/..."
                )
        checkpoints = self.checkpoints.folder or ""
        if "://" in checkpoints and not checkpoints.startswith("gs://"):
            yield (
                f"checkpoints.folder {checkpoints} should be a folder or gs://BUCKET/...; mount another bucket and "
                "name a folder in it"
            )

    def _problems_of_updates(self, phase: Phase) -> Iterator[str]:
        """A phase must be long enough for its optimizers to make an update at the full learning rate."""
        section = getattr(self, phase)
        for name in ("optimizer", "generator_optimizer", "discriminator_optimizer"):
            optimizer = getattr(section, name, None)
            if optimizer is None or section.steps == 0:
                continue
            calls = section.steps * self._calls_a_step(name)
            if calls < optimizer.accumulate:
                yield f"{phase}.{name}.accumulate {optimizer.accumulate} is more than its {calls} steps"
                continue
            if optimizer.warmup_steps >= calls // optimizer.accumulate:
                yield (
                    f"{phase}.{name}.warmup_steps {optimizer.warmup_steps} leaves no update at the full learning rate: "
                    f"the phase makes {calls // optimizer.accumulate}"
                )

    def _calls_a_step(self, name: str) -> int:
        """How often a step calls one of its optimizers."""
        if name == "discriminator_optimizer":
            return self.adversarial.discriminator_updates
        estimator = self.objective.estimator if name == "generator_optimizer" else None
        return getattr(estimator, "epochs", 1) * getattr(estimator, "minibatches", 1)

    def _problems_of_shared_trunk(self, discriminator: TransformerDiscriminatorConfig) -> Iterator[str]:
        if not isinstance(self.generator, TransformerConfig) or self.generator.encoder_layers:
            yield "discriminator.from_generator needs a decoder-only transformer as generator"
            return
        free = {"kind", "dropout", "dtype", "attention", "remat", "tied_embeddings", "lora"}
        free |= {"kv_heads", "head_width", "mlp_width"}  # compared by what they come to
        names = [field.name for field in dataclasses.fields(self.generator) if field.name not in free]
        for name in (*names, "key_value_heads", "head_size", "mlp_size"):
            mine, theirs = getattr(discriminator, name), getattr(self.generator, name)
            if mine != theirs:
                yield (
                    f"discriminator.from_generator needs the generator's network: discriminator.{name} is {mine}, "
                    f"generator.{name} is {theirs}; drop the first, or set both alike"
                )
                return


# Keys that a discriminator that starts from the generator does not take over.
_OWN_OF_A_TWIN = ("kind", "encoder_layers", "tied_embeddings", "dropout", "lora")


def with_twin(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A raw configuration in which a network that contains another one's has its keys.

    Of a discriminator that starts from the generator they are the generator's, of a generator that reads a CNN's
    features they are that discriminator's. Keys that are given are kept; `Config` checks that they agree.
    """
    generator, discriminator = raw.get("generator"), raw.get("discriminator")
    if isinstance(generator, Mapping) and generator.get("kind") == "leakgan":
        theirs, own = discriminator or {}, generator.get("leaked") or {}
        if not isinstance(theirs, Mapping) or not isinstance(own, Mapping) or theirs.get("kind", "cnn") != "cnn":
            return raw
        names = {field.name for field in dataclasses.fields(CnnConfig)} - {"kind", "dropout"}
        leaked = {name: value for name, value in theirs.items() if name in names}
        return {**raw, "generator": {**generator, "leaked": {"kind": "cnn", **leaked, "dropout": 0.0, **own}}}
    if (
        not isinstance(generator, Mapping)
        or not isinstance(discriminator, Mapping)
        or discriminator.get("kind") != "transformer"
    ):
        return raw
    try:
        twin = TypeAdapter(bool).validate_python(discriminator.get("from_generator", False))
    except ValidationError:  # reported where the key is checked
        return raw
    if not twin or generator.get("kind", "transformer") != "transformer":
        return raw
    names = {field.name for field in dataclasses.fields(TransformerConfig)} - {*_OWN_OF_A_TWIN}
    shared = {name: value for name, value in generator.items() if name in names}
    return {**raw, "discriminator": {**shared, **discriminator}}
