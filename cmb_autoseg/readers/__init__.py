"""Reading one sequence of one case, whatever its files are: one `ImageSource` gives one `Volume`.

Each format has a module of its own; libraries are not imported before a file of their format is read.
"""

from cmb_autoseg.readers.dispatch import (
    IMAGE_SUFFIXES,
    ITK_SUFFIXES,
    MATLAB_SUFFIX,
    PICTURE_SUFFIXES,
    count_volumes,
    file_on_disk,
    files_of_volume,
    read_bytes,
    read_grid,
    read_volume,
    source_files,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "ITK_SUFFIXES",
    "MATLAB_SUFFIX",
    "PICTURE_SUFFIXES",
    "count_volumes",
    "file_on_disk",
    "files_of_volume",
    "read_bytes",
    "read_grid",
    "read_volume",
    "source_files",
]
