"""Time and memory of the derived channels, ways to local phase side by side, and what they show of lesions.

    python benchmarks/derived_channels.py speed
    python benchmarks/derived_channels.py phase [FOLDER_WITH_REAL_CROPS]
    python benchmarks/derived_channels.py cohort SIMULATED_BIDS...

`phase` compares local phase by masked Laplacian (ours) with homodyne filtering and with path-following
unwrapping (scikit-image) before the same high-pass. Simulated: 14 bleeds and calcifications, three sinuses, a
coil, SNR 30, 0.9 x 0.9 x 2 mm, 3 T; r is the correlation with the true field of the bleeds and calcifications
within 4 mm of them, rest the root mean square elsewhere, edge in the brain's outer three voxels. Real: the
correlation of a wrapped echo's local phase with that of another echo, which holds the same field.
`cohort` reads what `cmb_simulate --layout bids` wrote.
"""

import argparse
import csv
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import unwrap_phase

from cmb_autoseg.geometry import Volume, read_volume, to_canonical
from cmb_autoseg.preprocessing.brain_mask import classical_mask
from cmb_autoseg.preprocessing.derived.frst import fast_radial_symmetry
from cmb_autoseg.preprocessing.derived.local_phase import local_phase, paramagnetic_sign, qsm_sign

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Way = Callable[[Volume, Mask], Array]
SIGMA_MM = 5.0


def high_pass(values: Array, volume: Volume, brain: Mask) -> Array:
    sigma = [SIGMA_MM / mm for mm in volume.spacing_mm]
    weight = ndimage.gaussian_filter(brain.astype(np.float32), sigma, truncate=3.0)
    mean = ndimage.gaussian_filter(np.where(brain, values, 0), sigma, truncate=3.0) / np.maximum(weight, 1e-3)
    return np.where(brain, values - mean, 0).astype(np.float32)


def homodyne(volume: Volume, brain: Mask) -> Array:
    sigma = [SIGMA_MM / mm for mm in volume.spacing_mm]
    cosine, sine = np.cos(volume.data) * brain, np.sin(volume.data) * brain
    low = [ndimage.gaussian_filter(part, sigma, truncate=3.0) for part in (cosine, sine)]
    angle: Array = np.arctan2(sine * low[0] - cosine * low[1], cosine * low[0] + sine * low[1]) * brain
    return angle


def path_following(volume: Volume, brain: Mask) -> Array:
    unwrapped = unwrap_phase(np.ma.array(volume.data, mask=~brain), rng=0)
    return high_pass(np.ma.filled(unwrapped, 0).astype(np.float32), volume, brain)


def ours(volume: Volume, brain: Mask) -> Array:
    return local_phase(volume, brain, phase_sign=1, kernel_mm=SIGMA_MM)


WAYS: dict[str, Way] = {"masked Laplacian": ours, "homodyne": homodyne, "path-following": path_following}


def sphere_ppm(places: Array, centre_mm: tuple[float, ...], radius_mm: float, chi_ppm: float) -> Array:
    apart = places - np.reshape(centre_mm, (3, 1, 1, 1))
    r = np.maximum(np.linalg.norm(apart, axis=0), 1e-6)
    field = chi_ppm / 3 * (radius_mm / r) ** 3 * (3 * (apart[2] / r) ** 2 - 1)
    inside: Array = np.where(r > radius_mm, field, 0).astype(np.float32)
    return inside


def simulated(echo_s: float) -> tuple[Volume, Mask, Array, Mask]:
    """Wrapped phase, brain, phase of the lesions alone, and where these lie."""
    shape, spacing_mm = (150, 180, 54), (0.9, 0.9, 2.0)
    rng = np.random.default_rng(0)
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    brain = np.linalg.norm(places / np.reshape((65, 80, 52), (3, 1, 1, 1)), axis=0) < 1
    local, near = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for number in range(14):
        direction = rng.normal(size=3)
        centre = tuple(direction / np.linalg.norm(direction) * rng.random() ** (1 / 3) * (58, 73, 45))
        radius_mm, chi_ppm = rng.uniform(1.0, 2.5), rng.uniform(0.3, 1.2) * (1 if number % 3 else -1)
        local += sphere_ppm(places, centre, radius_mm, chi_ppm)
        near |= np.linalg.norm(places - np.reshape(centre, (3, 1, 1, 1)), axis=0) < radius_mm + 4
    sinuses = (((0.0, 75.0, -60.0), 22.0), ((60.0, 0.0, -65.0), 12.0), ((-60.0, 0.0, -65.0), 12.0))
    background = sum(sphere_ppm(places, *sinus, 9.0) for sinus in sinuses)
    turns = np.float32(2 * np.pi * 42.577 * 3.0 * echo_s)
    coil = 0.8 * np.sin(places[0] / 50) + 0.5 * np.cos(places[1] / 60)
    signal = np.where(brain, 1.0, 0.02) * np.exp(1j * (turns * (local + background) + coil))
    noise = rng.normal(0, 1 / 30, (2, *shape))
    phase = np.angle(signal + noise[0] + 1j * noise[1]).astype(np.float32)
    return Volume(phase, np.diag([*spacing_mm, 1.0])), brain, turns * local, near


def compare_on_simulated() -> None:
    print("echo ms  way               r near  rest   edge   seconds")
    for echo_ms in (10, 20, 30):
        volume, brain, truth, near = simulated(echo_ms / 1000)
        inner = ndimage.binary_erosion(brain, iterations=3)
        for name, way in WAYS.items():
            start = time.perf_counter()
            found = way(volume, brain)
            seconds = time.perf_counter() - start
            r = np.corrcoef(found[near & inner], truth[near & inner])[0, 1]
            rest, edge = found[inner & ~near].std(), found[brain & ~inner].std()
            print(f"{echo_ms:7d}  {name:16s}  {r:.3f}  {rest:.3f}  {edge:.3f}  {seconds:.1f}", flush=True)


