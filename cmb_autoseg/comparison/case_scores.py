"""What is kept of every judged case: counts at each threshold, candidates, the histogram of probabilities, no map."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.comparison.case_candidates import FOUND, CaseCandidates
from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.evaluation.metrics.voxel_histogram import BINNING, N_BINS, VoxelHistogram, count_probabilities
from cmb_autoseg.files import atomic_path, file_digest
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, ScoredCase, Sweep, count_case
from cmb_autoseg.records import Record

__all__ = [
    "CellScores",
    "ScoreRow",
    "ScoredView",
    "TrainingFacts",
    "read_scores",
    "read_views",
    "score_view",
    "write_scores",
]

CURVES = ("hits", "matched_predictions", "false_positives", "voxels_found", "voxels_false")
COUNTED = f"{len(SWEEP_THRESHOLDS)} thresholds; {BINNING}"
TOTALS = ("n_lesions", "n_voxels", "n_other_voxels")


class TrainingFacts(Record):
    """What the cell's model learned from, and how long."""

    steps: int
    n_parameters: int
    n_training_cases: int
    """Labelled ones that the budget left."""
    n_training_subjects: int
    n_unlabelled_cases: int
    encoder: str | None
    """Name and digest of the weights that it began with; None for random ones."""
    checkpoint: str
    """Digest."""
    training_seconds: float | None = None
    """Of the fold alone, without what it is built on; None in files of earlier versions, as with what follows."""
    seconds_per_case: float | None = None
    """Mean of the predictions of prepared cases from all their sequences."""


class ScoreRow(Record):
    """One case, predicted from one set of sequences."""

    case: str
    subject: str
    """`cohort/subject`."""
    sequences: str
    """All that the case has of those that the model may see, as `swi+t1`."""
    view: str
    """Those that it was predicted from."""


class CellScores(Record):
    """A finished cell: `scores/<cell>.json`; the arrays lie beside it, row by row, in `<cell>.npz`."""

    cell: Cell
    made_of: dict[str, str]
    """All that decides the scores, in words and digests; a cell of other settings is another cell."""
    training: TrainingFacts
    rows: tuple[ScoreRow, ...]
    arrays: str
    """Digest of the arrays' file."""
    counted: str = "at an earlier version"
    """How: thresholds and bins, which all cells of a table must share."""
    candidates: str | None = None
    """How those of curves were found; None in files of earlier versions, which have none."""


@dataclass(frozen=True)
class ScoredView:
    """What one case contributes in one view."""

    row: ScoreRow
    counts: Sweep
    histogram: VoxelHistogram | None
    """None where no table shows an AUC of the view."""
    candidates: CaseCandidates | None = None
    """None where no table ranks those of the view, and of files of earlier versions."""


def score_view(row: ScoreRow, case: ScoredCase, with_histogram: bool, with_candidates: bool = False) -> ScoredView:
    """Count one case's probability map, the voxels inside the brain only.

    Lesions are matched by the protocol `valdo`.
    """
    valdo = PROTOCOLS["valdo"]
    assert case.brain is not None
    marked = case.reference.data > 0
    inside = case.brain | marked
    histogram = count_probabilities(case.probability.data[inside], marked[inside]) if with_histogram else None
    candidates = CaseCandidates.of(case.probability, case.reference, valdo) if with_candidates else None
    return ScoredView(row, count_case(case, valdo), histogram, candidates)


def write_scores(
    path: Path, cell: Cell, made_of: dict[str, str], training: TrainingFacts, views: Sequence[ScoredView]
) -> CellScores:
    """Write `path` (`.json`) and the arrays beside it; the JSON comes last, so what has one is whole."""
    with atomic_path(path.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **_arrays(views))
    digest = file_digest(path.with_suffix(".npz"))
    rows = tuple(view.row for view in views)
    scores = CellScores(
        cell=cell,
        made_of=made_of,
        training=training,
        rows=rows,
        arrays=digest,
        counted=COUNTED,
        candidates=FOUND,
    )
    scores.write(path)
    return scores


def _arrays(views: Sequence[ScoredView]) -> dict[str, NDArray[Any]]:
    sparse = [_sparse(view.histogram) for view in views]
    joined = np.concatenate(sparse, axis=1) if sparse else np.zeros((3, 0), np.int64)
    return {
        "thresholds": np.asarray(SWEEP_THRESHOLDS),
        # (row, what, threshold)
        "curves": np.array([[getattr(view.counts, name) for name in CURVES] for view in views], dtype=np.int32),
        "totals": np.array([[getattr(view.counts, name) for name in TOTALS] for view in views], dtype=np.int32),
        "histogram_lengths": np.array(
            [-1 if view.histogram is None else part.shape[1] for view, part in zip(views, sparse, strict=True)],
            dtype=np.int32,
        ),
        "histogram_bins": joined[0].astype(np.uint16),
        "histogram_counts": joined[1:].astype(np.int32),
        **_candidate_arrays([view.candidates for view in views]),
    }


