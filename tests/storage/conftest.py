"""A bucket in memory, and a cache of its own."""

import pytest

from avq.storage import objects
from avq.storage.objects import at


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket that is empty, for this test's process alone."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setitem(objects.SCHEMES, "memory", "fsspec")
    monkeypatch.setenv("AVQ_CACHE", str(tmp_path / "cache"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return at("memory://bucket")
