"""Members of zip and tar archives: listed once, read one at a time, nothing written where the archive says.

`ARCHIVE!/MEMBER` names a member. Archives within archives are not opened.
"""

import errno
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, gettempdir
from typing import IO

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import MOST_GZIP_PACKS

__all__ = [
    "ARCHIVE_SUFFIXES",
    "Member",
    "is_archive",
    "list_members",
    "member_checksum",
    "member_head",
    "member_names",
    "open_member",
    "split_path",
    "unpacked",
]

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
IN_ARCHIVE = "!/"
LISTED = 256
"""Archives whose lists of members are kept in memory."""
HEAD_BYTES = 2048
"""Kept of each member of a packed tar, which cannot be entered in the middle: enough for a header."""
BLOCK = 1 << 20
READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SMALLEST_BOMB = 1 << 20
"""Bytes; what unpacks to less does no harm, however well it is packed."""


@dataclass(frozen=True)
class Member:
    """One file in an archive."""

    name: str
    """As patterns see it: with `/`, without a leading `./`."""
    size: int
    """Bytes, unpacked, as the archive claims."""
    checksum: int | None
    """CRC-32 of the unpacked bytes, where the archive has it."""
    fault: str = ""
    """Why it is not read, in one line; '' of a good one."""


@dataclass(frozen=True)
class _Listing:
    members: Mapping[str, Member]
    entries: Mapping[str, zipfile.ZipInfo | tarfile.TarInfo]
    heads: Mapping[str, bytes]


def is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def split_path(path: str) -> tuple[Path, str] | None:
    """Archive and member of `ARCHIVE!/MEMBER`; None of the path of a plain file."""
    at = path.find(IN_ARCHIVE)
    while at >= 0:
        if is_archive(path[:at]):
            return Path(path[:at]), path[at + len(IN_ARCHIVE) :]
        at = path.find(IN_ARCHIVE, at + 1)
    return None


def list_members(archive: Path) -> list[Member]:
    """The files in an archive by name; of a zip from its directory alone. Folders are left out.

    Raises:
        InputError: it is missing, damaged or no archive.
    """
    return sorted(_listing(archive).members.values(), key=lambda member: member.name)


def member_checksum(path: str) -> tuple[int, int | None]:
    """Size of a member `ARCHIVE!/MEMBER`, and CRC-32 of its bytes where the archive has it.

    Raises:
        InputError: no such archive or member.
    """
    archive, _ = _split(path)
    member = _good(path, _listing(archive))
    return member.size, member.checksum


def member_head(path: str, length: int) -> tuple[bytes, int]:
    """The first bytes of a member `ARCHIVE!/MEMBER`, and its size; nothing else of it is unpacked.

    Raises:
        InputError: as `open_member`.
    """
    archive, name = _split(path)
    listing = _listing(archive)
    member = _good(path, listing)
    kept = listing.heads.get(name)
    if kept is not None and len(kept) >= min(length, member.size, HEAD_BYTES):
        return kept[:length], member.size
    with open_member(path) as stream:
        return stream.read(length), member.size


@contextmanager
def open_member(path: str) -> Iterator[IO[bytes]]:
    """A member `ARCHIVE!/MEMBER` as a stream of its unpacked bytes.

    Raises:
        InputError: no such archive or member, or one that is damaged, encrypted, a link or a bomb.
    """
    archive, name = _split(path)
    listing = _listing(archive)
    _good(path, listing)
    entry = listing.entries[name]
    with _told(path):
        if isinstance(entry, zipfile.ZipInfo):
            with zipfile.ZipFile(archive) as opened, opened.open(entry) as stream:
                yield stream
        else:
            with tarfile.open(archive) as tar, _of_tar(tar, entry) as stream:
                yield stream


@contextmanager
def unpacked(path: str, named: Callable[[str, bytes], Collection[str]] | None = None) -> Iterator[Path]:
    """A member as a file of its own name in a temporary folder, beside members that only differ in their suffix.

    Args:
        path: of the member, `ARCHIVE!/MEMBER`.
        named: says, by a member's path and first bytes, which others of its folder are needed beside it.

    Raises:
        InputError: as `open_member`, or as `named`.
    """
    archive, name = _split(path)
    wanted = PurePosixPath(name)
    listing = _listing(archive)
    _good(path, listing)
    names = () if named is None else member_names(path, named)
    with TemporaryDirectory(prefix="cmb_autoseg_") as folder:
        for member in listing.members.values():
            other = PurePosixPath(member.name)
            needed = _stem(other) == _stem(wanted) or other.name in names
            beside = other.parent == wanted.parent and needed and not member.fault
            if member.name == name or beside:
                _write(f"{archive}{IN_ARCHIVE}{member.name}", Path(folder) / other.name)
        yield Path(folder) / wanted.name


