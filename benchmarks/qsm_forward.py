"""The simulator's field and signal beside those of the public package qsm-forward, on the same maps.

    uv venv /tmp/qsmf && uv pip install --python /tmp/qsmf/bin/python qsm-forward
    python benchmarks/qsm_forward.py /tmp/qsmf/bin/python

qsm-forward is under the GPL and lives in an environment of its own; arrays are exchanged as files. A head of
40 mm holds white matter, a grey and a fluid body, an iron-rich nucleus and a haemorrhage of 2.5 mm. They
resolve all of it on a grid three times finer than the scan; we put the haemorrhage on a local grid with its
textbook field. NRMSE is the root mean square of the difference over that of the expected image (magnitude)
or the expected field about its mean.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from cmb_autoseg.simulation.acquisition import fields
from cmb_autoseg.simulation.acquisition.fields import dipole_field
from cmb_autoseg.simulation.acquisition.signal import acquire, scan_grid
from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import TISSUES, TissueValues, radians_per_ppm, susceptibility_map

SIZE, FINER = 40, 3
BLEED = Inclusion(Kind.HAEMORRHAGE, (Sphere((0.2, -0.1, 0.3), 2.5, 0.25),), Region.LOBAR, "white matter")
OBLIQUE = (0.0, math.sin(0.35), math.cos(0.35))
THEIRS = """
import sys
import numpy as np
from qsm_forward.qsm_forward import crop_kspace, generate_field, generate_signal
given = dict(np.load(sys.argv[1]))
found = {"axial": generate_field(given["coarse_chi"])}
found["oblique"] = generate_field(given["coarse_chi"], B0_dir=given["b0"])
found["smooth"] = generate_field(given["smooth_chi"], B0_dir=given["b0"])
field = generate_field(given["chi"], voxel_size=[1 / 3] * 3)
signal = generate_signal(
    field, B0=3, TR=0.04, TE=0.02, flip_angle=15, R1=given["r1"], R2star=given["r2star"], M0=given["m0"])
