"""After Ctrl-C a command ends with 130 and without a traceback, whatever it was doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

VERB = """
import sys, types
from dataclasses import dataclass

sys.path.insert(0, {folder!r})
sys.modules["nextscale.cli.parsing"] = types.SimpleNamespace(parse=lambda *_: None)
from nextscale.cli import main
main.VERBS["wait"] = ("verb", "")
sys.argv = ["nextscale", "wait"]
main.command()
"""
WAIT = "print('waiting', flush=True); import time; time.sleep(60)"
RUN = "Options = None\ndef run(_):\n"
MODULES = {
    "an import": {"verb": WAIT},
    "an import that hides the reason": {"verb": f"try:\n {WAIT}\nexcept BaseException:\n raise ImportError('twice')"},
    "a late import": {"verb": f"{RUN} import slow", "slow": WAIT},
    "work": {"verb": f"{RUN} {WAIT}"},
    "work that hides the reason": {"verb": f"{RUN} try:\n  {WAIT}\n finally:\n  raise RuntimeError('a process died')"},
    "the end": {"verb": f"import atexit\n{RUN} atexit.register(lambda: exec({WAIT!r}))"},
}


def start(folder: Path, modules: dict[str, str], ignored: bool = False) -> subprocess.Popen[str]:
    """A command with a verb that prints a line when it waits. SIGINT is as in a terminal, or ignored."""
    for name, content in modules.items():
        (folder / f"{name}.py").write_text(content)
    handler = signal.SIG_IGN if ignored else signal.default_int_handler
    process = subprocess.Popen(
        [sys.executable, "-c", VERB.format(folder=str(folder))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    assert process.stdout and process.stdout.readline() == "waiting\n"
    return process


@pytest.mark.parametrize("what", MODULES)
def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path, what):
    process = start(tmp_path, MODULES[what])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_second_ctrl_c_does_not_wait_for_the_cleanup(tmp_path):
    cleanup = "print('cleaning', flush=True); time.sleep(60)"
    process = start(tmp_path, {"verb": f"{RUN} try:\n  {WAIT}\n finally:\n  {cleanup}"})
    process.send_signal(signal.SIGINT)
    assert process.stdout and process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 130


def test_a_background_job_still_ignores_ctrl_c(tmp_path):
    process = start(tmp_path, {"verb": f"{RUN} print('waiting', flush=True); print(input())"}, ignored=True)
    process.send_signal(signal.SIGINT)
    assert process.communicate("done\n", timeout=60) == ("done\n", "") and process.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked")
def test_the_restart_for_training_answers_ctrl_c_when_it_can(tmp_path):
    """SIGINT is blocked while the interpreter starts again, and then unblocked."""
    script = """
import os, signal, sys
from nextscale.cli import main
from nextscale.runtime import allocator
if "AGAIN" not in os.environ:  # the first process: replaced by the second one, with a SIGINT waiting
    allocator.LESS_FRAGMENTATION["AGAIN"] = "1"
    allocator.glibc = lambda: True
    os.environ.pop("GLIBC_TUNABLES", None)
    execve = os.execve
    os.execve = lambda *arguments: (os.kill(os.getpid(), signal.SIGINT), execve(*arguments))
else:
    print("started again", flush=True)
sys.argv = ["nextscale", "train", "var"]
main.command()
"""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    process = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "started again\n", "")
