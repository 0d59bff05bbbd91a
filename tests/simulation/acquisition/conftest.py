"""A head of one tissue and a protocol of 16 mm, in which one thing at a time is scanned."""

from collections.abc import Callable

import pytest
import torch

from cmb_autoseg.simulation.acquisition.signal import Acquired, acquire
from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region, Sphere
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.tissue import TISSUES, TissueValues

ISOTROPIC = Protocol("isotropic", 3.0, (20.0,), (1.0, 1.0, 1.0), (16, 16, 16), (0.0, 0.0, 0.0), snr=30.0)


def make_head(n: int = 40, **maps: torch.Tensor) -> Head:
    """`n`^3 voxels of 1 mm about the origin; all white matter unless other maps are given."""
    grid = Grid((n, n, n), (1.0, 1.0, 1.0), (-(n - 1) / 2,) * 3)
    zero = torch.zeros(grid.shape)
    tissues = {name: maps.get(name, zero) for name in TISSUES}
    if "white" not in maps:
        tissues["white"] = (1 - sum(maps.values(), zero)).clamp(min=0)
    mni = torch.stack(torch.meshgrid(*[a.float() for a in grid.axes_mm(torch.device("cpu"))], indexing="ij"))
    return Head(
        grid=grid,
        **tissues,
        brain=zero + 1,
        depth=zero + 1,
        iron_ppm=zero,
        nuclei=zero,
        mni_mm=mni,
        regions=zero.to(torch.uint8),
        landmarks={},
    )


@pytest.fixture(scope="session")
def isotropic() -> Protocol:
    return ISOTROPIC


@pytest.fixture(scope="session")
def values() -> TissueValues:
    return TissueValues(TISSUES)


@pytest.fixture(scope="session")
def white_head() -> Head:
    return make_head()


@pytest.fixture(scope="session")
def head_of() -> Callable[..., Head]:
    return make_head


@pytest.fixture(scope="session")
def scan(white_head: Head, values: TissueValues) -> Callable[..., Acquired]:
    """Scan things in white matter in which there is no other field."""

    def scan_contents(protocol: Protocol, **contents: list) -> Acquired:
        field = torch.zeros(white_head.grid.shape)
        return acquire(white_head, field, Contents(**contents), protocol, values, torch.ones(26, 30, 24))

    return scan_contents


@pytest.fixture(scope="session")
def ball() -> Callable[..., Inclusion]:
    def make(radius_mm: float, chi_ppm: float, centre_mm=(0.0, 0.0, 0.0), **more: float) -> Inclusion:
        kind = Kind.MICROBLEED if chi_ppm > 0 else Kind.CALCIFICATION
        return Inclusion(kind, (Sphere(centre_mm, radius_mm, chi_ppm),), Region.LOBAR, "white matter", **more)

    return make
