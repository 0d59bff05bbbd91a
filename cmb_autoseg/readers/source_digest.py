"""What tells whether two sequences are the same scan: the digest of a source of one file or of many."""

from collections.abc import Callable
from pathlib import Path

from cmb_autoseg.files import text_digest
from cmb_autoseg.readers.dispatch import source_files
from cmb_autoseg.records import ImageSource

__all__ = ["source_digest"]


def source_digest(source: ImageSource, digest_of: Callable[[Path], str]) -> str:
    """Of its one file, or of the digests of its files in their order: a series, pictures, a header and its voxels.

    Digests are comparable where both are of one file, or both of many.

    Args:
        source: its files are on disk.
        digest_of: gives the digest of a file's bytes.
    """
    digests = [digest_of(path) for path in source_files(source)]
    return digests[0] if len(digests) == 1 else text_digest("".join(digests))
