"""Absolute paths for the files and folders that a configuration names."""

import dataclasses
import glob
import os
from typing import Any

from gptgan_jax.config.estimators import DistillConfig
from gptgan_jax.config.experiment import Config
from gptgan_jax.data.config import SPLITS, HfData, HfSource, MixtureData, OracleData, TextData, TextSource
from gptgan_jax.data.tokenizers import FileTokenizer
from gptgan_jax.pretrained.hub import from_the_root
from gptgan_jax.readers.files import FILE_FORMATS


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute file names, so that the run can be evaluated from any folder."""
    data, tokenizer = _data(config.data), config.tokenizer
    if isinstance(tokenizer, FileTokenizer):
        tokenizer = _absolute(tokenizer, "path")
    init_from = None if config.init_from is None else from_the_root(config.init_from)
    checkpoints, objective = _absolute(config.checkpoints, "folder"), config.objective
    if isinstance(objective.estimator, DistillConfig):
        estimator = _absolute(objective.estimator, "top_k_file")
        if estimator.teacher is not None:
            estimator = dataclasses.replace(estimator, teacher=from_the_root(estimator.teacher))
        objective = dataclasses.replace(objective, estimator=estimator)
    named = {"data": data, "tokenizer": tokenizer, "init_from": init_from, "checkpoints": checkpoints}
    return dataclasses.replace(config, objective=objective, **named)


def _data(data: Any) -> Any:
    """A section of data, or a source of a mixture."""
    if isinstance(data, MixtureData):
        return dataclasses.replace(_absolute(data, "store"), sources=tuple(map(_data, data.sources)))
    if isinstance(data, HfData | HfSource):
        if data.path in FILE_FORMATS:
            data = _absolute_files(data, *SPLITS, *(["unlabelled"] if isinstance(data, HfData) else []))
        elif os.path.isdir(data.path):
            data = _absolute(data, "path")
    elif isinstance(data, TextData | TextSource):
        data = _absolute_files(data, *SPLITS)
    elif isinstance(data, OracleData):
        data = _absolute(data, "path")
    return _absolute(data, "store") if isinstance(data, TextData | HfData) else data


def _absolute(section: Any, *names: str) -> Any:
    return dataclasses.replace(section, **{name: _from_root(getattr(section, name)) for name in names})


def _absolute_files(section: Any, *names: str) -> Any:
    return dataclasses.replace(section, **{name: _files_from_root(getattr(section, name)) for name in names})


def _from_root(path: str | None) -> Any:
    # An empty name must not become the working directory.
    return path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))


def _files_from_root(path: str | tuple[str, ...] | None) -> Any:
    """The same of a file's name, a glob, or several."""
    if isinstance(path, tuple):
        return tuple(map(_files_from_root, path))
    absolute = _from_root(path)
    if not path or path == absolute or not glob.has_magic(path) or os.path.exists(absolute):
        return absolute
    # The name is a pattern, and the folder that it starts from is not, even with brackets in its own name.
    name = path.partition("/")[2] if path.startswith("~") else path
    folder = os.path.expanduser(path).removesuffix(name) or os.getcwd()
    return os.path.normpath(os.path.join(glob.escape(folder), name))