def compare_on_real(folder: Path) -> None:
    for path in sorted(folder.glob("*_phase.nii.gz")):
        image = nib.load(path)
        stored = np.asarray(image.dataobj, dtype=np.float32)
        turned = stored * np.float32(np.pi / np.abs(stored).max())
        brain = np.ones(stored.shape[:3], dtype=bool)
        inner = tuple(slice(5, -5) for _ in range(3))
        for name, way in WAYS.items():
            echoes = [way(Volume(turned[..., n], image.affine), brain)[inner].ravel() for n in range(3)]
            pairs = " ".join(f"{np.corrcoef(echoes[a], echoes[b])[0, 1]:.3f}" for a, b in ((0, 1), (0, 2), (1, 2)))
            print(f"{path.name}: {name:16s} echoes 1-2, 1-3, 2-3: {pairs}", flush=True)


def measure_speed() -> None:
    rng = np.random.default_rng(0)
    shape = (256, 256, 64)
    volume = Volume(rng.normal(100, 5, shape).astype(np.float32), np.diag([0.9, 0.9, 2.0, 1.0]))
    phase = volume.with_data(rng.uniform(-np.pi, np.pi, shape).astype(np.float32))
    axes = np.meshgrid(*[np.linspace(-1.2, 1.2, n) for n in shape], indexing="ij")
    brain = np.sum(np.square(axes), axis=0) < 1
    jobs: dict[str, Callable[[], object]] = {
        "radial symmetry, brain": lambda: fast_radial_symmetry(volume, brain=brain),
        "radial symmetry, whole volume": lambda: fast_radial_symmetry(volume),
        "local phase": lambda: local_phase(phase, brain),
        "sign of susceptibility": lambda: qsm_sign(volume, brain),
    }
    for name, job in jobs.items():
        before, start, busy = peak_mib(), time.perf_counter(), time.process_time()
        job()
        elapsed, busy = time.perf_counter() - start, time.process_time() - busy
        print(f"{name}: {elapsed:.1f} s ({busy:.1f} s of CPU), peak {peak_mib():.0f} MiB (before: {before:.0f})")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rows(path: Path, person: str) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Kind and centre (RAS mm) of a person's lesions or mimics."""
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["subject"] == person and row.get("visible", "1") == "1":
                x, y, z = (float(row[f"{axis}_mm"]) for axis in "xyz")
                yield row.get("kind", "microbleed"), (x, y, z)


def extreme_near(values: Array, volume: Volume, centre_mm: tuple[float, ...], radius_mm: float) -> float:
    """The value farthest from 0 within a radius of a point."""
    middle = np.rint(volume.to_voxels(np.array([centre_mm]))[0]).astype(int)
    reach = [int(radius_mm / mm) + 1 for mm in volume.spacing_mm]
    box = tuple(slice(max(at - n, 0), max(at + n + 1, 0)) for at, n in zip(middle, reach, strict=True))
    start = [part.start for part in box]
    places = volume.to_ras_mm(np.argwhere(np.ones(values[box].shape, dtype=bool)) + start)
    inside = values[box].reshape(-1)[np.linalg.norm(places - centre_mm, axis=1) <= radius_mm]
    return float(inside[np.abs(inside).argmax()]) if inside.size else 0.0


def look_at_cohort(folder: Path) -> None:
    seen: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(folder.glob("sub-*/anat/*_part-phase_T2starw.nii.gz")):
        person = path.name.split("_")[0]
        magnitude = to_canonical(read_volume(path.with_name(path.name.replace("phase", "mag"))))
        phase = to_canonical(read_volume(path))
        brain = classical_mask(magnitude)
        local = local_phase(phase, brain, phase_sign=1)
        print(
            f"{folder.name}/{person}: phase grows with the field: {paramagnetic_sign(phase.with_data(local), brain):+d}"
        )
        symmetry = fast_radial_symmetry(magnitude, brain=brain)
        ranked = np.sort(symmetry[brain])
        chart = path.with_name(f"{person}_Chimap.nii.gz")
        qsm = to_canonical(read_volume(chart)) if chart.is_file() else None
        sign = np.zeros(magnitude.shape, np.float32) if qsm is None else qsm_sign(qsm, brain)
        for table in ("lesions.tsv", "mimics.tsv"):
            for kind, centre in rows(folder / "truth" / table, person):
                share = np.searchsorted(ranked, extreme_near(symmetry, magnitude, centre, 2.0)) / len(ranked)
                seen.setdefault(kind, []).append((float(share), extreme_near(sign, qsm or magnitude, centre, 1.5)))
    for kind, values in seen.items():
        share, signed = np.array(values).T
        print(
            f"{folder.name}: {len(values)} {kind}: "
            f"symmetry above {100 * np.median(share):.2f} % of the brain (median); "
            f"sign above 0.5: {np.mean(signed > 0.5):.0%}, below -0.5: {np.mean(signed < -0.5):.0%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "phase", "cohort"])
    parser.add_argument("folders", nargs="*", type=Path)
    args = parser.parse_args()
    if args.what == "speed":
        measure_speed()
    elif args.what == "phase":
        compare_on_simulated()
        for folder in args.folders:
            compare_on_real(folder)
    else:
        for folder in args.folders:
            look_at_cohort(folder)


if __name__ == "__main__":
    main()
