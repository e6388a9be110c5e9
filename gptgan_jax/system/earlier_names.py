"""Modules that moved: their earlier names can still be imported for one version, with a warning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "gptgan_jax"
# To be removed in version 0.3.
MOVED = {
    "chat": "workflows.chat",
    "combinations": "config.compatibility",
    "comparing": "workflows.comparison",
    "config_files": "config.files",
    "data.boundaries": "readers.boundaries",
    "data.byte_pairs": "tokenization.byte_pairs",
    "data.cells": "readers.cells",
    "data.chat_templates": "tokenization.chat_templates",
    "data.conversations": "readers.conversations",
    "data.files": "readers.files",
    "data.grammar": "sources.grammar",
    "data.grammar_labels": "sources.grammar_labels",
    "data.grammar_tasks": "sources.grammar_tasks",
    "data.labelled_batches": "data.batches",
    "data.length_buckets": "data.batches",
    "data.oracle": "sources.oracle",
    "data.pcfg": "sources.pcfg",
    "data.readers": "readers.documents",
    "data.rendered_text": "tokenization.rendered_text",
    "data.row_files": "readers.row_files",
    "data.row_sources": "readers.row_sources",
    "data.special_tokens": "tokenization.special_tokens",
    "data.token_texts": "tokenization.token_texts",
    "data.tokenizer": "tokenization.tokenizer",
    "data.units": "tokenization.units",
    "distilling": "workflows.distillation",
    "estimators.baselines": "gradients.baselines",
    "estimators.configs": "config.estimators",
    "estimators.families": "gradients.families",
    "estimators.policy_gradients": "gradients.policy_gradients",
    "evaluation.answers": "metrics.exact_match",
    "evaluation.baselines": "evaluation.inherited",
    "evaluation.class_scores": "metrics.class_scores",
    "evaluation.classification": "metrics.class_scores",
    "evaluation.classifier": "scoring.classifier",
    "evaluation.distances": "metrics.distances",
    "evaluation.divergences": "metrics.divergences",
    "evaluation.estimates": "metrics.estimates",
    "evaluation.files": "evaluation.without_run",
    "evaluation.held_out_likelihood": "scoring.held_out_likelihood",
    "evaluation.judge": "scoring.judge",
    "evaluation.language_model": "scoring.language_model",
    "evaluation.likelihood": "scoring.held_out_likelihood",
    "evaluation.ngrams": "metrics.ngrams",
    "evaluation.pace": "generation.pace",
    "evaluation.pretrained": "evaluation.without_run",
    "evaluation.residual": "scoring.residual",
    "evaluation.sizes": "generation.batch_sizes",
    "evaluation.summaries": "metrics.rouge",
    "evaluation.tasks": "scoring.tasks",
    "evaluation.texts": "generation.texts",
    "evaluation.two_sample": "scoring.two_sample",
    "hosts": "distributed.hosts",
    "interop.card": "export.card",
    "interop.export": "export.folders",
    "interop.families": "pretrained.families",
    "interop.hub": "pretrained.hub",
    "interop.huggingface": "pretrained.huggingface",
    "interop.layouts": "pretrained.layouts",
    "interop.names": "pretrained.names",
    "interop.sampler": "export.sampler",
    "interop.saved_model": "export.saved_model",
    "interop.stablehlo": "export.stablehlo",
    "interop.weights": "pretrained.weights",
    "interruptions": "system.interruptions",
    "inverse_cdf": "sampling.categorical",
    "models.attention": "layers.attention",
    "models.chunked_likelihood": "layers.chunked_likelihood",
    "models.convolution": "layers.convolution",
    "models.initializers": "layers.initializers",
    "models.layers": "layers.dense",
    "models.lora": "layers.lora",
    "models.rotary": "layers.rotary",
    "models.spectral_norm": "layers.spectral_norm",
    "objectives.baselines": "gradients.baselines",
    "objectives.estimator_configs": "config.estimators",
    "objectives.estimators": "gradients.families",
    "objectives.policy_gradients": "gradients.policy_gradients",
    "objectives.relaxation": "estimators.gumbel",
    "objectives.self_play": "estimators.spin",
    "optimizers": "objectives.optimizers",
    "partitioning": "distributed.partitioning",
    "ranges": "schema.ranges",
    "reports.frontiers": "reports.frontier_plots",
    "rows": "distributed.rows",
    "running": "workflows.run",
    "runs.bases": "checkpoints.bases",
    "runs.checkpoints": "checkpoints.manager",
    "runs.checksums": "checkpoints.checksums",
    "runs.full_disk": "training.full_disk",
    "runs.keeping": "checkpoints.retention",
    "runs.sealing": "checkpoints.atomic_save",
    "streaming": "generation.streaming",
    "terminal": "system.terminal",
    "training.game": "algorithms.game",
    "training.gan": "algorithms.gan",
    "training.skipping": "algorithms.guards",
    "trees": "models.trees",
    "whole_files": "system.atomic_files",
}
# Packages that no longer exist, whose modules are forwarded.
_ROOMS = {name.rpartition(".")[0] for name in MOVED if "." in name}


class _Forwarding(Loader):
    """A module with the attributes of another, which is imported on first access."""

    def __init__(self, target: str | None) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own empty module."""

    def exec_module(self, module: ModuleType) -> None:
        target = self._target
        if target is None:
            return
        warnings.warn(
            f"{module.__name__} is now {target}; the earlier name will be removed in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )

        def attribute(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(importlib.import_module(target), name)

        module.__dict__["__getattr__"] = attribute
        module.__dict__["__dir__"] = lambda: dir(importlib.import_module(target))


class _Finder(MetaPathFinder):
    """Finds the earlier names if Python has found no module of that name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE:
            return None
        if name in MOVED:
            return ModuleSpec(fullname, _Forwarding(f"{PACKAGE}.{MOVED[name]}"))
        if name in _ROOMS:
            return ModuleSpec(fullname, _Forwarding(None), is_package=True)
        return None


def install() -> None:
    """Makes the earlier names importable; further calls do nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
