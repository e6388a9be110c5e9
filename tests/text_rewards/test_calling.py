"""What a reward function is given, what it may give, and how it is told of what goes wrong; here and in processes."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from text_rewards import reward_examples

from gptgan_jax.errors import UserError
from gptgan_jax.text_rewards.calling import Call, Texts, Timed
from gptgan_jax.text_rewards.host import HostReward, host_reward
from gptgan_jax.text_rewards.workers import Workers

MANY = [f"{'word ' * (i % 5)}{i}" for i in range(37)]


def call(function: Any, *texts: str, per_token: bool = False, **options: Any) -> Any:
    tokens = [[1] * len(text) for text in texts]
    return Call("mine", function, options, per_token)(Texts(list(texts), tokens=tokens))


def whole() -> Texts:
    numbers = list(range(len(MANY)))
    return Texts(MANY, ["p" * i for i in numbers], ["r" * (i % 3) for i in numbers], {"n": numbers}, [[0]] * len(MANY))


def test_a_function_is_given_what_it_names_and_its_options() -> None:
    assert Call("w", reward_examples.words).takes == ()
    assert call(reward_examples.words, "a b", "", scale=2.0) == [4.0, 0.0]
    every = Call("e", reward_examples.everything)
    assert set(every.takes) == {"prompts", "references", "columns", "tokens"}
    assert every(whole())[4] == len(MANY[4]) + 40 + 100 + 4000 + 10000
    assert Call("k", lambda texts, **more: [len(more)] * len(texts)).takes == every.takes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scales": 2}, "unexpected keyword argument 'scales'; its options are scale"),
        ({"texts": []}, "multiple values"),
    ],
)
def test_options_that_a_function_does_not_take_are_refused_before_it_is_called(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Call("w", reward_examples.words, options).check()
    with pytest.raises(UserError, match=said):
        host_reward(reward_examples.words, str, options=options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0], "reward mine gave 1 numbers for 2 texts"),
        (3.0, "reward mine gave float, and should give a list with a number for each text"),
        (None, "reward mine gave NoneType, and should give a list"),
        ([1.0, float("nan")], "reward mine gave nan for the text 'second'"),
        ([1.0, float("-inf")], "reward mine gave -inf for the text 'second'"),
        ([1.0, 1e300], r"reward mine gave 1e\+300 for the text 'second'"),
        ([1.0, "high"], "reward mine gave 'high', which is no number, for the text 'second'"),
        ([1.0, None], "reward mine gave None, which is no number, for the text 'second'"),
        ([1.0, 1j], "which is no number, for the text 'second'"),
    ],
)
def test_anything_but_finite_numbers_for_the_texts_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        call(lambda texts: given, "first", "second")


@pytest.mark.parametrize("given", [np.array([1, 0]), (True, False), [np.float32(1), np.int64(0)], np.array([1.0, 0.0])])
def test_any_list_of_numbers_will_do(given: Any) -> None:
    found = call(lambda texts: given, "a", "b")
    assert found == [1.0, 0.0]
    assert all(type(number) is float for number in found)


def test_a_number_a_token_is_a_list_for_each_text() -> None:
    assert call(lambda texts, tokens: [range(len(ids)) for ids in tokens], "abc", "a", per_token=True) == [
        [0, 1, 2],
        [0],
    ]
    with pytest.raises(UserError, match="gave 0 numbers for the 3 tokens of the text 'abc'"):
        call(lambda texts: [0.5, 0.5], "abc", "a", per_token=True)
    with pytest.raises(UserError, match="gave nan for the text 'a'"):
        call(lambda texts: [[0.0] * 3, [float("nan")]], "abc", "a", per_token=True)


def test_a_function_that_fails_names_the_text_that_did_it_shortened() -> None:
    with pytest.raises(UserError, match="reward mine failed at the text '': ZeroDivisionError: division by zero"):
        call(reward_examples.inverse, "a", "", "b")
    with pytest.raises(UserError) as told:
        call(reward_examples.numbers, "1", "x" * 500)
    assert "…" in str(told.value)
    assert len(str(told.value)) < 500
    with pytest.raises(UserError, match="failed at 2 texts together, from 'a' on: IndexError"):
        call(lambda texts: (texts[5:] and texts) or [0.0] if len(texts) == 1 else [texts[5]], "a", "b")


def test_a_function_that_takes_too_long_names_the_text() -> None:
    with pytest.raises(UserError, match=r"took longer than its timeout of 0\.3 seconds, at the text 'slow'"):
        Timed(Call("late", reward_examples.in_a_hurry), 0.3)(Texts(["a", "slow", "b"]))
    assert Timed(Call("late", reward_examples.words), 60)(Texts(["a b"])) == [2.0]
    with pytest.raises(UserError, match="reward i failed at the text ''"):
        Timed(Call("i", reward_examples.inverse), 60)(Texts([""]))


def test_a_function_that_took_too_long_is_not_called_again_until_it_has_returned() -> None:
    """It need not be thread-safe."""
    go, started = threading.Event(), []

    def waiting(texts: list[str]) -> list[float]:
        started.append(threading.current_thread())
        assert go.wait(60)
        return [0.0] * len(texts)

    reward = HostReward(Call("late", waiting), lambda ids: "", timeout=0.2)
    for text in "abc":
        with pytest.raises(UserError, match=r"took longer than its timeout of 0\.2 seconds, at the text 'a'"):
            reward.values(Texts([text]))
    assert len(started) == 1
    go.set()
    started[0].join(60)
    assert reward.values(Texts(["d"])) == [0.0]
    assert len(started) == 2


# ---- processes


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    workers = Workers(Call("every", reward_examples.everything), 2)
    yield workers
    workers.close()


def test_workers_give_what_one_process_gives_in_the_same_order(two: Workers) -> None:
    alone = Call("every", reward_examples.everything)
    for texts in (whole(), whole().part(3, 5), whole().part(0, 1)):
        assert two(texts, None) == alone(texts)


@pytest.mark.thorough
@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("function", "texts", "said"),
    [
        (reward_examples.inverse, ["a", "b", ""], "reward mine failed at the text '': ZeroDivisionError"),
        (reward_examples.in_a_hurry, ["a", "slow"], "took longer than its timeout of 10 seconds, at the text 'slow'"),
        (reward_examples.dying, ["a", "b"], r"a worker process ended \(exit status 3\) at the texts from '[ab]' on"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_and_ends_it(function: Any, texts: list[str], said: str) -> None:
    workers = Workers(Call("mine", function), 1)
    processes = [process for process, _ in workers.pairs]
    with pytest.raises(UserError, match=said):
        workers(Texts(texts), 10.0)
    assert not any(process.is_alive() for process in processes)


def test_after_a_failure_the_next_call_has_new_workers() -> None:
    reward = HostReward(Call("mine", reward_examples.inverse), lambda ids: "", workers=1, timeout=60)
    for _ in range(2):
        with pytest.raises(UserError, match="reward mine failed at the text ''"):
            reward.values(Texts(["ab", ""]))
        assert reward.values(Texts(["ab", "a"])) == [0.5, 1.0]
    reward.close()


@pytest.mark.thorough
def test_a_function_of_no_module_can_have_no_workers() -> None:
    with pytest.raises(UserError, match="workers need a function of a module that can be imported"):
        Workers(Call("mine", lambda texts: [0.0] * len(texts)), 1)
