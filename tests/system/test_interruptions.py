"""A signal that the main thread doesn't act on ends the process, but not in the midst of what must not be cut.

Each test is a process of its own, which sends signals to itself. `stuck()` waits in C and runs no Python, as where a
program compiles.
"""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import gptgan_jax

MODULE = Path(gptgan_jax.__file__).parent / "system" / "interruptions.py"
BEGIN = f"""
import ctypes, os, signal, sys, threading, time
sys.path.insert(0, {str(MODULE.parent)!r})
import interruptions
from interruptions import Watch, as_process, obeyed

interruptions.GRACE_SECONDS, interruptions.AGAIN_SECONDS = 0.3, 0.1

def stuck():
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)

def soon(*numbers):
    def send():
        for number in numbers:
            time.sleep(0.1)
            os.kill(os.getpid(), number)
    threading.Thread(target=send, daemon=True).start()

def note(*_):
    pass

signal.signal(signal.SIGTERM, note)
INT, TERM = signal.SIGINT, signal.SIGTERM
"""


def run(script: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a process."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_stuck_process_ends_with_the_line_of_its_last_act() -> None:
    status, out, said = run("""
        with Watch(lambda number: f"last act of {number}"):
            soon(TERM)
            stuck()
    """)
    assert (status, out, said) == (128 + signal.SIGTERM, "", "gptgan: last act of 15\n")


def test_a_last_act_that_fails_doesnt_keep_it() -> None:
    status, _, said = run("""
        with Watch(lambda number: 1 / 0):
            soon(INT)
            stuck()
    """)
    assert (status, said) == (128 + signal.SIGINT, "gptgan: stopped by SIGINT\n")


def test_who_acts_in_time_goes_on() -> None:
    status, out, said = run("""
        with Watch(lambda number: "ended") as watch:
            os.kill(os.getpid(), TERM)
            while not watch.pending: time.sleep(0.01)
            watch.obeyed()
            assert not watch.pending
            time.sleep(0.6)
            print("went on")
        time.sleep(0.6)
        os.kill(os.getpid(), TERM)
        time.sleep(0.6)
        print("and on")
    """)
    assert (status, out, said) == (0, "went on\nand on\n", "")


def test_what_must_not_be_cut_is_brought_to_its_end_and_time_begins_anew_after_it() -> None:
    status, out, _ = run("""
        with Watch(lambda number: "ended") as watch:
            with watch.uncut():
                os.kill(os.getpid(), TERM)
                time.sleep(1.0)
                print("saved", flush=True)
            time.sleep(0.1)
            print("still there", flush=True)
            stuck()
    """)
    assert (status, out) == (128 + signal.SIGTERM, "saved\nstill there\n")


def test_a_second_interrupt_waits_for_nothing() -> None:
    status, out, _ = run("""
        signal.signal(INT, note)
        with Watch(lambda number: "ended") as watch, watch.uncut():
            soon(INT, INT)
            stuck()
    """)
    assert (status, out) == (128 + signal.SIGINT, "")


def test_the_inner_one_counts_and_the_outer_one_after_it() -> None:
    status, out, said = run("""
        with Watch(lambda number: "outer"):
            with Watch(lambda number: "inner") as inner:
                os.kill(os.getpid(), TERM)
                while not inner.pending: time.sleep(0.01)
            time.sleep(0.6)
            print("went on", flush=True)
            soon(TERM)
            stuck()
    """)
    assert (status, out, said) == (128 + signal.SIGTERM, "went on\n", "gptgan: outer\n")


def test_a_command_that_is_interrupted_ends_though_threads_go_on() -> None:
    status, _, said = run("""
        def command():
            threading.Thread(target=time.sleep, args=(3600,)).start()  # Python waits for it at its end
            soon(INT)
            try:
                time.sleep(3600)
            except KeyboardInterrupt:
                print("interrupted by Python", file=sys.stderr)
                return 130

        sys.exit(as_process(command))
    """)
    assert (status, said) == (130, "interrupted by Python\n")


def test_an_interrupt_that_was_to_end_something_else_ends_no_command() -> None:
    status, out, _ = run("""
        def command():
            for _ in range(2):
                soon(INT)
                try:
                    time.sleep(3600)
                except KeyboardInterrupt:
                    obeyed()
            time.sleep(0.6)
            print("went on")
            return 3

        sys.exit(as_process(command))
    """)
    assert (status, out) == (3, "went on\n")


def test_outside_of_the_main_thread_it_does_nothing() -> None:
    status, out, _ = run("""
        def work():
            with Watch(lambda number: "ended") as watch, watch.uncut():
                print("done")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        obeyed()
    """)
    assert (status, out) == (0, "done\n")


def test_a_notice_stands_for_a_signal_that_python_doesnt_see() -> None:
    """As of JAX's preemption service, whose handler is C's: what was there before is called as well."""
    status, out, said = run("""
        import faulthandler
        watch = Watch(lambda number: f"ended by {number}")
        seen = []
        signal.signal(TERM, lambda *_: seen.append(1))
        faulthandler.register(TERM, watch.notices_of(TERM), all_threads=False, chain=True)
        with watch:
            os.kill(os.getpid(), TERM)
            while not (watch.pending and seen): time.sleep(0.01)
            print("both", flush=True)
            stuck()
    """)
    assert (status, out, said) == (128 + signal.SIGTERM, "both\n", "gptgan: ended by 15\n")
