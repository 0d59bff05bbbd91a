"""A linear probe on frozen encoders: lesion patches against veins, calcifications and background, across sequences.

    python benchmarks/linear_probe.py WORKSPACE -d 601 --truth SIMLAB=/data/lab/truth
        --encoder WORKSPACE/encoders/ssl_barlow_twins/encoder.pt [--encoder FILE ...] [--seeds 0 1 2]

Patches of the encoder's size lie around simulated microbleeds and look-alikes (`cmb_simulate`'s truth, brought through
the prepared scan's affine onto the network's grid), moved by up to 2 voxels in every direction. Each patch is shown
in one sequence, the others blank. Features: the mean of one level of the encoder within 4 mm of the patch's centre,
or over the whole patch. A logistic regression (scikit-learn, standardized features, C = 0.1, classes balanced) learns
from one sequence's patches of four fifths of the people and is judged on each sequence of the other fifth.

Random encoders have the same architecture and nnU-Net's initialization, a new one for every seed; the seed also deals
the people into five parts. The patches are the same for all. Intervals: 95 %, 1000 draws of people with all their
patches, seeds averaged in each.
People whom an encoder has seen are refused.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import torch
from linear_probe_figures import LESION, MIMICS, RANDOM, Probe, probe, table
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.files import atomic_path, read_tsv, text_digest, write_text
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.networks import ResidualEncoder, ResidualUNet
from cmb_autoseg.pipeline.stored import read_plan
from cmb_autoseg.pretraining.encoder_file import read_encoder, weights_digest
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import RawCase, RawDataset, read_raw_dataset
from cmb_autoseg.records import Encoder, Plan, Topology
from cmb_autoseg.trainers.patches.loader import crop
from cmb_autoseg.workspace import Workspace

PER_PERSON = 3
"""Of each kind of look-alike."""
FROM_LESION_MM, FROM_MIMIC_MM = 8.0, 4.0
"""Least distance of look-alikes from lesions, and of plain background from all of both."""
JITTER_VOXELS = 2
CENTRE_MM = 4.0
BATCH = 8


@dataclass(frozen=True)
class Place:
    """One patch to be: who, what, where."""

    case: str
    subject: str
    kind: str
    voxel: tuple[int, int, int]
    """The patch's centre on the network's grid."""


def truth_mm(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Subject to kind to centres (n, 3) in RAS millimetres, as `cmb_simulate` wrote them."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    lesions = [row for row in read_tsv(folder / "lesions.tsv") if row["visible"] == "1"]
    for row in lesions:
        centre = [float(row[f"visible_{axis}_mm"]) for axis in "xyz"]
        found.setdefault(row["subject"], {}).setdefault(LESION, []).append(centre)
    for row in read_tsv(folder / "mimics.tsv"):
        centre = [float(row[f"{axis}_mm"]) for axis in "xyz"]
        found.setdefault(row["subject"], {}).setdefault(row["kind"], []).append(centre)
    return {subject: {kind: np.array(at) for kind, at in kinds.items()} for subject, kinds in found.items()}


class PreparedCase:
    """The network's input of one case and the way to it from millimetres."""

    def __init__(self, raw: RawDataset, case: RawCase, plan: Plan, folder: Path) -> None:
        from batchgenerators.utilities.file_and_folder_operations import load_pickle

        self.case, self.plan = case, plan
        self.image = blosc2.open(str(folder / f"{case.name}.b2nd"), mode="r")
        self.seg = blosc2.open(str(folder / f"{case.name}_seg.b2nd"), mode="r")
        self.properties = load_pickle(str(folder / f"{case.name}.pkl"))
        role = next(role for role in raw.roles if role in case.sequences)
        self.affine = nib.load(case.image(raw.roles.index(role))).affine
        self.present = [role for role in plan.channels if role in case.sequences]

    def voxels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """RAS millimetres (n, 3) to voxels (n, 3) of the network's grid; centres map as in resampling."""
        if not len(points_mm):
            return np.zeros((0, 3))
        stored = apply_affine(np.linalg.inv(self.affine), points_mm)[:, ::-1]
        turned = stored[:, list(self.plan.transpose_forward)]
        box = np.array(self.properties["bbox_used_for_cropping"])
        scale = np.array(self.image.shape[1:]) / (box[:, 1] - box[:, 0])
        return (turned - box[:, 0] + 0.5) * scale - 0.5

    def brain(self) -> NDArray[np.int64]:
        return np.asarray(self.properties["brain"], dtype=np.int64)


