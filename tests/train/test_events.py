"""TensorBoard's file of events, as TensorBoard's format has it."""

import io
import resource
import struct

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event, SessionLog

from avq.train.events import EventFile


def events_of(folder):
    """Events of the only file: length, checksum, content, checksum."""
    (path,) = folder.glob("events.out.tfevents.*")
    content, at, events = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack("Q", content[at : at + 8])
        events.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += length + 16
    return events


def test_numbers_and_pictures_are_read_back(tmp_path):
    file = EventFile(tmp_path, purge_step=3)
    picture = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    file.scalar("train/loss", 0.5, 4)
    file.image("samples", picture, 5)
    file.flush()
    version, session, scalar, image = events_of(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (session.step, session.session_log.status) == (3, SessionLog.START)
    assert (scalar.step, scalar.summary.value[0].tag) == (4, "train/loss")
    assert scalar.summary.value[0].simple_value == 0.5
    shown = image.summary.value[0].image.encoded_image_string
    np.testing.assert_array_equal(Image.open(io.BytesIO(shown)), picture)
    file.close()


def test_new_run_purges_nothing(tmp_path):
    EventFile(tmp_path).close()
    assert len(events_of(tmp_path)) == 1


def test_full_disk_is_an_error_where_it_is_written(tmp_path):
    def write(file):
        for step in range(100):
            file.scalar("train/loss", 0.5, step)
            file.flush()

    file, limits = EventFile(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        file.close()
