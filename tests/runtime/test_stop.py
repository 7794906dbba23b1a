"""The first signal asks long work to stop; a second Ctrl-C ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from nextscale.runtime import stop as module
from nextscale.runtime.stop import resumable, stop_on_signals

NOTE = "saving a checkpoint after this step"
BUSY = f"""
import signal
from nextscale.runtime.interrupt import Interruptible, end_on_interrupt
from nextscale.runtime.stop import stop_on_signals

end_on_interrupt()
with Interruptible(), stop_on_signals({NOTE!r}) as stop:
    print("busy", flush=True)
    {{work}}
print("stopped", stop.asked, stop.interrupted, flush=True)
"""
IN_C = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**8)"
"""A long computation in C, during which Python calls no handler."""


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_a_flag_and_says_what_follows(number, capfd):
    before = signal.getsignal(number)
    with stop_on_signals(NOTE) as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and stop.interrupted == (number == signal.SIGINT)
    assert signal.getsignal(number) is before
    err = capfd.readouterr().err
    assert err.startswith(f"{'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}: {NOTE}")
    assert ("again" in err) == (number == signal.SIGINT) and err.count("\n") == 1


def test_it_ends_while_a_process_that_started_inside_goes_on():
    """The process has a copy of everything that is open."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    start = time.monotonic()
    with stop_on_signals(NOTE):
        child.start()
    assert time.monotonic() - start < 30
    child.kill()
    child.join()


def test_a_message_begins_below_the_echo_of_a_terminal(monkeypatch, capfd):
    monkeypatch.setattr(module, "is_terminal", lambda: True)
    with stop_on_signals(NOTE):
        press()
    with pytest.raises(KeyboardInterrupt), resumable("finished files are kept"):
        raise KeyboardInterrupt
    assert capfd.readouterr().err.startswith(f"\nCtrl-C: {NOTE}")


def test_no_note_where_there_is_none(capfd):
    with stop_on_signals() as stop:
        press()
    assert stop.asked and not capfd.readouterr().err


def test_a_second_ctrl_c_interrupts_a_library_call(monkeypatch):
    monkeypatch.setattr(module, "SAME_PRESS_SECONDS", 0.05)
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        press()
        press()  # the same press, which a parent has passed on
        time.sleep(0.1)
        press()
        pytest.fail("the second press was ignored")


def test_torchrun_passes_on_what_the_terminal_has_sent_already(monkeypatch):
    monkeypatch.setattr(module, "SAME_PRESS_SECONDS", 0.0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with stop_on_signals() as stop:
        press()
        time.sleep(0.1)
        press()
    assert stop.asked


def test_a_second_sigterm_has_no_effect():
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        press()
    assert stop.asked and stop.interrupted


def test_an_ignored_signal_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_user_of_wakeups_gets_them_back():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with stop_on_signals():
            press()
        assert signal.set_wakeup_fd(before) == writer
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def test_what_is_kept_is_said_on_ctrl_c_only(capsys):
    with pytest.raises(KeyboardInterrupt), resumable("the first half is kept"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), resumable("never"):
        raise ZeroDivisionError
    with resumable("never"):
        pass
    assert capsys.readouterr().err == "stopped: the first half is kept\n"


def start(work: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout and process.stdout.readline() == "busy\n"
    return process


@pytest.mark.parametrize("work", ["import time; time.sleep(60)", IN_C])
def test_a_command_says_so_at_once_and_ends_at_the_second_press(work):
    process = start(work)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    assert process.stderr.readline() == f"Ctrl-C: {NOTE}; press Ctrl-C again to stop at once, without saving\n"
    time.sleep(2 * module.SAME_PRESS_SECONDS)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "Ctrl-C again: stopped at once, without saving\n")


def test_a_command_goes_on_after_the_first_press():
    process = start("import time; [time.sleep(0.01) for _ in iter(lambda: stop.asked, True)]")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out == "stopped True True\n" and err.startswith("Ctrl-C: ")
