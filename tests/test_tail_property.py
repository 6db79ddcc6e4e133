"""Any bytes, split into any writes, polls, rolls and restarts, give the same records as a plain count of the lines."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tailing import Driven, disk_folder

from exporter.logs import files
from exporter.logs.files import Root
from exporter.logs.framing import Encoding, frame

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
PIECES = st.one_of(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xc3\xa5", b"a", b'{"message":"m"}\n', b"\xef\xbb\xbf"]),
    st.binary(max_size=6),
    st.sampled_from([b"x" * 300, b"y" * 1100 + b"\n"]),
)
ROLLED = "app_20240101T{:02}{:02}{:02}Z.log"


def plain_count(data: bytes, final: bool) -> list[bytes]:
    """What counts in `data`, said as plainly as it can be."""
    lines = data.split(b"\n")
    rest = lines.pop()
    if final and rest:
        lines.append(rest)
    clean = []
    for number, line in enumerate(lines):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        text = text.replace(b"\0", b"")
        clean.append(text[:-1] if text.endswith(b"\r") else text)
    return [line for line in clean if line.strip()]


@QUICK
@given(st.lists(PIECES, max_size=30), st.data())
def test_any_split_of_a_stream_frames_the_same_lines(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    offset, lines, skipping = 0, list[bytes](), False
    encoding: Encoding = "utf-8"
    while offset < len(whole):
        end = data.draw(st.integers(offset + 1, len(whole)))
        framed = frame(whole[offset:end], encoding, at_start=not offset, skipping=skipping, final=end == len(whole))
        if not framed.consumed:
            framed = frame(whole[offset:], encoding, at_start=not offset, skipping=skipping, final=True)
        lines += framed.lines
        offset, skipping = offset + framed.consumed, framed.skipping
    assert [line for line in lines if line.strip()] == plain_count(whole, final=True)


class Story:
    """A writer and an exporter that do things in any order; what was written is kept for the plain count."""

    def __init__(self, folder: Path, archive_root: Root | None = None) -> None:
        self.driven = Driven(folder, archive=str(folder / "archive"), archive_root=archive_root)
        (folder / "archive").mkdir()
        self.generations: list[bytes] = [b""]
        self.rolled: list[str] = []
        self.driven.start()
        self.driven.tick(polls=1)
        self.up = True

    def write(self, data: bytes) -> None:
        # Qlik's files begin with text; what a mark of UTF-16 or of an archive would make of one is tested elsewhere.
        if not self.generations[-1] and (data[:1] in (b"\xff", b"\xfe", b"\xfd", b"P", b"7", b"(", b"B", b"\x1f")):
            data = b"t" + data
        self.driven.append("app.txt", data)
        self.generations[-1] += data

    def roll(self) -> None:
        number = len(self.generations)
        if self.driven.path("app.txt").exists():
            name = ROLLED.format(number // 3600, number // 60 % 60, number % 60)
            self.driven.move("app.txt", name)
            self.rolled.append(name)
            self.generations.append(b"")

    def archive(self) -> None:
        if self.rolled:
            name = self.rolled.pop(0)
            self.driven.copy(name, f"archive/{name}")
            self.driven.remove(name)

    def restart(self) -> None:
        if self.up:
            self.driven.kill()
        else:
            self.driven.start()
        self.up = not self.up

    def poll(self) -> None:
        if self.up:
            self.driven.poll()

    def tick(self) -> None:
        if self.up:
            self.driven.tick(polls=1, seconds=3)

    def end(self) -> tuple[list[bytes], list[bytes]]:
        if not self.up:
            self.restart()
        self.driven.tick(seconds=100)  # by then the archive has been searched, too
        self.driven.wait_out()
        self.driven.stop()
        self.driven.start()
        self.driven.tick()
        self.driven.stop()
        expected = [line for content in self.generations[:-1] for line in plain_count(content, final=True)]
        expected += plain_count(self.generations[-1], final=False)
        return sorted(record.raw for record in self.driven.records), sorted(expected)


STEPS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=12),
        PIECES.filter(bool),
        st.sampled_from(["roll", "archive", "restart", "poll", "poll", "tick"]),
    ),
    max_size=40,
)


@pytest.mark.slow
@settings(QUICK, max_examples=150)
@given(STEPS)
def test_any_story_of_writes_polls_rolls_and_kills_counts_each_record_once(steps: list[bytes | str]) -> None:
    with disk_folder() as folder:
        story = Story(folder)
        for step in steps:
            if isinstance(step, bytes):
                story.write(step)
            else:
                getattr(story, step)()
        counted, expected = story.end()
    assert counted == expected
    assert story.driven.lost == 0


class ArchiveStory(Story):
    """Lines that never repeat, an archiver that may stop half way, and two tails whose steps mix."""

    lines = 0
    copying = ""

    def line(self) -> None:
        self.lines += 1
        self.write(f"line {self.lines} {'x' * (self.lines % 3 * 200)}\n".encode())

    def straight(self) -> None:
        self.roll()
        if self.rolled:
            name = self.rolled.pop()
            self.driven.copy(name, f"archive/{name}")
            self.driven.remove(name)

    def half(self) -> None:
        if self.rolled and not self.copying:
            self.copying = self.rolled.pop(0)
            data = self.driven.path(self.copying).read_bytes()
            self.driven.write(f"archive/{self.copying}", data[: len(data) // 2])

    def whole(self) -> None:
        if self.copying:
            self.driven.copy(self.copying, f"archive/{self.copying}")
            self.driven.remove(self.copying)
            self.copying = ""

    def wait(self) -> None:
        if self.up:
            self.driven.tick(polls=2, seconds=40)

    def discover_last(self) -> None:
        if self.up:
            self.driven.discover_in(self.driven.tails[-1])

    def turn(self) -> None:
        self.driven.tails.reverse()

    def end(self) -> tuple[list[bytes], list[bytes]]:
        self.whole()
        return super().end()


ARCHIVE_STEPS = st.lists(
    st.sampled_from(
        [
            "line",
            "line",
            "roll",
            "straight",
            "half",
            "whole",
            "restart",
            "poll",
            "tick",
            "wait",
            "discover_last",
            "turn",
        ]
    ),
    max_size=40,
)


@pytest.mark.slow
@settings(QUICK, max_examples=100)
@given(ARCHIVE_STEPS, st.sampled_from([None, Root("another", False, False)]))
def test_any_story_of_archiving_counts_each_record_once_on_one_root_and_on_two(
    steps: list[str], archive_root: Root | None
) -> None:
    with disk_folder() as folder:
        story = ArchiveStory(folder, archive_root)
        for step in steps:
            getattr(story, step)()
        counted, expected = story.end()
    assert counted == expected
    assert story.driven.lost == 0


class HarmedStory(ArchiveStory):
    """Files that are deleted, truncated or moved away after they were read to their end, and reads that fail."""

    def __init__(self, folder: Path, archive_root: Root | None = None) -> None:
        super().__init__(folder, archive_root)
        (folder / "elsewhere").mkdir()
        self.real_read = files.read_at

    def read_to_the_end(self) -> None:
        files.read_at = self.real_read
        if not self.up:
            self.restart()
        self.driven.tick(polls=1, seconds=5)

    def harm(self, act: Callable[[], None]) -> None:
        if self.driven.path("app.txt").exists():
            self.read_to_the_end()
            act()
            self.driven.tick(polls=1)
            self.generations.append(b"")

    def delete(self) -> None:
        self.harm(lambda: self.driven.remove("app.txt"))

    def truncate(self) -> None:
        self.harm(lambda: os.truncate(self.driven.path("app.txt"), 0))

    def move_away(self) -> None:
        self.harm(lambda: self.driven.move("app.txt", f"elsewhere/{len(self.generations)}"))

    def fail(self) -> None:
        """Have every third read fail, or none any more."""
        failing = files.read_at is not self.real_read
        reads = itertools.count(1)

        def read_at(descriptor: int, offset: int, size: int) -> bytes:
            if next(reads) % 3 == 0:
                raise PermissionError(errno.EACCES, "another process has locked a portion of the file")
            return self.real_read(descriptor, offset, size)

        files.read_at = self.real_read if failing else read_at

    def end(self) -> tuple[list[bytes], list[bytes]]:
        self.read_to_the_end()
        return super().end()


HARMS = [
    "delete",
    "truncate",
    "move_away",
    "fail",
    "line",
    "line",
    "roll",
    "straight",
    "restart",
    "poll",
    "tick",
    "wait",
]

FAILS_AT_EVERY_POLL = [
    "line",
    "roll",
    "move_away",
    "poll",
    "line",
    "line",
    "straight",
    "fail",
    "poll",
    "line",
    "restart",
    "fail",
    "delete",
    "line",
    "fail",
    "poll",
    "line",
    "move_away",
    "line",
    "roll",
    "poll",
    "wait",
]
"""The third read, which fails, is one of `app.txt` each time."""


@settings(QUICK, max_examples=100)
@example(["line", "truncate", "delete", "line", "poll", "straight", "poll", "restart"], None)
@example(FAILS_AT_EVERY_POLL, Root("another", False, False))
@given(st.lists(st.sampled_from(HARMS), max_size=40), st.sampled_from([None, Root("another", False, False)]))
def test_any_story_of_files_that_come_to_harm_counts_each_record_once(
    steps: list[str], archive_root: Root | None
) -> None:
    with disk_folder() as folder:
        story = HarmedStory(folder, archive_root)
        try:
            for step in steps:
                getattr(story, step)()
            counted, expected = story.end()
        finally:
            files.read_at = story.real_read
    assert counted == expected
