"""Made-up heads on small grids: scalp, skull, cortex, ventricles, nuclei, veins and microbleeds, in three sequences."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Role


@dataclass(frozen=True)
class Protocol:
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    snr: float
    swi: dict[str, float]
    axes: tuple[int, int, int] = (1, 1, 1)
    """Direction in which each stored axis runs."""


SWI_3T = {"white": 0.85, "grey": 1.0, "fluid": 1.1, "nuclei": 0.65, "vein": 0.4, "lesion": 0.15, "scalp": 0.7}
SWI_15T = {"white": 0.75, "grey": 0.85, "fluid": 1.2, "nuclei": 0.65, "vein": 0.5, "lesion": 0.2, "scalp": 0.9}
T1 = {"white": 1.0, "grey": 0.7, "fluid": 0.25, "nuclei": 0.75, "vein": 0.65, "lesion": 0.85, "scalp": 1.2}
QSM = {"white": -0.02, "grey": 0.02, "fluid": 0.0, "nuclei": 0.1, "vein": 0.25, "lesion": 0.6, "scalp": 0.0}
PROTOCOLS = {
    "thin": Protocol((3.0, 3.0, 5.0), (70, 80, 34), 25.0, SWI_3T),
    "thick": Protocol((2.7, 2.7, 6.0), (78, 88, 28), 18.0, SWI_15T, (-1, -1, 1)),
}


@dataclass(frozen=True)
class Scan:
    """One person as files would hold it: each sequence with its own axes and affine."""

    name: str
    subject: str
    volumes: dict[Role, Volume]
    label: Volume | None
    brain: Volume
    """As a network finds it: a little larger than the brain."""
    cohort: str = "NORTH"

    def with_volume(self, role: Role, data=None, affine=None) -> "Scan":
        old = self.volumes[role]
        new = Volume(old.data if data is None else data, old.affine if affine is None else affine)
        return replace(self, volumes={**self.volumes, role: new})


def make_head(seed: int, protocol: str = "thin", lesions: int | None = None) -> Scan:
    """One person; lesions are drawn where no number is given."""
    rng = np.random.default_rng([seed, 77])
    settings = PROTOCOLS[protocol]
    tissue = _tissue(settings, rng)
    count = int(rng.integers(0, 5)) if lesions is None else lesions
    marked = _lesions(tissue, settings, rng, count)
    tissue["lesion"] = marked
    noise = np.random.default_rng([seed, 78])
    volumes = {
        Role.SWI: _magnitude(tissue, settings.swi, settings, noise),
        Role.T1: _magnitude(tissue, T1, settings, noise),
        Role.QSM: _qsm(tissue, noise),
    }
    affine = np.diag([*(np.array(settings.spacing_mm) * settings.axes), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(settings.shape) / 2)
    stored = {role: Volume(_stored(data, settings), affine) for role, data in volumes.items()}
    label = Volume(_stored(marked, settings).astype(np.uint8), affine)
    mask = ndimage.binary_dilation(tissue["depth_mm"] > 1, iterations=1) & ~tissue["below"]
    brain = Volume(_stored(mask, settings).astype(np.uint8), affine)
    return Scan(f"case{seed:03d}", f"P{seed:03d}", stored, label, brain)


def _stored(data, settings):
    return np.ascontiguousarray(data[tuple(slice(None, None, step) for step in settings.axes)])


def _points(settings):
    """Millimetres from the middle of the grid, three arrays that broadcast to its shape."""
    axes = [(np.arange(n) - n / 2) * mm for n, mm in zip(settings.shape, settings.spacing_mm, strict=True)]
    return np.meshgrid(*[axis.astype(np.float32) for axis in axes], indexing="ij", sparse=True)


def _field(settings, rng, size_mm):
    """A smooth random field of mean 0 and standard deviation 1."""
    noise = rng.standard_normal(settings.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, [size_mm / mm for mm in settings.spacing_mm], mode="wrap", truncate=2.5)
    return smooth / smooth.std()


def _tissue(settings, rng):
    points = _points(settings)
    axes_mm = np.array([66.0, 82.0, 60.0]) * rng.uniform(0.94, 1.06, 3)
    shift = rng.uniform(-4, 4, 3)
    moved = [points[n] - shift[n] + 3 * _field(settings, rng, 16) for n in range(3)]
    # Heads are narrower and lower at the front.
    narrowing = 1 + 0.16 * moved[1] / axes_mm[1]
    moved[0], moved[2] = moved[0] * narrowing, moved[2] * (1 + 0.5 * (narrowing - 1))
    radius = np.sqrt(sum((moved[n] / axes_mm[n]) ** 2 for n in range(3)))
    depth_mm = (1 - radius) * axes_mm.mean()
    # The base of the brain is flat, and the brain stem leads down from it.
    base = moved[2] < -0.62 * axes_mm[2]
    stem = np.hypot(moved[0], moved[1] + 15) < 14
    brain = (depth_mm > 0) & (~base | stem)
    folds = _field(settings, rng, 4)
    cortex = brain & (depth_mm < 14 + 3 * folds)
    sulci = brain & (depth_mm < 12) & (folds > 1.0)
    ventricles = np.zeros_like(brain)
    nuclei = np.zeros_like(brain)
    size = rng.uniform(0.8, 1.25)
    for side in (-1, 1):
        x, y, z = moved[0] - side * 12, moved[1] - 2, moved[2] - 8
        ventricles |= (x / (7 * size)) ** 2 + (y / (32 * size)) ** 2 + (z / (9 * size)) ** 2 < 1
        x, z = moved[0] - side * 24, moved[2] + 4
        nuclei |= (x / 7) ** 2 + ((moved[1] - 8) / 16) ** 2 + (z / 8) ** 2 < 1
    head = depth_mm > -13
    scalp = head & (depth_mm < -7)
    veins = _veins(settings, brain & (depth_mm > 3), rng)
    return {
        "brain": brain, "head": head, "scalp": scalp, "grey": cortex, "fluid": sulci | (ventricles & brain),
        "nuclei": nuclei & brain & ~ventricles, "vein": veins, "depth_mm": depth_mm,
        "below": base & ~stem,
    }  # fmt: skip


def _veins(settings, inside, rng):
    """Thin tubes that run outwards with bends."""
    spacing, middle = np.array(settings.spacing_mm), np.array(settings.shape) / 2
    veins = np.zeros(inside.shape, bool)
    for _ in range(45):
        place = rng.normal(0, [25, 32, 18])
        heading = place / (np.linalg.norm(place) + 1e-6)
        for _ in range(22):
            heading = heading + rng.normal(0, 0.35, 3)
            heading /= np.linalg.norm(heading)
            place = place + 2 * heading
            index = np.clip(np.rint(place / spacing + middle).astype(int), 0, np.array(inside.shape) - 1)
            veins[tuple(index)] = True
    return veins & inside


def _lesions(tissue, settings, rng, count):
    """Balls of 4 to 7 mm, apart from each other."""
    deep = ndimage.binary_erosion(tissue["brain"] & (tissue["depth_mm"] > 12), np.ones((3, 3, 3)))
    room = np.argwhere(deep & ~tissue["fluid"] & ~tissue["vein"])
    marked = np.zeros(tissue["brain"].shape, bool)
    spacing = np.array(settings.spacing_mm)
    reach = np.ceil(4 / spacing).astype(int)
    grid = np.indices(2 * reach + 1).T - reach
    centers = []
    while len(centers) < count:
        center = room[rng.integers(len(room))]
        if all(np.linalg.norm((center - other) * spacing) > 25 for other in centers):
            centers.append(center)
            ball = grid[np.linalg.norm(grid * spacing, axis=-1) <= rng.uniform(2.6, 3.6)]
            marked[tuple((center + ball).T)] = True
    return marked


def _magnitude(tissue, contrast, settings, noise):
    signal = np.where(tissue["head"], np.float32(0.08), np.float32(0))
    signal[tissue["brain"]] = contrast["white"]
    for name in ("grey", "nuclei", "fluid", "vein", "lesion", "scalp"):
        signal[tissue[name]] = contrast[name]
    smooth = ndimage.gaussian_filter(signal, [0.45, 0.45, 0.25])
    smooth = smooth * (1 + 0.12 * np.linspace(-1, 1, signal.shape[1])[None, :, None] * noise.uniform(-1, 1))
    sigma = 1 / (settings.snr * noise.uniform(0.85, 1.15))
    real = smooth + sigma * noise.standard_normal(signal.shape, dtype=np.float32)
    scale = 900 * noise.uniform(0.8, 1.25)
    return np.rint(scale * np.hypot(real, sigma * noise.standard_normal(signal.shape, dtype=np.float32))).astype(
        np.float32
    )


def _qsm(tissue, noise):
    values = np.full(tissue["brain"].shape, QSM["white"], np.float32)
    for name in ("grey", "nuclei", "fluid", "vein", "lesion"):
        values[tissue[name]] = QSM[name]
    values = ndimage.gaussian_filter(values, [0.45, 0.45, 0.25]) + 0.02 * noise.standard_normal(
        values.shape, dtype=np.float32
    )
    return np.where(tissue["brain"], values, 0).astype(np.float32)
