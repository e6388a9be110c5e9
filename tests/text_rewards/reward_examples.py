"""Functions of a module, as workers need them."""

import os
import time
from typing import Any


def words(texts: list[str], scale: float = 1.0) -> list[float]:
    return [scale * len(text.split()) for text in texts]


def everything(
    texts: list[str],
    prompts: list[str],
    references: list[str],
    columns: dict[str, list[Any]],
    tokens: list[list[int]],
) -> list[float]:
    return [
        len(text) + 10 * len(prompt) + 100 * len(real) + 1000 * value + 10000 * len(ids)
        for text, prompt, real, value, ids in zip(texts, prompts, references, columns["n"], tokens, strict=True)
    ]


def inverse(texts: list[str]) -> list[float]:
    return [1 / len(text) for text in texts]


def numbers(texts: list[str]) -> list[float]:
    return [float(text) for text in texts]


def in_a_hurry(texts: list[str]) -> list[float]:
    for text in texts:
        if text == "slow":
            time.sleep(60)
    return [0.0] * len(texts)


def dying(texts: list[str]) -> list[float]:
    os._exit(3)


def prompted(texts: list[str], prompts: list[str]) -> list[float]:
    return [float(bool(prompt)) for prompt in prompts]
