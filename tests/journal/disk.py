"""A disk in memory that can fail, lose power and be damaged: the storage seam, made cruel.

Model: a file is sectors of 512 bytes. A write reaches the cache; `sync` and `write_durable` make it durable. At a
power loss each sector that was not durable is kept or lost by itself, and so is each name that was created,
renamed or removed since its folder was synced. A sector is all old or all new.

Every operation that changes something, or waits for the disk, has a number; a plan says what happens at which.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from journal.storage import Identity

SECTOR = 512
FOLDER = Path("/journal")


class PowerLossError(BaseException):
    """The machine stops here; nothing that runs on it may catch this."""


class File:
    """An inode: what the cache shows, and what would survive."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.cache = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.cache):
            self.cache.extend(bytes(end - len(self.cache)))
        self.cache[offset:end] = data
        self.dirty.update(range(offset // SECTOR, -(-end // SECTOR)))

    def sync(self, sectors: set[int] | None = None) -> None:
        """Make the given sectors durable, or all of them and the length."""
        if sectors is None:
            del self.durable[len(self.cache) :]
        for sector in sorted(self.dirty if sectors is None else self.dirty & sectors):
            self._keep(sector)
        self.dirty.difference_update(set(self.dirty) if sectors is None else sectors)

    def after_power_loss(self, choose: Callable[[], bool]) -> "File":
        """What is found when the power returns."""
        left = File(self.number)
        left.durable = bytearray(self.durable)
        if len(self.cache) < len(self.durable) and choose():
            del left.durable[len(self.cache) :]
        left.cache = self.cache
        for sector in sorted(self.dirty):
            if choose():
                left._keep(sector)
        left.cache = bytearray(left.durable)
        return left

    def _keep(self, sector: int) -> None:
        piece = self.cache[sector * SECTOR : (sector + 1) * SECTOR]
        end = sector * SECTOR + len(piece)
        if end > len(self.durable):
            self.durable.extend(bytes(end - len(self.durable)))
        self.durable[sector * SECTOR : end] = piece


class Disk:
    """The `Storage` of one machine. Not thread-safe.

    Attributes:
        plan: for an operation number, an errno to fail with, "short" for a short write, or "power" to stop at.
        every: as `plan`, for all operations of a name from now on, "sync" say.
        free: bytes of space left, or None for enough.
        log: names of the operations so far, by their numbers.
    """

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self.durable_names: dict[str, File] = {}
        self.folders: set[str] = {"/"}
        self.plan: dict[int, int | str] = {}
        self.every: dict[str, int] = {}
        self.free: int | None = None
        self.log: list[str] = []
        self.down = False
        self._changes: list[tuple[str, str, File | None]] = []
        self._handles: dict[int, File] = {}
        self._locked: dict[str, int] = {}
        self._next = 100
        self._clock = 1_700_000_000_000_000_000
        self._random = random.Random(7)

    # -- what a test does to it

    def power_loss(self, choose: Callable[[], bool]) -> "Disk":
        """The disk as found when the power returns; `choose` decides for each thing that was not durable."""
        left = self._copy_settings()
        kept: dict[int, File] = {}
        names = dict(self.durable_names)
        for name, source, file in self._changes:
            if choose():
                names.pop(source, None)
                if file is not None:
                    names[name] = file
        for name, file in names.items():
            left.names[name] = kept.setdefault(id(file), file.after_power_loss(choose))
        left.durable_names = dict(left.names)
        return left

    def copy(self) -> "Disk":
        """The same machine after its processes ended: everything cached is still there."""
        left = self._copy_settings()
        for name, file in self.names.items():
            twin = File(file.number)
            twin.cache = bytearray(file.cache)
            twin.durable = bytearray(file.cache)
            left.names[name] = twin
        left.durable_names = dict(left.names)
        return left

    def break_lock(self) -> None:
        """Locks hold nobody out, as after their file was deleted."""
        self._locked.clear()

    def content(self, name: str) -> bytearray:
        """The bytes of a file in the journal's folder, to be damaged."""
        return self.names[str(FOLDER / name)].cache

    def segments(self) -> list[str]:
        """Names of the segment files, oldest first."""
        return sorted(name for name in self.list_folder(FOLDER) if name.endswith(".seg") and name != "spare.seg")

    def state(self) -> dict[str, bytes]:
        """Everything in the folder."""
        return {name: bytes(file.cache) for name, file in self.names.items()}

    def _fresh(self) -> "Disk":
        """An empty disk of the same make."""
        return Disk()

    def _copy_settings(self) -> "Disk":
        left = self._fresh()
        left.folders = set(self.folders)
        left.free = self.free
        left._next = self._next
        left._random = self._random
        return left

    def _operation(self, name: str) -> str:
        """Count an operation; fail as planned, or return "short" or "power" for the caller to carry out."""
        if self.down:
            raise PowerLossError
        number = len(self.log)
        self.log.append(name)
        action = self.plan.get(number, self.every.get(name, 0))
        if isinstance(action, int):
            if action:
                raise OSError(action, os.strerror(action))
            return ""
        return action

    def _stop(self, action: str) -> None:
        if action == "power":
            self.down = True
            raise PowerLossError

    # -- the seam

    def make_folder(self, path: Path) -> None:
        for folder in (path, *path.parents):
            self.folders.add(str(folder))

    def list_folder(self, path: Path) -> list[str]:
        return [Path(name).name for name in self.names if Path(name).parent == path]

    def sync_folder(self, path: Path) -> None:
        del path  # One journal, one sync: a sub-folder's names are no less durable than its parent's.
        action = self._operation("sync_folder")
        self._stop(action)
        self.durable_names = dict(self.names)
        self._changes.clear()

    def lock(self, path: Path, note: bytes) -> int | None:
        if str(path) in self._locked:
            return None
        handle = self._open(self._file(path, create=True))
        self._handles[handle].cache[:] = note
        self._locked[str(path)] = handle
        return handle

    def open_read(self, path: Path) -> int:
        return self._open(self._file(path))

    def open_write(self, path: Path) -> int:
        return self._open(self._file(path))

    def create(self, path: Path) -> int:
        self._stop(self._operation("create"))
        file = File(self._number())
        self._change(str(path), "", file)
        return self._open(file)

    def close(self, handle: int) -> None:
        del self._handles[handle]
        self._locked = {path: held for path, held in self._locked.items() if held != handle}

    def size(self, handle: int) -> int:
        return len(self._handles[handle].cache)

    def read(self, handle: int, into: memoryview, offset: int) -> int:
        self._stop(self._operation("read"))
        piece = self._handles[handle].cache[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        return self._write(handle, b"".join(buffers), offset, "write")

    def write_durable(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        done = self._write(handle, b"".join(buffers), offset, "write_durable")
        self._handles[handle].sync(set(range(offset // SECTOR, -(-(offset + done) // SECTOR))))
        return done

    def sync(self, handle: int) -> None:
        self._stop(self._operation("sync"))
        self._handles[handle].sync()

    def truncate(self, handle: int, size: int) -> None:
        self._stop(self._operation("truncate"))
        file = self._handles[handle]
        del file.cache[size:]
        file.dirty = {sector for sector in file.dirty if sector * SECTOR < size}

    def allocate(self, handle: int, size: int) -> None:
        self._stop(self._operation("allocate"))
        del handle
        if self.free is not None:
            if size > self.free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.free -= size

    def forget_cache(self, handle: int) -> None:
        pass

    def rename(self, source: Path, target: Path) -> None:
        self._stop(self._operation("rename"))
        self._change(str(target), str(source), self._file(source))

    def unlink(self, path: Path) -> None:
        self._stop(self._operation("unlink"))
        file = self._file(path)
        if self.free is not None:
            self.free += len(file.cache)
        self._change("", str(path), None)

    def identity(self, path: Path) -> Identity | None:
        file = self.names.get(str(path))
        return None if file is None else (0, file.number, 0, len(file.cache))

    def now_ns(self) -> int:
        self._clock += 1_000_000
        return self._clock

    def random_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def _short(self, data: bytes) -> int:
        """How many bytes of a write a short one takes."""
        return max(1, len(data) // 2)

    def _write(self, handle: int, data: bytes, offset: int, name: str) -> int:
        action = self._operation(name)
        if action == "short":
            data = data[: self._short(data)]
        self._handles[handle].write(data, offset)
        self._stop(action)
        return len(data)

    def _change(self, name: str, source: str, file: File | None) -> None:
        self._changes.append((name, source, file))
        self.names.pop(source, None)
        if file is not None:
            self.names[name] = file

    def _file(self, path: Path, *, create: bool = False) -> File:
        file = self.names.get(str(path))
        if file is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            file = File(self._number())
            self._change(str(path), "", file)
        return file

    def _open(self, file: File) -> int:
        handle = self._number()
        self._handles[handle] = file
        return handle

    def _number(self) -> int:
        self._next += 1
        return self._next
