"""Pictures of a fold's cases on disk, so that training reads the slices that it draws and no more.

They are written once, below the dataset's preprocessed folder, under a digest of what decides them, and made anew
where a scan, a label or the settings change. A case is complete when its `.json` is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import atomic_path, read_json, text_digest, write_json
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.locking import LONGEST_WAIT_S, is_owned, own_folder
from cmb_autoseg.preprocessing.slices import slice_input, slice_labels
from cmb_autoseg.progress import Meter, log
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import BoxPictureSettings, PictureSettings

__all__ = ["SliceCase", "SliceStore"]

VERSION = 3
"""Of the code that makes pictures: a higher number makes them anew."""


@dataclass(frozen=True)
class SliceCase:
    """The pictures of one case; arrays are read from disk as they are used.

    Slices below and above the brain are not kept.

    Attributes:
        name: of the case.
        data: (slice, channel, h, w) float16, from 0 to 1.
        mask: (slice, h, w) uint8, 1 in a microbleed, `preprocessing.slices.IGNORED` in one that is no target.
        boxes: (n, 5) float32, slice, x_min, y_min, x_max, y_max in continuous pixels, by slice.
    """

    name: str
    data: NDArray[np.float16]
    mask: NDArray[np.uint8]
    boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def positive(self) -> NDArray[np.intp]:
        """Slices with a microbleed, rising."""
        return np.unique(self.boxes[:, 0].astype(np.intp))

    def boxes_of(self, index: int) -> NDArray[np.float32]:
        """(n, 4), x_min, y_min, x_max, y_max of one slice."""
        return self.boxes[self.boxes[:, 0] == index, 1:]


@dataclass(frozen=True)
class SliceStore:
    """Pictures of one dataset by one recipe's settings.

    Attributes:
        raw: the dataset.
        channels: sequences of the network's channels.
        blank: channels that stay 0, whatever a case has.
        pictures: settings of the recipe.
        size: rows and columns.
        diameter_mm: microbleeds smaller or larger are no targets; None: all are.
    """

    raw: RawDataset
    channels: tuple[Role, ...]
    blank: tuple[Role, ...]
    pictures: PictureSettings | BoxPictureSettings
    size: tuple[int, int]
    diameter_mm: tuple[float, float] | None = None

    @property
    def folder(self) -> Path:
        """Named by a digest of all that decides the pictures of a case but the case itself."""
        decides = {
            "version": VERSION,
            "channels": list(self.channels),
            "blank": list(self.blank),
            "pictures": self.pictures.model_dump(mode="json", exclude={"neighbors", "size"}),
            "size": list(self.size),
            "diameter_mm": self.diameter_mm,
        }
        digest = text_digest(repr(sorted(decides.items()))).removeprefix("sha256:")
        return self.raw.folders.preprocessed / "slices" / digest[:16]

    def open(self, cases: Sequence[RawCase]) -> list[SliceCase]:
        """The pictures of labelled cases, in order; what is not there yet, or of other scans, is written first.

        Raises:
            InputError: a scan is damaged.
            OutputError: the folder cannot be written to (a full disk).
        """
        if not all(self._is_current(case) for case in cases):
            self._write_missing(cases)
        return [self._open(case.name) for case in cases]

    def _write_missing(self, cases: Sequence[RawCase]) -> None:
        owner = is_owned(self.folder)
        if owner is not None:
            log(f"{self.folder}: waiting for {owner}")
        with own_folder(self.folder, "the writing of slices", wait_s=LONGEST_WAIT_S):
            missing = [case for case in dict.fromkeys(cases) if not self._is_current(case)]
            with Meter("Cutting slices", len(missing), slow=True) as meter:
                for case in missing:
                    self._write(case)
                    meter.advance()

    def _is_current(self, case: RawCase) -> bool:
        try:
            content = read_json(self._path(case.name, "json"))
        except InputError:
            return False
        return isinstance(content, dict) and content.get("made_of") == self._sources(case)

    def _sources(self, case: RawCase) -> dict[str, Any]:
        """What a case's pictures are made of: how it was prepared, and the files as they are now."""
        files = [case.image(self.raw.roles.index(role)) for role in self._seen(case)]
        stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (*files, case.label)]
        return {"raw": self.raw.digest, "files": [list(stamp) for stamp in stamps]}

    def _seen(self, case: RawCase) -> list[Role]:
        return [role for role in case.sequences if role in self.channels and role not in self.blank]

    def _write(self, case: RawCase) -> None:
        sources = self._sources(case)
        volumes = {role: read_volume(case.image(self.raw.roles.index(role))) for role in self._seen(case)}
        made = slice_input(volumes, self.channels, self.pictures, self.size)
        label = read_volume(case.label, dtype="uint8")
        labels = slice_labels(label.data, made.frame, label.voxel_volume_mm3, self.diameter_mm)
        used = np.flatnonzero(made.data.any(axis=(1, 2, 3)) | labels.mask.any(axis=(1, 2)))
        first, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, len(made.data))
        self._path(case.name, "json").unlink(missing_ok=True)
        boxes = labels.boxes - np.array([first, 0, 0, 0, 0], dtype=np.float32)
        for part, array in (
            ("data", made.data[first:stop].astype(np.float16)),
            ("mask", labels.mask[first:stop]),
            ("boxes", boxes),
        ):
            with atomic_path(self._path(case.name, f"{part}.npy")) as temporary:
                np.save(temporary, array)
        write_json(self._path(case.name, "json"), {"made_of": sources, "slices": stop - first})

    def _open(self, name: str) -> SliceCase:
        try:
            content = read_json(self._path(name, "json"))
            case = SliceCase(
                name,
                np.load(self._path(name, "data.npy"), mmap_mode="r"),
                np.load(self._path(name, "mask.npy"), mmap_mode="r"),
                np.load(self._path(name, "boxes.npy")),
            )
            if len(case.data) != content["slices"] or case.mask.shape != (len(case), *self.size):
                raise ValueError(f"{len(case)} slices, {content['slices']} were written")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.folder}: the pictures of {name} are damaged ({reason}); delete that folder and run this again, "
                "which cuts them anew"
            ) from None
        return case

    def _path(self, name: str, ending: str) -> Path:
        return self.folder / f"{name}.{ending}"