def _candidate_arrays(rows: Sequence[CaseCandidates | None]) -> dict[str, NDArray[Any]]:
    """Those of all rows, one after the other; -1 for the number of a row that has none stored."""
    stored = [own for own in rows if own is not None]
    return {
        "candidate_lengths": np.array([-1 if own is None else len(own.lesion) for own in rows], dtype=np.int32),
        "candidate_confidence": np.concatenate([np.empty(0, np.float32), *(own.confidence for own in stored)]),
        "candidate_lesion": np.concatenate([np.empty(0, np.int32), *(own.lesion for own in stored)]),
    }


def _sparse(histogram: VoxelHistogram | None) -> NDArray[np.int64]:
    """(3, n): the bins that are not empty, voxels of lesions, other voxels."""
    if histogram is None:
        return np.zeros((3, 0), np.int64)
    used = np.flatnonzero(histogram.lesion + histogram.other)
    return np.stack([used, histogram.lesion[used], histogram.other[used]])


def read_scores(path: Path) -> CellScores:
    """Read what `write_scores` wrote, but for the arrays, of which only the digest is checked.

    Raises:
        InputError: a file is missing, damaged, not the one that the other names, or of another version's counts.
    """
    try:
        scores = CellScores.read(path)
    except InputError as error:
        raise InputError(f"{str(error).partition('; ')[0]}; {_cure(path)}") from None
    if scores.counted != COUNTED:
        raise InputError(
            f"{path}: counted otherwise ({scores.counted}) than by this version ({COUNTED}); delete {path.parent} and "
            "repeat the calls of cmb_compare: trained cells are kept and judged again"
        )
    beside = path.with_suffix(".npz")
    if not beside.is_file() or file_digest(beside) != scores.arrays:
        found = "not the file that was written with it" if beside.is_file() else "no such file"
        raise InputError(f"{beside}: {found}; {_cure(path)}")
    return scores


def read_views(path: Path) -> list[ScoredView]:
    """Read the arrays, too.

    Raises:
        InputError: as `read_scores`, or arrays of another version.
    """
    scores = read_scores(path)
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        candidates = _candidates(arrays) if scores.candidates == FOUND else [None] * len(scores.rows)
        return list(_views(scores.rows, arrays, candidates))
    except (BadZipFile, KeyError, OSError, ValueError, IndexError) as error:
        raise InputError(f"{path.with_suffix('.npz')}: not readable ({type(error).__name__}); {_cure(path)}") from None


def _cure(path: Path) -> str:
    return f"delete {path.name} and {path.stem}.npz, and run cmb_compare again; trained cells are kept"


def _candidates(arrays: dict[str, NDArray[Any]]) -> list[CaseCandidates | None]:
    """Of each row."""
    lengths = arrays["candidate_lengths"]
    confidence, lesion = arrays["candidate_confidence"], arrays["candidate_lesion"]
    stops = np.cumsum(np.maximum(lengths, 0))
    return [
        None if n < 0 else CaseCandidates(confidence[stop - n : stop], lesion[stop - n : stop])
        for n, stop in zip(lengths, stops, strict=True)
    ]


def _views(
    rows: Iterable[ScoreRow], arrays: dict[str, NDArray[Any]], candidates: Sequence[CaseCandidates | None]
) -> Iterator[ScoredView]:
    if not np.array_equal(arrays["thresholds"], SWEEP_THRESHOLDS):
        raise ValueError("counted at other thresholds")
    lengths = arrays["histogram_lengths"]
    stops = np.cumsum(np.maximum(lengths, 0))
    for n, row in enumerate(rows):
        n_lesions, n_voxels, n_other = (int(total) for total in arrays["totals"][n])
        hits, matched, false, voxels_found, voxels_false = arrays["curves"][n].astype(np.int64)
        counts = Sweep(1, n_lesions, hits, matched, false, voxels_found, voxels_false, n_voxels, n_other)
        inside = slice(stops[n] - max(lengths[n], 0), stops[n])
        histogram = None
        if lengths[n] >= 0:
            histogram = VoxelHistogram(*np.zeros((2, N_BINS), np.int64))
            bins = arrays["histogram_bins"][inside]
            histogram.lesion[bins], histogram.other[bins] = arrays["histogram_counts"][:, inside]
        yield ScoredView(row, counts, histogram, candidates[n])
