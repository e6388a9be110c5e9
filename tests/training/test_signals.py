"""A wish to stop is noted; among several processes JAX's preemption service says after which step."""

import os
import signal

import pytest

from gptgan_jax.training import signals
from gptgan_jax.training.signals import CutShort, StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert not stop.received()
        stop.check()
        os.kill(os.getpid(), number)
        assert stop.received()
        with pytest.raises(CutShort):
            stop.check()
        assert stop.name == signal.Signals(number).name
    assert signal.getsignal(number) == before


def test_a_second_interrupt_interrupts_at_once() -> None:
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_several_processes_stop_at_the_place_that_they_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM is left to the service, which is asked at each place; its answer is the only one that counts."""
    asked: list[int] = []

    def reached(step: int) -> bool:
        asked.append(step)
        return step == 4

    monkeypatch.setattr(signals.multihost_utils, "reached_preemption_sync_point", reached)
    theirs = signal.getsignal(signal.SIGTERM)
    with StopSignals(processes=2) as stop:
        assert signal.getsignal(signal.SIGTERM) == theirs
        answers = [stop.received() for _ in range(5)]
        assert stop.name == "SIGTERM"
    assert answers == [False, False, False, True, True]
    assert asked == [1, 2, 3, 4]


def test_an_interrupt_of_one_of_several_processes_becomes_a_notice_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    try:
        with StopSignals(processes=2):
            os.kill(os.getpid(), signal.SIGINT)
            assert noted == [signal.SIGTERM]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
