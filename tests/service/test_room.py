"""How much is held, and when nothing more is taken in."""

from __future__ import annotations

import os

from medseg.service.intake.room import GIB, Room, held_bytes
from tests.service.intake_sites import site_in

KIB = 2**10


def test_a_file_with_two_names_is_held_once(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(bytes(3 * KIB))
    os.link(tmp_path / "deep" / "a", tmp_path / "b")
    (tmp_path / "c").write_bytes(bytes(KIB))
    assert held_bytes(tmp_path) == 4 * KIB


def test_the_quota_knows_what_came_in_before_and_since_it_was_measured(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(bytes(6 * KIB))
    room = Room(site_in(tmp_path, keep={"free_gib": 0, "quota_gib": 10 * KIB / GIB}))
    assert room.full() == ""
    room.took(4 * KIB)
    assert "of its quota" in room.full()
    (tmp_path / "data" / "b").write_bytes(bytes(3 * KIB))
    room.measure()
    assert room.full() == ""
    room.took(KIB)
    assert "of its quota" in room.full()
    (tmp_path / "data" / "a").unlink()
    room.measure()
    assert room.full() == ""


def test_some_of_the_disk_stays_free(tmp_path):
    assert Room(site_in(tmp_path)).full() == ""
    assert "are to stay free" in Room(site_in(tmp_path, keep={"free_gib": 1e9})).full()
