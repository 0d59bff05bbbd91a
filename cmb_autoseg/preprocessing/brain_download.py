"""Fetching HD-BET 2's published weights, at the user's explicit wish and never otherwise."""

import errno
import shutil
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO

from cmb_autoseg.errors import CMBError, InputError, OutputError
from cmb_autoseg.files import file_digest, write_json
from cmb_autoseg.run_log import RUN_TOKEN

__all__ = ["CHECKPOINT", "HD_BET_URL", "WEIGHT_FILES", "download_brain_network"]

HD_BET_URL = "https://zenodo.org/records/14445620/files/release_v1.5.0.zip?download=1"
"""What HD-BET 2.0.1 fetches itself."""
CHECKPOINT = "fold_all/checkpoint_final.pth"
WEIGHT_FILES = ("dataset.json", "plans.json", CHECKPOINT)
TIMEOUT_S = 100
LARGEST_BYTES = 4 << 30
"""More than any published brain network unpacks to."""
CHUNK_BYTES = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def download_brain_network(folder: Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """Fetch HD-BET 2's published weights; only ever at the user's explicit wish.

    The publisher's checksum is not known here, so the transport (HTTPS) is the only check of what
    comes. The digests of the archive and of the checkpoint are written to `download.json` beside the
    weights, so that a card can pin them from then on.

    Args:
        folder: to be made; it must not exist, or be empty.
        on_bytes: called with the number of bytes so far.

    Returns:
        `sha256:<hex>` of the checkpoint.

    Raises:
        InputError: no connection, or what comes is not the archive of a brain network.
        OutputError: the folder is in use or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; name an empty folder for HD-BET's weights")
    archive = folder.with_name(f".tmp{RUN_TOKEN}_{folder.name}.zip")
    unpacked = folder.with_name(f".tmp{RUN_TOKEN}_{folder.name}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _fetch(archive, on_bytes)
        _unpack(archive, unpacked)
        digest = file_digest(unpacked / CHECKPOINT)
        write_json(
            unpacked / "download.json",
            {"url": HD_BET_URL, "archive": file_digest(archive), "checkpoint": digest, "publisher_checksum": None},
        )
        unpacked.replace(folder)
    except OSError as error:
        if isinstance(error, CMBError):
            raise
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
    return digest


def _fetch(target: Path, on_bytes: Callable[[int], object] | None = None) -> None:
    with target.open("wb") as stream, _connection_faults():
        with urllib.request.urlopen(HD_BET_URL, timeout=TIMEOUT_S) as response:
            expected = response.headers.get("Content-Length")
            done = _copy(response, stream, on_bytes)
        if expected is not None and done != int(expected):
            raise HTTPException(f"{done} of {expected} bytes came")


@contextmanager
def _connection_faults() -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, CMBError) or getattr(error, "errno", None) in FULL:
            raise
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        raise InputError(
            f"{HD_BET_URL}: cannot be downloaded ({reason}); on another computer, fetch and unpack it, and name the "
            "folder with --brain-weights DIR (in a card: prep.hd_bet.folder)"
        ) from None


def _copy(source: IO[bytes], target: IO[bytes], on_bytes: Callable[[int], object] | None = None) -> int:
    done = 0
    while chunk := source.read(CHUNK_BYTES):
        done += len(chunk)
        if done > LARGEST_BYTES:
            raise InputError(f"{HD_BET_URL}: more than {LARGEST_BYTES >> 30} GB, which is no brain network")
        target.write(chunk)
        if on_bytes is not None:
            on_bytes(done)
    return done


def _unpack(archive: Path, folder: Path) -> None:
    """Take the three files that are needed out of the archive, under names of our own choice."""
    try:
        with zipfile.ZipFile(archive) as content:
            names = content.namelist()
            root = next((name.removesuffix(CHECKPOINT) for name in names if name.endswith(CHECKPOINT)), None)
            missing = [name for name in WEIGHT_FILES if root is None or root + name not in names]
            if missing:
                raise InputError(f"{HD_BET_URL}: the archive lacks {', '.join(missing)}; see HD-BET's page for news")
            for name in WEIGHT_FILES:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with content.open(f"{root}{name}") as source, (folder / name).open("wb") as target:
                    _copy(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{HD_BET_URL}: what came is no sound zip archive ({error}); try again later") from None
