"""Logits that tell how often the starter model is right.

It learns from patches that hold far more microbleeds than heads do, and becomes so sure that its probabilities round
to 1: no threshold then tells one find from another. Scaled and shifted logits (Platt 1999) order them as before.
"""

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import read_volume, to_canonical
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.predict import prepare_for
from cmb_autoseg.starter.families import cases_of, label_of
from cmb_autoseg.trainers.candidates.candidates import propose

__all__ = ["FIRST_GUESS", "Calibration", "calibrate", "find_peaks", "fit"]

FLOOR = 0.02
"""Probability of the faintest peaks that are looked at."""
MOST_PEAKS = 400
"""Of a scan."""
NEAR_MM = 3.0
"""A peak is right where it lies nearer than this to a microbleed."""
LEAST_SCALE = 0.01
HEADS, ENDS = "decoder.heads.", (".weight", ".bias")
"""Of a network's tensors, those that make logits; the last ones by name are the finest."""
MICROBLEED = 1
"""Beside the background; their logits' difference counts."""


@dataclass(frozen=True)
class Calibration:
    """A microbleed's logit becomes scale * logit + shift."""

    scale: float
    shift: float

    def then(self, other: "Calibration") -> "Calibration":
        """Both, this one first."""
        return Calibration(self.scale * other.scale, self.shift * other.scale + other.shift)


FIRST_GUESS = Calibration(0.35, -4.5)
"""Enough for probabilities that do not round to 1."""


def calibrate(weights: MutableMapping[str, Tensor], calibration: Calibration) -> None:
    """Scale and shift the finest head of a network, in place."""
    weight, bias = (max(name for name in weights if name.startswith(HEADS) and name.endswith(end)) for end in ENDS)
    weights[weight] *= calibration.scale
    weights[bias] *= calibration.scale
    weights[bias][MICROBLEED] += calibration.shift


def find_peaks(model: Ensemble, folders: Iterable[Path]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits (n,) of the peaks in a model's maps of simulated people, and which ones are at microbleeds.

    Args:
        model: to be looked at.
        folders: of families' people.
    """
    logits, right = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for folder in folders:
        for case in cases_of(folder):
            probability = model.probability(prepare_for(case, model).volumes)
            found = propose(probability, FLOOR, MOST_PEAKS)
            reference = to_canonical(read_volume(label_of(folder, case), dtype="uint8"))
            at = tuple(found.peaks.T)
            away_mm = ndimage.distance_transform_edt(reference.data == 0, sampling=reference.spacing_mm)
            peaks = found.confidence.clip(max=1 - 1e-7)
            logits.append(np.log(peaks / (1 - peaks)))
            right.append(away_mm[at] < NEAR_MM if (reference.data > 0).any() else np.zeros(len(peaks), dtype=bool))
    return np.concatenate(logits), np.concatenate(right)


def fit(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """The calibration under which finds of these logits are most likely right and wrong as they are.

    What is right counts as a little wrong and the other way round, as Platt (1999) has it, so that few finds, well told
    apart, make nobody sure. Finds stay in their order, even where surer ones are right less often.

    Raises:
        InputError: all are right, or all wrong.
    """
    if right.all() or not right.any():
        raise InputError(f"of {len(right)} finds {int(right.sum())} are right, and both kinds are needed to calibrate")
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    wanted = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))

    def surprise(values: NDArray[np.float64]) -> float:
        calibrated = values[0] * logits + values[1]
        return float((np.logaddexp(0, calibrated) - wanted * calibrated).mean())

    scale, shift = optimize.minimize(surprise, (1.0, 0.0), bounds=((LEAST_SCALE, None), (None, None))).x
    return Calibration(float(scale), float(shift))
