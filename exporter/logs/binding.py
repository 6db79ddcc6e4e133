"""Binding: what follows once it is clear which generation a file is. Opens it, counts rolls, saves what is to last."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from exporter.logs.files import Identity, rolled_name
from exporter.logs.generation import UNKNOWN_MARK, FileRow, Generation, new_row
from exporter.logs.held import Held
from exporter.logs.proof import Proof
from exporter.logs.register import Batch


@dataclass
class Index:
    """Generations and rows by what a path can be compared with, made once for each discovery that found new paths."""

    by_identity: dict[Identity, Generation] = field(default_factory=dict)
    by_name: dict[str, list[Generation]] = field(default_factory=dict)
    final: list[FileRow] = field(default_factory=list)

    @classmethod
    def of(cls, generations: Iterable[Generation], rows: Iterable[FileRow]) -> "Index":
        """The index of what is known now."""
        index = cls(final=[row for row in rows if row.final])
        for generation in generations:
            if generation.row.identity.known:
                index.by_identity[generation.row.identity] = generation
            index.by_name.setdefault(os.path.basename(generation.row.path), []).append(generation)
        return index


class Binding:
    """Binds files to the generations of one tail."""

    def __init__(self, held: Held, proof: Proof) -> None:
        self._held = held
        self._proof = proof
        self.index = Index()

    def adopt(self, row: FileRow, path: str, matches: bool, batch: Batch) -> bool:
        """Go on with `row` at `path` if the file there holds what was read of it."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        if row.mark == UNKNOWN_MARK and not self._proof.same_path(row.path, path):
            return False
        descriptor = self._proof.fitting(row, path, status)
        if descriptor is None:
            return False
        if self._held.register.adopt(row.key) is None and not row.final:
            os.close(descriptor)  # another root's tail was faster
            return False
        if not self._proof.same_path(row.path, path):
            batch.rotations += not row.rolled
            row = msgspec.structs.replace(row, rolled=True)
        mark = os.fstat(descriptor).st_size if row.mark == UNKNOWN_MARK else row.mark
        row = msgspec.structs.replace(row, path=path, final=False, gone=0.0, lost=False, truncated=False, mark=mark)
        generation = self._add(row, descriptor, path)
        if matches:
            self._held.paths[path] = row.key
        else:
            generation.left_at = self._held.clock.monotonic()
            self.name(generation, path, batch)
        self._held.save(generation, batch)
        return True

    def begin(self, path: str, batch: Batch, rolled: bool) -> Generation | None:
        """Read the file at `path` from its beginning: nobody has seen it before."""
        descriptor = self._held.openable(path)
        if descriptor is None:
            return None
        try:
            row = new_row(self._held.register.log, path, descriptor)
        except OSError as error:
            os.close(descriptor)
            self._held.failed(path, error)
            return None
        other = self.index.by_identity.get(row.identity) if row.identity.known else None
        if other is not None and other.descriptor is not None and other.row.identity == row.identity:
            os.close(descriptor)  # a share's memory: the name still opens the file that had it before (hazards 40, 85)
            self._held.restless = True
            return None
        if rolled:
            name = rolled_name(os.path.basename(path))
            if name and not self._held.register.claim(name, row.key):
                os.close(descriptor)  # another root's tail has just begun with it
                return None
            batch.rotations += 1
            row = msgspec.structs.replace(row, rolled=True)
        generation = self._add(row, descriptor, path)
        if rolled:
            generation.left_at = self._held.clock.monotonic()
        else:
            self._held.paths[path] = row.key
            self.count_rolls(path, batch)
        return generation

    def _add(self, row: FileRow, descriptor: int, path: str) -> Generation:
        generation = Generation(row, self._held.clock.monotonic())
        self._held.generations[row.key] = generation
        self._held.opened(generation, descriptor, path)
        if generation.row.identity.known:
            self.index.by_identity[generation.row.identity] = generation
        return generation

    def found_again(self, generation: Generation, path: str, matches: bool, batch: Batch) -> None:
        """A generation that we hold bears the name `path` now."""
        self._count_roll(generation, batch)
        generation.row = msgspec.structs.replace(generation.row, path=path)
        generation.grew = False
        if matches:
            generation.left_at = None
            self._held.paths[path] = generation.row.key
            self._held.register.adrift.pop(generation.row.key, None)
        else:
            self.name(generation, path, batch)
        self._held.save(generation, batch)

    def name(self, generation: Generation, path: str, batch: Batch) -> None:
        """Remember that the generation has the rolled name `path`; and its row, so that nobody takes it for done."""
        self._held.register.adrift.pop(generation.row.key, None)
        if rolled := rolled_name(os.path.basename(path)):
            self._count_roll(generation, batch)
            row = generation.row = msgspec.structs.replace(generation.row, path=path)
            self._held.register.name(rolled, row.key)
            self._held.register.rows[row.key] = batch.rows[row.key] = row

    def count_rolls(self, path: str, batch: Batch) -> None:
        """Another file has taken `path`: those that had it before were rolled."""
        for generation in self._held.active:
            if generation.left_at is not None and generation.row.path == path:
                self._count_roll(generation, batch)
        for row in self.index.final:
            if row.path == path:
                self._held.register.note_roll(row.key, batch)

    def _count_roll(self, generation: Generation, batch: Batch) -> None:
        """A generation that we hold was rolled: count it once, and save that even if nothing was read of it yet."""
        if not generation.row.rolled:
            batch.rotations += 1
            row = generation.row = msgspec.structs.replace(generation.row, rolled=True)
            self._held.register.rows[row.key] = batch.rows[row.key] = row
