"""A run during training: what is constant through its phases, and the state from which each of them starts."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.algorithms.gan import Gan
from gptgan_jax.algorithms.guards import skipping
from gptgan_jax.algorithms.learning import Frozen, split
from gptgan_jax.checkpoints.atomic_save import START
from gptgan_jax.checkpoints.bases import Base
from gptgan_jax.checkpoints.manager import Checkpoints, state_bytes
from gptgan_jax.checkpoints.steps import absolute
from gptgan_jax.config import LIKELIHOOD, PHASES, Phase
from gptgan_jax.config.choosing import (
    SAMPLE_FIGURES,
    TASK_ERROR,
    VALIDATION_FIGURES,
    choice_of,
    is_known,
    unknown_figure,
)
from gptgan_jax.config.estimators import build_estimator
from gptgan_jax.data.batches import batch_at
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.packing import Rows, packed_split, stored_rows
from gptgan_jax.distributed.hosts import is_main
from gptgan_jax.errors import UserError
from gptgan_jax.generation.pace import Pause, unpaused
from gptgan_jax.generation.texts import Drawing, TextWriter
from gptgan_jax.gradients.families import PolicyGradient
from gptgan_jax.layers.lora import with_adapters, without_adapters
from gptgan_jax.metrics.class_scores import classes_told_by
from gptgan_jax.mixtures.rows import MixedRows, TextRows
from gptgan_jax.mixtures.splits import of_each, parts_of
from gptgan_jax.models.discriminator_networks import TransformerDiscriminatorConfig
from gptgan_jax.models.leakgan import LeakganConfig
from gptgan_jax.models.shared_trunk import begun_from, share_trunk
from gptgan_jax.models.trees import joined, parameter_summary, without
from gptgan_jax.objectives.optimizers import learning_count
from gptgan_jax.runs.experiment import Experiment
from gptgan_jax.runs.folder import RunFolder, check_disk
from gptgan_jax.runs.pretrained import load_teacher, taught_text
from gptgan_jax.runs.records import check_available
from gptgan_jax.runs.start import read_start
from gptgan_jax.scoring.choice import SampleFigure
from gptgan_jax.scoring.held_out_likelihood import likelihood_of
from gptgan_jax.scoring.tasks import GREEDY, Task
from gptgan_jax.text_rewards.config import HostRewards
from gptgan_jax.training.beginning import Traced, absent
from gptgan_jax.training.phases import build_gan, check_batch_sizes, check_frozen, metric_names, what_learns
from gptgan_jax.training.sharding import Placement
from gptgan_jax.types import GanState, Params, Player


class Run:
    """The constants of a run, so that its phases need not pass them around."""

    def __init__(self, experiment: Experiment, folder: RunFolder, say: Callable[[str], None]) -> None:
        self.experiment = experiment
        self.config = experiment.config
        self.folder = folder
        self.say = say
        self.placement = Placement.of(self.config.mesh)
        self.is_main = is_main()
        players, axis_name = (experiment.generator, experiment.discriminator), self.placement.axis_name
        text = taught_text(self.config, experiment.train)
        self.text_rewards = HostRewards(self.config.objective.rewards, experiment.tokenizer, text)
        functions = self.text_rewards.functions or None
        self.teacher = load_teacher(self.config, experiment.tokenizer) if self.config.adversarial.steps else None
        teacher = None if self.teacher is None else self.teacher.generator
        self.gans: dict[Phase, Gan] = {
            phase: skipping(build_gan(self.config, phase, *players, axis_name, functions, teacher)) for phase in PHASES
        }
        self.targets: dict[Phase, GanState] = {}
        self._step_figures: dict[Phase, set[str]] = {}
        self.has_evaluated = False
        self.example = jax.tree.map(np.asarray, experiment.example_batch())
        evaluation = self.config.evaluation
        self.held_out = likelihood_of(experiment.generator)
        self.classified = classes_told_by(experiment.discriminator)
        self.drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
        self.sampler = TextWriter(
            experiment.generator, experiment.tokenizer, self.config.data.max_length, evaluation.shown
        )
        self.answerer = TextWriter(
            experiment.generator, experiment.tokenizer, self.config.data.max_length, evaluation.batch_size
        )
        shown = experiment.valid.subset(np.arange(min(evaluation.shown, len(experiment.valid))))
        self.prompts = shown.first_prompts(len(shown))
        self.prompt_texts = shown.prompt_texts(experiment.tokenizer) if experiment.conditional else []
        self.choice = choice_of(evaluation.choose_by)
        by_answers = evaluation.choose_by == "task" or (self.choice is not None and self.choice.name == TASK_ERROR)
        self.task = self._task() if by_answers else None
        self.figure: SampleFigure | None = None
        if self.choice is not None and self.choice.name in SAMPLE_FIGURES:
            of_run = (experiment.valid, experiment.tokenizer, experiment.corpus.source, self.answerer, self.held_out)
            self.figure = SampleFigure(self.choice, self.config, *of_run)

    @functools.cached_property
    def packed(self) -> Rows | MixedRows | None:
        """The text of likelihood training in packed rows; None if each row is one text."""
        packing = self.config.likelihood.packing
        if packing == "none":
            return None
        experiment, data = self.experiment, self.config.data
        train, stores = experiment.train, experiment.stores
        texts = sum(store.documents for store in stores) or len(train)
        parts: list[Rows] = [
            stored_rows(store, packing, experiment.generator.vocabulary, data.max_length, data.attend_across, self.say)
            for store in stores
        ]
        if not stores:
            splits = [train] if train.sources is None else parts_of(train)
            parts = [packed_split(split, packing, data.attend_across) for split in splits]
        rows = parts[0] if train.sources is None else MixedRows(parts, train.sources.weights)
        self.say(
            f"likelihood training on {len(rows):,} packed rows of {texts:,} texts ({packing}); the discriminator is "
            "trained on one text per row"
        )
        return rows

    @functools.cached_property
    def mixed(self) -> MixedRows | None:
        """The training text of a mixture, one text per row; None if it is not a mixture."""
        train = self.text_rewards.train
        if train.sources is None:
            return None
        return MixedRows([TextRows(split) for split in parts_of(train)], train.sources.weights)

    @functools.cached_property
    def validated(self) -> TokenisedSplit:
        """The validation text that is scored during training; of a mixture, equally many texts of each source."""
        most, valid = self.config.evaluation.max_texts, self.experiment.valid
        return valid.subset(np.arange(min(len(valid), most))) if valid.sources is None else of_each(valid, most)

    # ---- the phases in global steps

    def first_step(self, phase: Phase) -> int:
        """The number of global steps before the phase."""
        return sum(self.config.steps(earlier) for earlier in PHASES[: PHASES.index(phase)])

    def last_step(self, phase: Phase) -> int:
        return self.first_step(phase) + self.config.steps(phase)

    # ---- states

    def new_state(self, key: jax.Array) -> GanState:
        return self.gans["likelihood"].init(key, self.example)

    @functools.cached_property
    def traced(self) -> Traced:
        """`new_state`, traced once for all its uses."""
        return Traced(self.new_state)

    @property
    def has_twin(self) -> bool:
        """Whether the discriminator starts from the generator's Transformer."""
        discriminator = self.config.discriminator
        return isinstance(discriminator, TransformerDiscriminatorConfig) and discriminator.from_generator

    def first_state(self) -> GanState:
        """The initial state of the run: new parameters, except for Transformers that come from elsewhere.

        A discriminator that will start from the generator has its Transformer from the beginning; none is initialised.
        """
        key = jax.random.key(self.config.seed)
        if self.config.init_from is None and not self.has_twin:
            return self.placement.born(self.new_state, key)
        new, generator = self._new_parts(key), self.first_generator()
        if self.has_twin and self.adapts:
            # It shares all that the generator does not train; the warm-up will copy what the discriminator trains.
            networks = self.config.generator.lora, self.config.discriminator
            discriminator = begun_from(generator, new.discriminator.params, *networks, will_begin=True)
        elif self.has_twin:
            discriminator = share_trunk(without_adapters(generator), new.discriminator.params)
        else:
            discriminator = self.placement.born(lambda key: self.new_state(key).discriminator.params, key)
            if isinstance(self.config.generator, LeakganConfig):  # whose goals are directions among these features
                discriminator |= generator["network"]["leaked"]
        step = jnp.int32(0)
        state = GanState(
            step, new.key, step, Player(generator, None), Player(discriminator, None), estimator=None, reference=None
        )
        return self.placement.begun(self.gans["likelihood"], state, self.example)

    def first_generator(self) -> Params:
        """The generator of `first_state`."""
        key = jax.random.key(self.config.seed)
        if self.config.init_from is None:
            return self.placement.born(lambda key: self.new_state(key).generator.params, key)
        target = without_adapters(self.target("likelihood").generator.params)
        if not self.adapts:
            return read_start(self.folder.checkpoints_of(self.config), target)
        moving, still = split(self.base.params(target), self.gans["likelihood"].learning.generator)
        base = joined(jax.tree.map(jnp.copy, moving), still)
        return with_adapters(base, self._new_parts(key).generator.params)

    def _new_parts(self, key: jax.Array) -> GanState:
        """What of `new_state` no Transformer provides: adapters, a discriminator's head, the key; else shapes."""
        shapes = self.traced.shapes
        generator, discriminator = shapes.generator.params, shapes.discriminator.params
        nothing = jax.tree.map(lambda _: False, shapes)
        new_of_generator, new_of_discriminator = nothing.generator.params, nothing.discriminator.params
        if self.config.init_from is not None:
            new_of_generator = absent(generator, without_adapters(generator))
        if self.has_twin:
            new_of_discriminator = absent(discriminator, {"trunk": without_adapters(discriminator["trunk"])})
        wanted = nothing.replace(
            key=True,
            generator=nothing.generator.replace(params=new_of_generator),
            discriminator=nothing.discriminator.replace(params=new_of_discriminator),
        )
        return self.traced.some(key, wanted)

    @property
    def adapts(self) -> bool:
        """Whether only adapters of the generator are trained, on top of a frozen base."""
        return self.config.generator.lora.rank > 0

    @functools.cached_property
    def base(self) -> Base:
        """The weights that the generator's adapters modify; one copy serves the whole run."""
        return Base(absolute(self.folder.checkpoints_of(self.config)) / START, alone=False)

    def sharing(self, phase: Phase, state: GanState) -> GanState:
        """A restored state with the base's arrays as its frozen parameters, and with the teacher's parameters."""
        state = self.taught(phase, state)
        learning = self.gans[phase].learning
        if not self.adapts:
            return state
        base = split(self.base.params(without_adapters(state.generator.params)), learning.generator)[1]
        own = learning.frozen(state).discriminator
        if phase in LIKELIHOOD:  # the discriminator's Transformer is not used yet
            own = without(own, {"trunk": base["trunk"]}, lambda mine, other: True) if self.has_twin else own
        return learning.whole(learning.only(state), Frozen(base, {}, {}, own, state.teacher))

    def taught(self, phase: Phase, state: GanState) -> GanState:
        """The state with the teacher's parameters, split over the devices, if the phase has a teacher."""
        if self.teacher is None or phase != "adversarial":
            return state
        start = self.teacher.start
        self.say(f"distilling from {start.source}")
        return state.replace(teacher=start.params(self.placement.target(start.shapes)))

    def read_start(self) -> Params | None:
        """The other run's or model's parameters that this run starts from, split over the devices; or None."""
        if self.experiment.start is None:
            return None
        return self.experiment.start.params(without_adapters(self.target("likelihood").generator.params))

    def target(self, phase: Phase) -> GanState:
        """The phase's state as shape structs with shardings; computed once."""
        if phase not in self.targets:
            shapes = jax.eval_shape(self.gans[phase].begin, self.traced.shapes, self.example)
            self.targets[phase] = self.placement.target(shapes)
        return self.targets[phase]

    def begin(self, phase: Phase, state: GanState, checkpoints: Checkpoints) -> GanState:
        """The initial state of a phase: new optimisers and, up to the warm-up, the best generator by likelihood."""
        if phase != "likelihood" and int(state.step) <= self.last_step("continued"):
            params = self.likelihood_generator(state, checkpoints)
            state = state.replace(generator=state.generator.replace(params=params))
            if self.has_twin and not (self.adapts and phase in LIKELIHOOD):
                networks = self.config.generator.lora, self.config.discriminator
                params = begun_from(state.generator.params, state.discriminator.params, *networks)
                state = state.replace(discriminator=state.discriminator.replace(params=params))
        return self.placement.begun(self.gans[phase], self.taught(phase, state), self.example)

    def likelihood_generator(self, state: GanState, checkpoints: Checkpoints) -> Params:
        """The generator of the best readable likelihood checkpoint by validation; the initial one without that phase.

        Raises:
            UserError: no checkpoint of the phase can be read, and the state is past the phase's end.
        """
        if not self.config.likelihood.steps:
            return self.first_generator()
        checkpoints.wait()
        for saved in checkpoints.ranked("likelihood"):
            if saved.step == int(state.step):
                return state.generator.params
            try:
                params = checkpoints.restore(saved, self.target("likelihood")).generator.params
            except Exception as error:
                self.say(f"warning: likelihood checkpoint of step {saved.step} can't be read ({error}); trying another")
                continue
            self.say(f"taking the generator of the best likelihood checkpoint, step {saved.step}")
            return params
        if int(state.step) == self.last_step("likelihood"):
            return state.generator.params
        raise UserError(f"{checkpoints.folder}: no likelihood checkpoint can be read; start again with another --name")

    def shown_texts(self, params: Params, pause: Pause = unpaused) -> list[str]:
        """The lines of samples.txt, for the same prompts and keys on every call."""
        count = self.config.evaluation.shown
        written = self.sampler(params, self.config.seed, count, self.drawing, self.prompts, pause)
        if self.prompts is None:
            return written.texts
        asked = itertools.cycle(self.prompt_texts)
        return [f"{prompt} -> {text}" for prompt, text in zip(asked, written.texts, strict=False)]

    def _task(self) -> Task:
        """The validation prompts and their right answers."""
        evaluation, valid = self.config.evaluation, self.experiment.valid
        assert evaluation.task is not None
        asked = valid.subset(np.arange(min(len(valid), evaluation.max_texts)))
        texts = self.experiment.train, self.experiment.tokenizer
        return Task(evaluation.task, asked, *texts, word_for_word=self.config.infilling is not None)

    def task_error(self, params: Params, pause: Pause = unpaused) -> float | None:
        """The error of greedy answers to validation prompts; None if no checkpoint is chosen by it."""
        if self.task is None:
            return None
        prompts = self.task.asked.first_prompts(len(self.task))
        written = self.answerer(params, self.config.seed, len(self.task), GREEDY, prompts, pause)
        return self.task.error(written.texts)

    # ---- the run

    def check_resources(self) -> None:
        check_batch_sizes(self.config, self.placement)
        self.check_minibatches()
        check_available(self.config.records)
        state = self.target("likelihood")
        check_frozen(self.config, state.generator.params, state.discriminator.params)
        self.check_choice()
        if isinstance(where := self.folder.checkpoints_of(self.config), Path):
            check_disk(where, self.checkpoint_bytes(), max(self.state_sizes()))
        if self.config.checkpoints.folder is not None:
            check_disk(self.folder.path, 0)

    def checkpoint_bytes(self) -> int:
        """The most that the run's checkpoints take: in each phase the latest few, the best and one being written."""
        start = 0 if self.experiment.start is None else state_bytes(self.experiment.start.shapes)
        return sum(self.state_sizes()) * (self.config.checkpoints.keep + 2) + start

    def state_sizes(self) -> list[int]:
        """Bytes of a checkpoint of each phase that has steps."""
        return [state_bytes(self.gans[p].learning.only(self.target(p))) for p in PHASES if self.config.steps(p)]

    def check_minibatches(self) -> None:
        """Raises UserError if a minibatch can't be split evenly over the devices, which pmap requires."""
        estimator = build_estimator(self.config.objective.estimator, 1)
        if self.placement.axis_name is None or not isinstance(estimator, PolicyGradient):
            return
        if self.config.steps("adversarial"):
            rows = self.config.batch_size("adversarial") * estimator.samples // estimator.minibatches
            self.placement.check_batch_size("a minibatch of adversarial.batch_size * samples / minibatches =", rows)

    def step_figures(self, phase: Phase) -> set[str]:
        """The names of the metrics that the steps of a phase record."""
        if phase not in self._step_figures:
            players = self.experiment.generator, self.experiment.discriminator
            batch = batch_at(self.text_rewards.train, self.config.seed, 0, self.config.rows(phase))
            shapes, functions, teacher = self.traced.shapes, self.text_rewards.functions, None
            if self.teacher is not None:
                shapes, teacher = shapes.replace(teacher=self.teacher.start.shapes), self.teacher.generator
            self._step_figures[phase] = metric_names(self.config, phase, players, shapes, batch, functions, teacher)
        return self._step_figures[phase]

    def chosen_step_figure(self, phase: Phase) -> str | None:
        """The metric of a phase's steps by which its checkpoints are chosen; None if another figure chooses them."""
        choice = self.choice
        if choice is None or is_known(choice.name) or phase == "warmup":
            return None
        return choice.name if choice.name in self.step_figures(phase) else None

    def check_choice(self) -> None:
        """Raises UserError if the figure that chooses checkpoints is not recorded."""
        choice = self.choice
        if choice is None or choice.name in VALIDATION_FIGURES:
            return
        if self.figure is not None:
            self.figure.check()
            return
        recorded: dict[Phase, set[str]] = {phase: self.step_figures(phase) for phase in ("likelihood", "adversarial")}
        phases = [phase for phase, names in recorded.items() if choice.name in names]
        if not phases:
            raise UserError(unknown_figure(self.config, choice, set().union(*recorded.values())))
        if not any(map(self.config.steps, phases)):
            self.say(f"note: phase {phases[0]}, which records {choice.name}, has no steps: likelihood is used instead")

    def summary(self) -> Iterator[str]:
        """One line each for the generator, the discriminator and the text."""
        experiment, state = self.experiment, self.target("likelihood")
        for role, network, params, learns in (
            ("generator", self.config.generator, state.generator.params, what_learns(self.config)[0]),
            ("discriminator", self.config.discriminator, state.discriminator.params, what_learns(self.config)[1]),
        ):
            adapted = "" if learns is None else f", of which {learning_count(params, (), learns):,} learn (LoRA)"
            yield f"{role}: {network.kind}, {parameter_summary(params)}{adapted}"
        yield (
            f"text: {len(experiment.train):,} for training, {len(experiment.valid):,} for validation, "
            f"vocabulary {experiment.generator.vocabulary.size:,}; {self.placement}"
        )