found["signal"] = crop_kspace(signal, np.array(given["coarse_chi"].shape))
np.savez(sys.argv[2], **found)
"""


def make_head() -> Head:
    grid = Grid((SIZE,) * 3, (1.0,) * 3, (-(SIZE - 1) / 2,) * 3)
    x, y, z = torch.meshgrid(*[axis.float() for axis in grid.axes_mm(torch.device("cpu"))], indexing="ij")
    fluid = ((x + 9) ** 2 / 16 + (y / 9) ** 2 + (z / 7) ** 2 < 1).float()
    grey = (((x - 9) / 5) ** 2 + ((y + 2) / 8) ** 2 + (z / 6) ** 2 < 1).float()
    nucleus = ((x - 9) ** 2 + (y + 4) ** 2 + z**2 < 9).float()
    zero = torch.zeros(grid.shape)
    tissues = dict.fromkeys(TISSUES, zero) | {"fluid": fluid, "grey": grey, "white": 1 - fluid - grey}
    return Head(
        grid=grid,
        **tissues,
        brain=zero + 1,
        depth=zero + 1,
        iron_ppm=0.1 * nucleus,
        nuclei=nucleus,
        mni_mm=torch.stack([x, y, z]),
        regions=zero.to(torch.uint8),
        landmarks={},
    )


def fine_maps(head: Head, values: TissueValues) -> dict[str, np.ndarray]:
    """Maps three times finer, for the package; voxel 0 of both grids lies at the same place."""
    nearest = ((torch.arange(SIZE * FINER) + FINER // 2) // FINER).clamp(max=SIZE - 1)

    def refined(volume: Tensor) -> Tensor:
        return volume[nearest][:, nearest][:, :, nearest].double()

    m0, r1, r2star = (
        sum(getattr(head, name) * of(tissue) for name, tissue in values.tissues.items())
        for of in (lambda t: t.m0, lambda t: 1000 / t.t1_at(3.0), lambda t: t.r2star_at(3.0))
    )
    r2star = r2star + values.iron_r2star_per_ppm_tesla * 3.0 * head.iron_ppm
    (ball,) = BLEED.spheres
    axis = head.grid.origin_mm[0] + torch.arange(SIZE * FINER, dtype=torch.float64) / FINER
    inside = torch.zeros(SIZE * FINER, SIZE * FINER, SIZE * FINER, dtype=torch.float64)
    parts = (torch.arange(3, dtype=torch.float64) - 1) / 9
    for a in parts:
        for b in parts:
            for c in parts:
                x, y, z = (axis + part - centre for part, centre in zip((a, b, c), ball.centre_mm, strict=True))
                square = x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None] ** 2
                inside += (square <= ball.radius_mm**2) / 27
    core = BLEED.r2star_per_ppm_tesla * 3.0 * ball.chi_ppm
    maps = {
        "chi": refined(susceptibility_map(head, values)) + inside * ball.chi_ppm,
        "m0": refined(m0),
        "r1": refined(r1),
        "r2star": refined(r2star) + inside * core,
    }
    return {name: volume.numpy() for name, volume in maps.items()}


def nrmse(found: np.ndarray, expected: np.ndarray, about_mean: bool = False) -> float:
    if about_mean:
        found, expected = found - found.mean(), expected - expected.mean()
    return float(np.sqrt(np.mean(np.abs(found - expected) ** 2) / np.mean(np.abs(expected) ** 2)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="of the environment with qsm-forward")
    args = parser.parse_args()
    head, values = make_head(), TissueValues(TISSUES)
    protocol = Protocol("benchmark", 3.0, (20.0,), (1.0,) * 3, (SIZE,) * 3, (0.0,) * 3, 30.0, 40.0, 15.0)
    assert np.allclose(scan_grid(protocol).origin_mm, head.grid.origin_mm)
    chi = susceptibility_map(head, values)
    with tempfile.TemporaryDirectory() as scratch:
        given, found = Path(scratch) / "given.npz", Path(scratch) / "found.npz"
        smooth = torch.nn.functional.avg_pool3d(chi[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        smooth = torch.nn.functional.avg_pool3d(smooth[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
        np.savez(
            given,
            smooth_chi=smooth.double().numpy(),
            coarse_chi=chi.double().numpy(),
            b0=np.array(OBLIQUE),
            **fine_maps(head, values),
        )
        subprocess.run([args.python, "-c", THEIRS, given, found], check=True)
        theirs = dict(np.load(found))
    field = dipole_field(chi, (1.0,) * 3, (0.0, 0.0, 1.0))
    ours = acquire(head, field, Contents(mimics=[BLEED]), protocol, values, torch.ones(26, 30, 24))
    image, expected = ours.with_lesions[0].numpy(), theirs["signal"]
    expected = expected * np.exp(1j * np.angle(np.mean(image * np.conj(expected))))  # each has its own mean field
    turn = radians_per_ppm(3.0, 20.0)
    with mock.patch.object(fields, "FADING_FROM", 0.4999):
        ringing = dipole_field(chi, (1.0,) * 3, OBLIQUE).numpy()
    edge = np.zeros(image.shape, dtype=bool)
    for axis in range(3):
        step = np.abs(np.diff(chi.numpy(), axis=axis, append=0)) > 0.01
        edge |= step | np.roll(step, 1, axis)
    inner = (slice(4, -4),) * 3
    flat = ~edge[inner]
    rows = {
        "field, axial": nrmse(field.numpy(), theirs["axial"], True),
        "field, oblique 20 degrees": nrmse(dipole_field(chi, (1.0,) * 3, OBLIQUE).numpy(), theirs["oblique"], True),
        "the same, cross terms unfaded": nrmse(ringing, theirs["oblique"], True),
        "field, oblique, smooth map": nrmse(dipole_field(smooth, (1.0,) * 3, OBLIQUE).numpy(), theirs["smooth"], True),
        "magnitude": nrmse(np.abs(image)[inner], np.abs(expected)[inner]),
        "magnitude away from edges": nrmse(np.abs(image)[inner][flat], np.abs(expected)[inner][flat]),
        "phase, RMS in ppm": float(np.sqrt(np.mean(np.angle(image * np.conj(expected))[inner] ** 2)) / turn),
        "local field away from edges": nrmse(
            np.angle(image)[inner][flat] / turn, np.angle(expected)[inner][flat] / turn, True
        ),
        "local field (phase)": nrmse(np.angle(image)[inner] / turn, np.angle(expected)[inner] / turn, True),
    }
    for name, value in rows.items():
        print(f"{name:30s} {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