def member_names(path: str, named: Callable[[str, bytes], Collection[str]]) -> Collection[str]:
    """What `named` says of a member `ARCHIVE!/MEMBER`.

    Raises:
        InputError: as `open_member`, or as `named`.
    """
    with open_member(path) as stream:
        return named(path, stream.read(BLOCK))


def _stem(path: PurePosixPath) -> str:
    return path.name.partition(".")[0]


def _write(path: str, target: Path) -> None:
    with open_member(path) as stream, target.open("wb") as out:
        while block := stream.read(BLOCK):
            out.write(block)


def _split(path: str) -> tuple[Path, str]:
    parts = split_path(path)
    if parts is None:
        raise InputError(f"{path}: names no member of an archive; write ARCHIVE!/MEMBER")
    return parts


def _good(path: str, listing: _Listing) -> Member:
    """The member, if it can be read."""
    _, name = _split(path)
    member = listing.members.get(name)
    if member is None:
        raise InputError(f"{path}: no such member in the archive; correct the path")
    if member.fault:
        raise InputError(f"{path}: {member.fault}")
    return member


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Turn what archives' readers raise for damaged files into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it") from None
    except PermissionError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); correct its permissions") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError,
            ValueError, LookupError) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{path}: no space in {gettempdir()} to unpack it; free some, or set TMPDIR to a larger folder"
            ) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: damaged archive ({reason}); copy it again, whole") from None


def _listing(archive: Path) -> _Listing:
    with _told(archive):
        status = archive.stat()
    return _listed(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=LISTED)
def _listed(archive: Path, size: int, _modified_ns: int) -> _Listing:
    with _told(archive):
        return _list_zip(archive) if archive.suffix.lower() == ".zip" else _list_tar(archive, size)


def _list_zip(archive: Path) -> _Listing:
    with zipfile.ZipFile(archive) as opened:
        entries = {_plain(entry.filename): entry for entry in opened.infolist() if not entry.is_dir()}
    members = {
        name: Member(name, entry.file_size, entry.CRC, _fault_of_zipped(entry)) for name, entry in entries.items()
    }
    return _Listing(members, entries, {})


def _fault_of_zipped(entry: zipfile.ZipInfo) -> str:
    if entry.flag_bits & 1:
        return "encrypted; unpack the archive with its password"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "a link, no file; pack the file itself"
    if entry.compress_type not in READABLE:
        return f"packed by method {entry.compress_type}, which is not read; pack the archive anew"
    return _fault_of_name(entry.filename) or _fault_of_size(entry.file_size, entry.compress_size)


def _list_tar(archive: Path, size: int) -> _Listing:
    is_packed = archive.suffix.lower() != ".tar"
    entries: dict[str, zipfile.ZipInfo | tarfile.TarInfo] = {}
    members: dict[str, Member] = {}
    heads: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz" if is_packed else "r:") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            name = _plain(entry.name)
            members[name] = Member(name, entry.size, None, _fault_of_tarred(entry, size))
            entries[name] = entry
            if is_packed and not members[name].fault:
                with _of_tar(tar, entry) as stream:
                    heads[name] = stream.read(HEAD_BYTES)
        if not is_packed:
            _check_end(archive, tar.offset)
    return _Listing(members, entries, heads)


def _check_end(archive: Path, offset: int) -> None:
    """An archive ends with a block of zeros, or just ends; a damaged header looks like its end to tarfile."""
    with archive.open("rb") as stream:
        stream.seek(offset)
        if any(stream.read(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError(f"no member's header at byte {offset}")


def _of_tar(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(entry)
    assert stream is not None
    return stream


def _fault_of_tarred(entry: tarfile.TarInfo, archive_size: int) -> str:
    if not entry.isreg() or entry.issparse():
        return "a link, device or sparse file, no plain file; pack the file itself"
    return _fault_of_name(entry.name) or _fault_of_size(entry.size, archive_size)


def _fault_of_name(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        return "its name leads out of the archive; pack the archive anew with relative names"
    return ""


def _fault_of_size(claimed: int, packed: int) -> str:
    if claimed > max(packed * MOST_GZIP_PACKS, SMALLEST_BOMB):
        return f"claims {claimed / 1e9:.3g} GB, more than the archive can hold; get it again from its source"
    return ""


def _plain(name: str) -> str:
    return name.removeprefix("./")
