"""Locks on files: two openings of one file stand for two processes, as flock sees them."""

import errno
import fcntl

import pytest
from lavit_core import file_lock
from lavit_core.errors import InputError
from lavit_core.file_lock import EXCLUSIVE, SHARED, is_locked, short_lock, try_lock, wait_for_lock


def test_shared_goes_with_shared_and_exclusive_with_nothing(tmp_path):
    path = tmp_path / "lock"
    with open(path, "a+") as one, open(path, "a+") as other:
        assert try_lock(one, SHARED)
        assert try_lock(other, SHARED)
        assert not is_locked(path)
        assert not try_lock(one, EXCLUSIVE)
        other.close()
        assert try_lock(one, EXCLUSIVE)
        assert is_locked(path)
    assert not is_locked(path)
    assert not is_locked(tmp_path / "none")


def test_the_first_kind_that_can_be_had_is_taken(tmp_path):
    path = tmp_path / "lock"
    with open(path, "a+") as one, open(path, "a+") as other:
        assert wait_for_lock(one, EXCLUSIVE, SHARED, seconds=0) == EXCLUSIVE
        assert wait_for_lock(other, EXCLUSIVE, SHARED, seconds=0.06) == 0
        assert wait_for_lock(one, SHARED, seconds=0) == SHARED
        assert wait_for_lock(other, EXCLUSIVE, SHARED, seconds=0) == SHARED


def test_a_moment_that_takes_too_long_is_named(tmp_path):
    path = tmp_path / "lock"
    with (
        short_lock(path, seconds=0),
        pytest.raises(InputError, match=r"lock: locked by another process for 0 s; run the same"),
        short_lock(path, seconds=0),
    ):
        pass
    with short_lock(path, seconds=0):
        assert is_locked(path)


def test_a_file_system_without_locks_warns_once_and_goes_on(tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(file_lock, "_warned", False)
    with open(tmp_path / "lock", "a") as file:
        assert try_lock(file)
        assert try_lock(file)
    assert capsys.readouterr().err.count("has no locks (No locks available); start no command twice on one --out") == 1
