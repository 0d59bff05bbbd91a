"""What a radial-symmetry detector with thresholds reaches on simulated people.

    python benchmarks/simulated_froc.py [PROTOCOL ...] [--people 8] [--log FOLDER]

Were it to find nearly all microbleeds (F1 above 0.5), veins and nuclei would be no competitors; were it
to find nearly none (below 0.05), the lesions would be unrealistically faint. Fast radial symmetry
(Loy & Zelinsky 2003) of dark discs of 1 to 3 mm in every slice; its maxima that are also dark against
their surroundings are detections, scored by symmetry. One to one with the centres of visible lesions
within 5 mm, nearest first, as in the VALDO challenge. The headline pools all people's lesions, so that a
person with many counts for many; the mean over people, at the headline's thresholds, counts each once.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.simulation.scan import SimulatedScan

RADII_MM = (1.0, 1.5, 2.0, 3.0)
STRICTNESS = 2.0
"""Exponent of the symmetry; called alpha in the paper."""
SURROUNDINGS_MM = 6.0
RIM_MM = 3.0
HIT_MM = 5.0
MOST = 3000
DARKER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Thresholds on the share of its surroundings' signal that a detection lacks."""
FALSE_POSITIVES = (0.5, 1, 2, 5, 10, 20, 50)
Array = NDArray[np.float64]


def radial_symmetry(slice_: Array, spacing_mm: tuple[float, float]) -> Array:
    """Symmetry of dark discs, shape (i, j), mean over `RADII_MM`."""
    smooth = ndimage.gaussian_filter(slice_, [0.5 / step for step in spacing_mm])
    gradient = np.stack(np.gradient(smooth, *spacing_mm))
    strength = np.linalg.norm(gradient, axis=0)
    direction = gradient / np.maximum(strength, 1e-12)
    index = np.indices(slice_.shape)
    total = np.zeros(slice_.shape)
    for radius in RADII_MM:
        # A dark disc's gradients point outwards: its middle lies one radius against each of them.
        steps = direction * radius / np.array(spacing_mm)[:, None, None]
        i, j = (
            np.clip(np.rint(place - step).astype(int), 0, n - 1)
            for place, step, n in zip(index, steps, slice_.shape, strict=True)
        )
        flat = np.ravel_multi_index((i, j), slice_.shape).ravel()
        votes = np.bincount(flat, (strength > 0).ravel(), slice_.size).reshape(slice_.shape)
        weight = np.bincount(flat, strength.ravel(), slice_.size).reshape(slice_.shape)
        most = max(2 * np.pi * radius / np.sqrt(np.prod(spacing_mm)), 4.0)
        symmetry = weight / most * np.minimum(votes / most, 1.0) ** STRICTNESS
        total += ndimage.gaussian_filter(symmetry, [0.25 * radius / step for step in spacing_mm])
    return total / len(RADII_MM)


def detections(scan: SimulatedScan) -> list[tuple[float, float, list[float]]]:
    """Score, darkness against the surroundings and place (mm) of each maximum, best first."""
    spacing = scan.grid.spacing_mm
    magnitude = scan.images["mag"][..., -1].astype(np.float64) * scan.brain
    inside = ndimage.distance_transform_edt(scan.brain, spacing) > RIM_MM
    reach = [SURROUNDINGS_MM / step / 2 for step in spacing]
    weight = ndimage.gaussian_filter(scan.brain.astype(np.float64), reach)
    around = ndimage.gaussian_filter(magnitude, reach) / np.maximum(weight, 1e-6)
    flat = np.where(scan.brain, magnitude / np.maximum(around, 1e-6), 1.0)
    score = np.stack([radial_symmetry(flat[..., k], spacing[:2]) for k in range(flat.shape[2])], axis=2)
    size = [2 * int(np.ceil(1.5 / step)) + 1 for step in spacing[:2]] + [3]
    peaks = (score == ndimage.maximum_filter(score, size)) & inside & (score > 0)
    darkest = ndimage.minimum_filter(flat, 3)
    voxels = np.argwhere(peaks)
    order = np.argsort(-score[peaks], kind="stable")[:MOST]
    return [(float(score[tuple(v)]), float(1 - darkest[tuple(v)]), scan.grid.to_mm(v).tolist()) for v in voxels[order]]


