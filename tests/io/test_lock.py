"""A lock keeps other commands out of a folder, and ends with its process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tiny import refused

from nextscale.io.lock import LOCK, locked, locked_by_main

fcntl = pytest.importorskip("fcntl")

HOLD = """
import os, sys, time
from pathlib import Path
from nextscale.io.lock import locked

with locked(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and not os.fork():
        time.sleep(60)  # a process that loads data
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


def hold(folder: Path, how: str = "alone") -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(folder), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout and int(process.stdout.readline()) == process.pid
    return process


def end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_one_at_a_time(tmp_path):
    folder = tmp_path / "new" / "run"
    with locked(folder):
        with refused(f"another command is writing to {folder} (process {os.getpid()} on "), locked(folder):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(folder) as held:
        assert len(held) == 1
    assert list(folder.iterdir()) == []


def test_a_failed_command_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_killed_process_leaves_the_folder_free(tmp_path, how):
    process = hold(tmp_path, how)
    try:
        with refused(f"process {process.pid} on"), locked(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()  # a forked process is still there
        with locked(tmp_path):
            pass
    finally:
        end(process)


def test_a_file_deleted_by_its_holder_is_no_lock(tmp_path, monkeypatch):
    """Between the opening and the locking of the file, the holder may delete it, and a third one may make another."""
    flock, calls = fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(file)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert len(calls) == 2 and (tmp_path / LOCK).is_file()
        monkeypatch.undo()
        with refused("another command"), locked(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys, number):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path), locked(tmp_path):
        pass
    note = f"note: {tmp_path} cannot be locked ({os.strerror(number)}): make sure that no other command writes to it\n"
    assert capsys.readouterr().err == 2 * note


def test_without_fcntl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(tmp_path / "new") as held, locked(tmp_path / "new"):
        assert held == [] and (tmp_path / "new").is_dir()


def test_the_main_process_locks_for_all(tmp_path, monkeypatch):
    with locked_by_main(tmp_path), refused("another command"), locked(tmp_path):
        pass
    monkeypatch.setattr("nextscale.io.lock.is_main", lambda: False)
    with locked_by_main(tmp_path), locked(tmp_path):
        pass


def test_all_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("nextscale.io.lock.is_main", lambda: False)
    monkeypatch.setattr("nextscale.io.lock.gather_texts", lambda texts: ["the main process said no", *texts])
    with refused("the main process said no"), locked_by_main(tmp_path):
        pass