def places_of(
    prepared: PreparedCase, known: Mapping[str, NDArray[np.float64]], rng: np.random.Generator
) -> Iterator[Place]:
    """The lesions of one person, and up to three of each kind of look-alike that are apart from them."""
    empty = np.zeros((0, 3))
    at = {kind: prepared.voxels(known.get(kind, empty)) for kind in (LESION, *MIMICS[:2], "artery")}
    spacing_mm = np.array(prepared.plan.spacing_mm)

    def apart(voxels: NDArray[np.float64], others: NDArray[np.float64], least_mm: float) -> NDArray[np.bool_]:
        if not len(others) or not len(voxels):
            return np.ones(len(voxels), dtype=bool)
        offsets_mm = (voxels[:, None] - others[None]) * spacing_mm
        return np.linalg.norm(offsets_mm, axis=2).min(axis=1) >= least_mm

    brain = prepared.brain()
    everything = np.concatenate(list(at.values()))
    at["background"] = brain[apart(brain, at[LESION], FROM_LESION_MM) & apart(brain, everything, FROM_MIMIC_MM)]
    shape = np.array(prepared.image.shape[1:])
    seg = np.asarray(prepared.seg[:])[0]
    for kind in (LESION, *MIMICS):
        centres = at[kind]
        if kind != LESION:
            centres = centres[apart(centres, at[LESION], FROM_LESION_MM)]
        nearest = np.rint(centres).astype(int)
        inside = np.all((nearest >= 0) & (nearest < shape), axis=1)
        nearest = nearest[inside]
        nearest = nearest[seg[tuple(nearest.T)] >= 0] if len(nearest) else nearest
        if kind != LESION:
            nearest = nearest[rng.permutation(len(nearest))[:PER_PERSON]]
        for voxel in nearest:
            z, y, x = (voxel + rng.integers(-JITTER_VOXELS, JITTER_VOXELS + 1, 3)).tolist()
            yield Place(prepared.case.name, subject_of(prepared.case), kind, (z, y, x))


