"""A small cohort in a layout that no shipped card knows, and a model trained on it once a session."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import finalize, plan_preprocess, train

SHAPE, SPACING_MM = (40, 44, 14), (1.0, 1.0, 2.0)
RECIPE = """\
schema: 1
name: tiny
description: seconds, for tests
epochs: 2
steps_per_epoch: 2
validation_steps: 1
batch_size: 1
network: {features: [4, 8]}
optimizer: {learning_rate: 1.0e-3}
inference: {mirror: [], tile_step: 1.0}
"""
ECHO_RECIPE = """\
schema: 1
name: {name}
description: seconds, for tests
epochs: 1
steps_per_epoch: 2
validation_steps: 1
batch_size: 2
optimizer: {{learning_rate: 1.0e-2}}
sequences: [gre_mag]
slices:
  network: unet2d
  features: [4, 4, 8]
  pictures: {{size: [32, 32], fit: pad}}
"""
CARD = """\
schema: 1
name: Elsewhere
root: .
licence: {id: none, redistribute: false}
case: "{sub}_{ses}"
images:
  susc: {role: swi, path: "centre{site}/{sub:p\\\\d+}/visit{ses}/scans/{sub}-susc.nii.gz"}
  echo: {role: gre_mag, optional: true, path: "centre{site}/{sub:p\\\\d+}/visit{ses}/scans/{sub}-mag.nii.gz"}
labels:
  cmb: {kind: points, optional: true, path: "centre{site}/{sub:p\\\\d+}/visit{ses}/reading/{sub}.tsv",
        columns: {x: right, y: front, z: up}, space: ras_mm, radius_mm: 1.6}
"""


def affine():
    """Stored left to right reversed, so that canonical axes differ from the file's."""
    result = np.diag([-SPACING_MM[0], SPACING_MM[1], SPACING_MM[2], 1.0])
    result[:3, 3] = [20, -22, -10]
    return result


def scan(rng, centres):
    """A bright ellipsoid brain with dark dots at voxel centres."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    middle = (np.array(SHAPE) - 1) / 2
    brain = (((grid - middle) / (middle + 0.5)) ** 2).sum(axis=-1) < 0.9
    image = np.where(brain, 100 + rng.normal(0, 4, SHAPE), 0)
    for centre in centres:
        near = (((grid - centre) * SPACING_MM) ** 2).sum(axis=-1) <= 1.6**2
        image[near] = 30 + rng.normal(0, 4, near.sum())
    return image.astype(np.float32)


def centres_of(index):
    middle = np.array(SHAPE) // 2
    return [middle + offset for offset in ((-8, 4, 1), (6, -6, -2), (2, 9, 3))[: index % 3]]


def write_cohort(root):
    """Six subjects; p1 has two sessions, p5 a session without a reading, p3 no lesion, p4 one sequence only."""
    rng = np.random.default_rng(0)
    visits = [("A", f"p{i}", "1", i) for i in range(6)] + [("A", "p1", "2", 2), ("B", "p5", "2", 1)]
    truth = {}
    for site, sub, ses, index in visits:
        folder = root / f"centre{site}" / sub / f"visit{ses}"
        centres = centres_of(index)
        (folder / "scans").mkdir(parents=True)
        image = nib.Nifti1Image(scan(rng, centres), affine())
        nib.save(image, folder / "scans" / f"{sub}-susc.nii.gz")
        if sub != "p4":
            nib.save(image, folder / "scans" / f"{sub}-mag.nii.gz")
        if (sub, ses) == ("p5", "2"):
            continue
        (folder / "reading").mkdir()
        mm = [(affine() @ [*centre, 1])[:3] for centre in centres]
        rows = "".join("\t".join(f"{v:g}" for v in point) + "\n" for point in mm)
        (folder / "reading" / f"{sub}.tsv").write_text("right\tfront\tup\n" + rows)
        truth[f"{sub}_{ses}"] = mm
    (root / "card.yaml").write_text(CARD)
    return truth


@dataclass(frozen=True)
class Trained:
    """Where the cohort, the workspace and the model are, and the true centres by case (RAS mm)."""

    cohort: Path
    workspace: Path
    recipe: Path
    truth: dict[str, list[np.ndarray]]

    @property
    def model(self):
        return self.workspace / "results" / "Dataset501_Elsewhere" / "CMBTrainer__tiny__3d"

    @property
    def raw(self):
        return self.workspace / "raw" / "Dataset501_Elsewhere"


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory):
    """The folder of the tiny cohort, for tests that convert it themselves."""
    root = tmp_path_factory.mktemp("tiny_cohort")
    write_cohort(root)
    return root


@pytest.fixture(scope="session")
def write_echo_recipe():
    """Write a recipe of slices that sees the magnitude images alone, which not every case has."""

    def write(folder, name):
        path = folder / f"{name}.yaml"
        path.write_text(ECHO_RECIPE.format(name=name))
        return str(path)

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    base = tmp_path_factory.mktemp("main_job")
    truth = write_cohort(base / "cohort")
    recipe = base / "tiny.yaml"
    recipe.write_text(RECIPE)
    where = ["-d", "501", "--workspace", str(base / "workspace"), "-device", "cpu"]
    assert plan_preprocess.main([*where, "-c", str(base / "cohort" / "card.yaml")]) == 0
    assert train.main([*where, "-r", str(recipe), "-f", "0", "1", "2", "3", "4"]) == 0
    assert finalize.main([*where, "-r", "tiny"]) == 0
    return Trained(base / "cohort", base / "workspace", recipe, truth)
