"""A results folder as one file: a tar archive, compressed by xz, which any tar reads and writes."""

import io
import lzma
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from contracts.errors import LikenessError
from contracts.files import guard, read_file, write_atomically
from leaderboard.results.packed import NAME

MOST = 2**30
"""Bytes that a file may unpack to."""
_MEMORY = 2**27  # bytes that xz may take to unpack; what we pack takes a tenth of it
_WORD = r"[A-Za-z0-9_][A-Za-z0-9._@+-]*"
_MEMBER = re.compile(
    r"(nobody/)?((protocol|metrics|sources|descriptions|calibration|packed)\.json"
    rf"|references/{_WORD}\.webp"
    rf"|entries/{_WORD}/((entry|stages)\.json|records\.jsonl|timings/{_WORD}\.jsonl?|images/{_WORD}\.webp))"
)
"""The names of what a folder of packed results holds."""


def write_archive(path: Path, files: Mapping[str, bytes]) -> int:
    """Write files by their names in the folder; equal files give equal bytes.

    Returns:
        The size in bytes.

    Raises:
        LikenessError: it cannot be written.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)  # no owner, no time
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
    data = lzma.compress(plain.getvalue(), preset=6 | lzma.PRESET_EXTREME)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise LikenessError(f"{path} cannot be written: {error.strerror}") from error
    return len(data)


def read_archive(path: Path) -> dict[str, bytes]:
    """The files of an archive by name. Nothing is written.

    Raises:
        LikenessError: it cannot be read, is damaged, or holds anything else than packed results.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise LikenessError(f"{path} cannot be read: {error.strerror}") from error
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    found: dict[str, bytes] = {}
    try:
        plain = unpacker.decompress(data, MOST)
        if not unpacker.eof or unpacker.unused_data:
            raise LikenessError(f"{path} is cut short, has more behind its end, or unpacks to more than {MOST} bytes")
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                if not member.isfile() or not _MEMBER.fullmatch(member.name) or member.name in found:
                    raise LikenessError(f"{path} holds no packed results: there is {member.name!r} in it")
                content = archive.extractfile(member)
                found[member.name] = content.read() if content else b""
    except (lzma.LZMAError, tarfile.TarError) as error:
        raise LikenessError(f"{path} is damaged, or no tar archive compressed by xz: {error}") from error
    if missing := {"protocol.json", NAME} - found.keys():
        raise LikenessError(f"{path} holds no packed results: there is no {min(missing)} in it")
    return found


def unpack(path: Path, folder: Path) -> int:
    """Make a results folder of an archive.

    Returns:
        How many files it has.

    Raises:
        LikenessError: as :func:`read_archive`, or the folder holds something already.
    """
    files = read_archive(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LikenessError(f"{folder} is not empty: unpack into another folder")
    guard(folder)
    last = "protocol.json"  # without which it is no results folder
    try:
        for name in [*sorted(files.keys() - {last}), last]:
            write_atomically(folder / name, files[name])
    except OSError as error:
        raise LikenessError(f"{error.filename} cannot be written: {error.strerror}") from error
    return len(files)