def patches(
    places: Sequence[Place], cases: Mapping[str, PreparedCase], patch_shape: Sequence[int]
) -> NDArray[np.float32]:
    """(place, channel, z, y, x), zero outside the volume."""
    side = np.array(patch_shape)
    return np.stack([crop(cases[p.case].image, np.array(p.voxel) - side // 2, side) for p in places])


def fresh_encoder(topology: Topology, n_channels: int, seed: int) -> ResidualEncoder:
    """Random weights as in training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = ResidualEncoder(n_channels, **topology.model_dump())
        encoder.apply(ResidualUNet.initialize)
    return encoder.eval()


def frozen_encoder(path: Path) -> tuple[ResidualEncoder, Encoder]:
    weights, record = read_encoder(path)
    encoder = ResidualEncoder(len(record.channels), **record.topology.model_dump())
    encoder.load_state_dict(weights)
    return encoder.eval(), record


@torch.no_grad()
def features(
    encoder: ResidualEncoder, images: NDArray[np.float32], channel: int, spacing_mm: Sequence[float], pool: str
) -> list[NDArray[np.float32]]:
    """Of patches shown in one sequence: (place, feature) for each level."""
    encoder = encoder.to(memory_format=torch.channels_last_3d)
    found: list[list[NDArray[np.float32]]] = []
    patch_shape = np.array(images.shape[2:])
    for first in range(0, len(images), BATCH):
        batch = np.zeros_like(images[first : first + BATCH])
        batch[:, channel] = images[first : first + BATCH, channel]
        levels = encoder(torch.from_numpy(batch).to(memory_format=torch.channels_last_3d))
        found.append([_pooled(level, patch_shape, spacing_mm, pool).numpy() for level in levels])
    return [np.concatenate(level) for level in zip(*found, strict=True)]


def kept(folder: Path | None, key: str, make: Callable[[], list[NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
    """What `make` gives, from an earlier run where that left it in the folder."""
    if folder is None:
        return make()
    path = folder / f"{key.removeprefix('sha256:')}.npz"
    if not path.is_file():
        with atomic_path(path) as temporary:
            np.savez(temporary, *make())
    with np.load(path) as stored:
        return [stored[f"arr_{level}"] for level in range(len(stored.files))]


def _pooled(
    level: torch.Tensor, patch_shape: NDArray[np.int64], spacing_mm: Sequence[float], pool: str
) -> torch.Tensor:
    if pool == "patch":
        return level.mean((2, 3, 4))
    shape = np.array(level.shape[2:])
    spacing = np.array(spacing_mm) * patch_shape / shape
    axes = [(np.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    near = torch.from_numpy(distance <= max(CENTRE_MM, float(distance.min()) + 1e-6))
    return level[:, :, near].mean(2)


def refuse_seen(record: Encoder, subjects: set[str], path: Path) -> None:
    shared = sorted(subjects & set(record.subjects))
    if shared:
        raise LeakageError(f"{path}: has seen {', '.join(shared[:5])} of the probe; name an encoder that has not")


def chosen_cases(raw: RawDataset, truths: Mapping[str, dict]) -> list[RawCase]:
    cases = [c for c in raw.training_cases() if c.labelled and c.subject in truths.get(c.cohort, {})]
    if not cases:
        raise InputError(f"{raw.folders.name}: no labelled case of {', '.join(truths)} is in the truth; check --truth")
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("-d", required=True, metavar="DATASET")
    parser.add_argument("--truth", nargs="+", required=True, metavar="COHORT=FOLDER")
    parser.add_argument("--encoder", action="append", default=[], metavar="[NAME=]FILE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--levels", nargs="+", type=int, help="of the encoder, 0 the finest (default: all)")
    parser.add_argument("--pool", choices=("centre", "patch"), default="centre")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep features there, for another run")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    raw = read_raw_dataset(Workspace.find(args.workspace).dataset(args.d))
    plan = read_plan(raw.folders, None)
    truths = {name: truth_mm(Path(folder)) for name, folder in (text.split("=", 1) for text in args.truth)}
    chosen = chosen_cases(raw, truths)
    subjects = {subject_of(case) for case in chosen}
    named = [(text.split("=", 1) if "=" in text else (Path(text).parent.name, text)) for text in args.encoder]
    loaded = {name: frozen_encoder(Path(path)) for name, path in named}
    for (_, path), (_, record) in zip(named, loaded.values(), strict=True):
        refuse_seen(record, subjects, Path(path))
        if record.channels != plan.channels:
            raise InputError(f"{path}: made for {', '.join(record.channels)}, the plan has {', '.join(plan.channels)}")
    # Encoders may be narrower than the plan: the random one is as the first of them.
    first = next(iter(loaded.values()))[1] if loaded else None
    topology, patch_shape = (first.topology, first.patch_shape) if first else (plan.topology, plan.patch_shape)
    folder = raw.folders.inputs(plan.preset)
    cases = {case.name: PreparedCase(raw, case, plan, folder) for case in chosen}
    rng = np.random.default_rng(0)
    places = [
        place
        for prepared in cases.values()
        for place in places_of(prepared, truths[prepared.case.cohort][prepared.case.subject], rng)
    ]
    counts = {kind: sum(place.kind == kind for place in places) for kind in (LESION, *MIMICS)}
    log(f"patches: {counts}")
    images = patches(places, cases, patch_shape)
    has = {role: np.array([role in cases[place.case].present for place in places]) for role in plan.channels}
    roles = [role for role in plan.channels if has[role].any()]
    probes: dict[tuple[str, int], list[Probe]] = {}
    jobs = [(name, encoder, args.seeds) for name, (encoder, _) in loaded.items()]
    jobs += [(RANDOM, fresh_encoder(topology, len(plan.channels), seed), [seed]) for seed in args.seeds]
    for name, encoder, seeds in track(jobs, "Probing"):
        by_role = {}
        for role in roles:
            channel = plan.channels.index(role)
            key = text_digest(f"{weights_digest(encoder.state_dict())} {places} {patch_shape} {channel} {args.pool}")
            by_role[role] = kept(
                args.cache, key, partial(features, encoder, images, channel, plan.spacing_mm, args.pool)
            )
        for level, seed in product(args.levels or range(len(topology.strides)), seeds):
            of_role = {role: levels[level] for role, levels in by_role.items()}
            found = probe(of_role, has, places, np.random.default_rng(seed))
            probes.setdefault((name, level), []).append(found)
    n_subjects = len({place.subject for place in places})
    text = page(table(probes, n_subjects), args, plan, patch_shape, counts, n_subjects, loaded)
    write_text(args.out, text)
    print(text)


def page(
    table_md: str,
    args: argparse.Namespace,
    plan: Plan,
    patch_shape: Sequence[int],
    counts: Mapping[str, int],
    n_subjects: int,
    loaded: Mapping[str, tuple[ResidualEncoder, Encoder]],
) -> str:
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    made = "; ".join(
        f"`{name}`: {record.method}, {record.steps} steps, {record.n_cases} cases"
        for name, (_, record) in loaded.items()
    )
    what = f"within {CENTRE_MM:g} mm of the centre" if args.pool == "centre" else "over the whole patch"
    return (
        "# Linear probe on frozen encoders (simulated data)\n\n"
        f"`python benchmarks/linear_probe.py` on `{plan.dataset}`, all people simulated: {n_subjects} people, "
        f"patches: {told}; sequences {', '.join(plan.channels)}; "
        f"patch {' x '.join(map(str, patch_shape))}, "
        f"features averaged {what}; seeds {', '.join(map(str, args.seeds))}. {made or 'No pretrained encoder'}.\n\n"
        "AUC of lesions against look-alikes and background of people that the regression has not seen, in the sequence "
        "that it was trained on, and in the others; in brackets 95 % intervals over people.\n\n"
        f"{table_md}\n"
    )


if __name__ == "__main__":
    main()
