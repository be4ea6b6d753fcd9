"""Real file systems that are small, or that break: mounted for a test, where the machine lets it."""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN.
SHUTDOWN_NO_FLUSH = 2  # What was not synced is lost, as when the power fails.


def _run(tool: str, *arguments: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"this machine does not let a test have a disk: there is no {tool}")
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let a test have a disk: {tool}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def memory_disk(at: Path, mib: int) -> Generator[Path]:
    """A disk of so many MiB, gone after the block."""
    at.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(at))
    try:
        yield at
    finally:
        _run("umount", "--lazy", str(at))


class BreakableDisk:
    """An ext4 in a file, that can break under who uses it, and be mounted again.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self._image = image

    def mount(self) -> None:
        """Let it be there; at the first time and after it broke."""
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Take it away."""
        _run("umount", "--lazy", str(self.folder))

    def break_down(self) -> None:
        """From now on each of its operations is an EIO, as when a cable is pulled."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", SHUTDOWN_NO_FLUSH))
        finally:
            os.close(handle)

    def become_read_only(self) -> None:
        """What Linux does when it finds a file system inconsistent: each write is an EROFS from now on."""
        source = _run("findmnt", "--noheadings", "--output", "SOURCE", str(self.folder))
        trigger = Path("/sys/fs/ext4", Path(source).name, "trigger_fs_error")
        if not trigger.exists():
            pytest.skip("this kernel has no trigger for a file system that becomes read-only")
        trigger.write_text("a test")


@contextmanager
def breakable_disk(folder: Path, mib: int) -> Generator[BreakableDisk]:
    """A disk of so many MiB that can break."""
    image, at = folder / "disk.image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    at.mkdir()
    disk = BreakableDisk(at, image)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