def person(name: str, index: int, log: Path) -> dict[str, list[object]]:
    """Detections and visible lesions of one person; read from the log where they are there."""
    path = log / f"{name}_{index}.json"
    if not path.exists():
        scan = simulate_person(
            load_mni152(), PROTOCOLS[name], 4, index, index % 4 == 3, torch.device("cpu"), images=("mag",)
        )
        lesions = [scan.grid.to_mm(mark.voxels).mean(axis=0).tolist() for mark in scan.marks if mark.visible]
        path.write_text(json.dumps({"detections": detections(scan), "lesions": lesions}))
        print(f"{name} {index}: {len(lesions)} visible", flush=True)
    record: dict[str, list[object]] = json.loads(path.read_text())
    return record


def hits(points: Array, lesions: Array) -> int:
    """Lesions that have a point of their own within `HIT_MM`, nearest pairs first."""
    if not len(points) or not len(lesions):
        return 0
    gaps = np.linalg.norm(points[:, None] - lesions[None], axis=2)
    found = 0
    while gaps.min() <= HIT_MM:
        i, j = np.unravel_index(gaps.argmin(), gaps.shape)
        gaps[i], gaps[:, j] = np.inf, np.inf
        found += 1
    return found


def outcome(record: dict[str, list[object]], darker: float, threshold: float) -> tuple[int, int]:
    """How many lesions one person's detections hit, and how many detections there are."""
    points = [r[2] for r in record["detections"] if r[1] > darker and r[0] >= threshold]  # type: ignore[index]
    return hits(np.array(points).reshape(-1, 3), np.array(record["lesions"]).reshape(-1, 3)), len(points)


def curve(people: list[dict[str, list[object]]], darker: float) -> Array:
    """Sensitivity, precision, false positives per scan, F1 and the threshold itself, shape (n, 5)."""
    total = sum(len(record["lesions"]) for record in people)
    scores = np.sort([row[0] for record in people for row in record["detections"] if row[1] > darker])[::-1]  # type: ignore[index]
    rows = []
    for threshold in scores[np.unique(np.geomspace(1, max(len(scores), 2), 60).astype(int)) - 1] if len(scores) else ():
        found, counted = np.sum([outcome(record, darker, threshold) for record in people], axis=0)
        f1 = 2 * found / (counted + total)
        rows.append((found / total, found / counted, (counted - found) / len(people), f1, threshold))
    return np.array(rows).reshape(-1, 5)


def mean_over_people(people: list[dict[str, list[object]]], darker: float, threshold: float) -> float:
    """Mean F1 of the people with visible lesions, each weighing the same."""
    some = [record for record in people if record["lesions"]]
    results = [(len(record["lesions"]), *outcome(record, darker, threshold)) for record in some]
    return float(np.mean([2 * found / (counted + total) for total, found, counted in results]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", default=["small", "valdo_3"])
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--log", type=Path, default=Path("simulated_froc"))
    args = parser.parse_args()
    args.log.mkdir(parents=True, exist_ok=True)
    for name in args.protocols:
        people = [person(name, index, args.log) for index in range(args.people)]
        curves = {darker: curve(people, darker) for darker in DARKER}
        best = max(curves, key=lambda darker: curves[darker][:, 3].max(initial=0))
        rows = curves[best]
        top = rows[rows[:, 3].argmax()]
        print(f"{name}: {args.people} people, {sum(len(p['lesions']) for p in people)} visible lesions")
        print(
            f"  pooled: best F1 {top[3]:.3f} (S {top[0]:.2f}, P {top[1]:.2f}, {top[2]:.1f} FP/scan), {best:.0%} darker"
        )
        print(f"  each person with lesions weighing the same: F1 {mean_over_people(people, best, top[4]):.3f}")
        froc = [rows[rows[:, 2] <= limit, 0].max(initial=0) for limit in FALSE_POSITIVES]
        print("  FP/scan     " + " ".join(f"{limit:5g}" for limit in FALSE_POSITIVES))
        print("  sensitivity " + " ".join(f"{value:5.2f}" for value in froc), flush=True)


if __name__ == "__main__":
    main()
