"""The seam between the journal and a disk.

Every file operation of the journal goes through `Storage`, so a test can put a faulty or a simulated disk in
its place. Rules every implementation keeps:

1. Errors are `OSError` with an errno; nothing is swallowed, nothing is retried.
2. `write` and `write_durable` may write less than asked and say how much; the caller goes on from there.
3. When `write_durable` returns, the bytes it says it wrote survive a power loss. That says nothing of the
   file's name (`sync_dir` does) nor of other bytes of the file (`sync` does).
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
IOV_MAX: Final = 1024  # Linux refuses more buffers in one call.
FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # The last is a limit of a file's size.
RESERVED_HANDLES: Final = 4  # A rotation opens two at once, while a snapshot may be written beside it.
_NO_HANDLE_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_UNSUPPORTED_ERRNOS: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})

Identity = tuple[int, int, int, int]  # device, inode, change time in ns, size


class Storage(Protocol):
    """A disk. Handles are small integers, offsets and sizes are bytes."""

    def make_folder(self, path: Path) -> None:
        """Create a folder (and its parents) for its owner only, its name durable; fine if it exists."""
        ...

    def list_folder(self, path: Path) -> list[str]:
        """Names in the folder, in no order."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make names created, renamed and removed in the folder durable."""
        ...

    def lock(self, path: Path, note: bytes) -> int | None:
        """Lock a file without waiting and write the note into it; None if somebody else holds it."""
        ...

    def open_read(self, path: Path) -> int:
        """Open an existing file for reading."""
        ...

    def open_write(self, path: Path) -> int:
        """Open an existing file for reading and writing."""
        ...

    def create(self, path: Path) -> int:
        """Open an empty file for reading and writing, cutting an existing one to nothing."""
        ...

    def close(self, handle: int) -> None:
        """Give the handle back."""
        ...

    def size(self, handle: int) -> int:
        """Length of the file in bytes."""
        ...

    def read(self, handle: int, into: memoryview, offset: int) -> int:
        """Read at most `len(into)` bytes, return how many; 0 only at the end of the file."""
        ...

    def write(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write without waiting for the disk, return how many bytes were taken."""
        ...

    def write_durable(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write, return how many bytes are now durable."""
        ...

    def sync(self, handle: int) -> None:
        """Make all bytes and the length of the file durable."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Set the length of the file."""
        ...

    def allocate(self, handle: int, size: int) -> None:
        """Take the space for the file now; one of `FULL_ERRNOS` if there is none."""
        ...

    def forget_cache(self, handle: int) -> None:
        """Advise the system to read the file from the disk next time, not from memory."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename within a folder or into a sub-folder, replacing the target."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        ...

    def identity(self, path: Path) -> Identity | None:
        """Something that changes when the file is replaced; None if it is not there."""
        ...

    def now_ns(self) -> int:
        """Wall clock in ns, for the creation times in headers."""
        ...

    def random_bytes(self, size: int) -> bytes:
        """Fresh random bytes, for journal ids and salts."""
        ...


class RealStorage:
    """The operating system's files. Thread-safe: it keeps one learned fact, and handles in reserve.

    A process may have only so many files and sockets open, and who opens too many is not the journal; but it is the
    journal that would fail, at its next segment. So a storage that writes keeps a few handles to give up for its own.
    """

    def __init__(self) -> None:
        self._reserve: list[int] = []
        self._lock: int | None = None  # While it is held, so is the reserve.
        # One syscall that writes and waits costs half of two, and releases the GIL once (measured).
        self._dsync_flag: int = getattr(os, "RWF_DSYNC", 0)

    def make_folder(self, path: Path) -> None:
        """See `Storage`."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self.sync_folder(folder.parent)

    def list_folder(self, path: Path) -> list[str]:
        """See `Storage`."""
        return [entry.name for entry in path.iterdir()]

    def sync_folder(self, path: Path) -> None:
        """See `Storage`."""
        handle = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            self.close(handle)

    def lock(self, path: Path, note: bytes) -> int | None:
        """See `Storage`. A `flock`: it ends with the process, and is not for network file systems."""
        handle = self._open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, note, 0)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        self._lock = handle
        self._refill()
        return handle

    def open_read(self, path: Path) -> int:
        """See `Storage`."""
        return self._open(path, os.O_RDONLY)

    def open_write(self, path: Path) -> int:
        """See `Storage`."""
        return self._open(path, os.O_RDWR)

    def create(self, path: Path) -> int:
        """See `Storage`."""
        return self._open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def close(self, handle: int) -> None:
        """See `Storage`."""
        os.close(handle)
        if handle == self._lock:
            self._lock = None
            while self._reserve:
                os.close(self._reserve.pop())
        self._refill()

    def _open(self, path: Path, flags: int) -> int:
        while True:
            try:
                return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
            except OSError as error:
                if error.errno not in _NO_HANDLE_ERRNOS or not self._reserve:
                    raise
                os.close(self._reserve.pop())

    def _refill(self) -> None:
        """Take back what was given up, as far as it goes."""
        with suppress(OSError):
            while self._lock is not None and len(self._reserve) < RESERVED_HANDLES:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def size(self, handle: int) -> int:
        """See `Storage`."""
        return os.fstat(handle).st_size

    def read(self, handle: int, into: memoryview, offset: int) -> int:
        """See `Storage`."""
        return os.preadv(handle, [into], offset)

    def write(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """See `Storage`."""
        return os.pwritev(handle, buffers, offset)

    def write_durable(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """See `Storage`."""
        if self._dsync_flag:
            try:
                return os.pwritev(handle, buffers, offset, self._dsync_flag)
            except OSError as error:
                # The file system or kernel does not know the flag and wrote nothing: two calls from now on.
                if error.errno not in _UNSUPPORTED_ERRNOS:
                    raise
                self._dsync_flag = 0
        written = os.pwritev(handle, buffers, offset)
        _sync_data(handle)
        return written

    def sync(self, handle: int) -> None:
        """See `Storage`."""
        os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """See `Storage`."""
        os.ftruncate(handle, size)

    def allocate(self, handle: int, size: int) -> None:
        """See `Storage`. Where the file system cannot, the zeros written next take the space all the same."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
            except OSError as error:
                if error.errno not in _UNSUPPORTED_ERRNOS | {errno.EINVAL}:
                    raise

    def forget_cache(self, handle: int) -> None:
        """See `Storage`."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, source: Path, target: Path) -> None:
        """See `Storage`."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """See `Storage`."""
        path.unlink()

    def identity(self, path: Path) -> Identity | None:
        """See `Storage`."""
        try:
            found = os.stat(path)  # noqa: PTH116 - on the append path: a third of the cost of `Path.stat`.
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_size

    def now_ns(self) -> int:
        """See `Storage`."""
        return time.time_ns()

    def random_bytes(self, size: int) -> bytes:
        """See `Storage`."""
        return os.urandom(size)


_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def write_fully(storage: Storage, handle: int, buffers: Sequence[bytes], offset: int, *, durable: bool) -> None:
    """Write all of the buffers, going on after a short write.

    Raises:
        OSError: whatever the storage raised; how much was written by then is unknown.
    """
    write = storage.write_durable if durable else storage.write
    if len(buffers) > IOV_MAX:
        buffers = [b"".join(buffers)]
    total = sum(map(len, buffers))
    done = write(handle, buffers, offset)
    while done < total:
        rest = b"".join(buffers)[done:]
        more = write(handle, [rest], offset + done)
        if more <= 0:
            raise OSError(errno.EIO, "the disk takes no more bytes and gives no reason")
        done += more


def read_fully(storage: Storage, handle: int, size: int, offset: int = 0) -> bytes:
    """Read `size` bytes, or up to the end of the file, whichever comes first."""
    into = bytearray(size)
    view = memoryview(into)
    done = 0
    while done < size:
        got = storage.read(handle, view[done:], offset + done)
        if got == 0:
            break
        done += got
    return bytes(view[:done])


def replace_file(storage: Storage, path: Path, content: bytes) -> None:
    """Replace a file so that a crash leaves the old or the new content, never a mixture.

    Raises:
        OSError: whatever the storage raised; the old content is still in place or the new one is.
    """
    temporary = path.with_name(path.name + ".tmp")
    handle = storage.create(temporary)
    try:
        write_fully(storage, handle, [content], 0, durable=False)
        storage.sync(handle)
    finally:
        storage.close(handle)
    storage.rename(temporary, path)
    storage.sync_folder(path.parent)
