"""Reading one sequence of one case, whatever its files are: one `ImageSource` gives one `Volume`.

Each format has a module of its own; none is imported before a file of that format is read.
"""

from cmb_autoseg.readers.dispatch import (
    IMAGE_SUFFIXES,
    PICTURE_SUFFIXES,
    count_volumes,
    file_on_disk,
    read_grid,
    read_volume,
    source_files,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "count_volumes",
    "file_on_disk",
    "read_grid",
    "read_volume",
    "source_files",
]
