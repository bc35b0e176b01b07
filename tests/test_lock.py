"""Locks of folders: shared ones, and disks without locks."""

import errno
import fcntl

import pytest

from avq.errors import InputError
from avq.lock import InUse, locked


def test_shared_holders_stand_one_another_but_nobody_who_holds_it_alone(tmp_path):
    with locked(tmp_path, shared=True), locked(tmp_path, shared=True):
        with pytest.raises(InUse, match="is in use by process"), locked(tmp_path):
            pass
        with locked(tmp_path, shared=True):
            pass
    with locked(tmp_path), pytest.raises(InUse), locked(tmp_path, shared=True):
        pass


def test_disk_without_locks_is_refused_in_one_line(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    message = (
        r"cannot be locked \(No locks available\)\. Give a folder on a disk with file locks\.$"
    )
    with pytest.raises(InputError, match=message), locked(tmp_path):
        pass
