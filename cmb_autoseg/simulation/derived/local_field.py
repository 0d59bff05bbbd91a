"""The field that the brain itself makes, from the phase of one or several echoes.

All of it happens on the differences between neighboring voxels (`edges`): they are free of wraps
wherever the field is resolved, a constant phase drops out, and their divergence is the Laplacian of
the field, which sources outside the brain do not have inside it.
"""

import math

import torch
from torch import Tensor

from cmb_autoseg.simulation.tissue import radians_per_ppm

__all__ = [
    "dropout",
    "field_gradient",
    "local_field",
    "rim_voxels",
    "signal_quality",
    "squared_frequency",
    "unresolved",
    "unwrapped_field",
]

VOID = 0.3
"""Voxels with less than this share of the brain's median signal carry no usable phase."""
REPAIRS = 6
RIM_MM = 2.0
"""Outermost brain in which bone and air still share voxels; sources there count as background."""
DROPOUT_SHARE = 0.4
DROPOUT_WINDOW_MM = 9.0
HIGH_PASS_PER_MM = 0.12
"""Spatial frequency (radians per mm) below which the local field is damped; a wavelength of 52 mm."""

Triple = tuple[float, float, float]


def field_gradient(images: Tensor, echo_times_ms: tuple[float, ...], field_strength_t: float) -> Tensor:
    """Field difference between each voxel and its next neighbor along i, j and k, ppm.

    The phase of z[n + 1] conj(z[n]) is the wrapped difference. Later echoes are unwrapped with what
    the earlier ones say; echoes are averaged with weights (magnitude * echo time)^2, the best for white
    noise (Gilbert et al. 2012). The coil's phase is not fitted: it is slow and leaves with the background.

    Args:
        images: complex, shape (echo, i, j, k), echo times increasing.
        echo_times_ms: of the echoes.
        field_strength_t: main field.

    Returns:
        Shape (3, i, j, k); the last plane along each axis is zero.
    """
    gradient = torch.zeros((3, *images.shape[1:]), device=images.device)
    for axis in range(3):
        n = images.shape[axis + 1] - 1
        weighted = total = torch.zeros((), device=images.device)
        found = gradient[axis].narrow(axis, 0, n)
        for image, echo_time_ms in zip(images, echo_times_ms, strict=True):
            scale = radians_per_ppm(field_strength_t, echo_time_ms)
            low, high = image.narrow(axis, 0, n), image.narrow(axis, 1, n)
            product = high * low.conj()
            expected = found * scale
            turned = expected + torch.angle(product * torch.polar(torch.ones_like(expected), -expected))
            # |z1 z0| stands for the squared magnitude; it is small where either voxel is dark.
            weight = product.abs() * scale**2
            weighted = weighted + weight * (turned / scale)
            total = total + weight
            found.copy_(weighted / total.clamp(min=1e-20))
    return gradient


def signal_quality(images: Tensor, echo_times_ms: tuple[float, ...], brain: Tensor) -> Tensor:
    """How well each voxel's field is known: inverse of its noise, the brain's median being 1; (i, j, k)."""
    times = torch.tensor(echo_times_ms, device=images.device).reshape(-1, 1, 1, 1)
    strength = (images.abs() * times).square().sum(dim=0).sqrt()
    return strength / strength[brain].median().clamp(min=1e-20)


def unresolved(gradient: Tensor, brain: Tensor, radians_per_ppm: float) -> Tensor:
    """Brain voxels at which the differences do not add up to zero around a face of the grid; bool, (i, j, k).

    There a wrap was mistaken (a residue: Goldstein et al. 1988). Faces that reach out of the brain,
    into noise, are not asked. `radians_per_ppm` is that of the last echo.
    """
    found = torch.zeros_like(brain)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        n_a, n_b = brain.shape[a] - 1, brain.shape[b] - 1
        turn = gradient[a].narrow(a, 0, n_a).diff(dim=b) - gradient[b].narrow(b, 0, n_b).diff(dim=a)
        residue = turn.abs() * radians_per_ppm > math.pi
        corners = [(step_a, step_b) for step_a in (0, 1) for step_b in (0, 1)]
        for step_a, step_b in corners:
            residue &= brain.narrow(a, step_a, n_a).narrow(b, step_b, n_b)
        for step_a, step_b in corners:
            found.narrow(a, step_a, n_a).narrow(b, step_b, n_b).logical_or_(residue)
    return found


def dropout(unknown: Tensor, brain: Tensor, spacing_mm: Triple) -> Tensor:
    """The brain where most of it has no usable phase, as above sinuses; bool, shape (i, j, k).

    A microbleed's void is too small for that: of the brain within 9 mm, less than 40 % is unknown.
    """
    size = [2 * round(DROPOUT_WINDOW_MM / step / 2) + 1 for step in spacing_mm]
    pair = torch.stack([(unknown & brain).float(), brain.float()])[:, None]
    for axis in range(3):
        kernel = [size[axis] if d == axis else 1 for d in range(3)]
        pair = torch.nn.functional.avg_pool3d(pair, kernel, stride=1, padding=[n // 2 for n in kernel])
    return brain & (pair[0, 0] > DROPOUT_SHARE * pair[1, 0])


def unwrapped_field(gradient: Tensor, spacing_mm: Triple, void: Tensor | None = None) -> Tensor:
    """The field whose differences fit `gradient` best, mean 0; ppm, shape (i, j, k).

    Least squares by cosine transforms (Ghiglia & Romero 1994), the edge-aware form of Laplacian
    unwrapping (Schofield & Zhu 2003). Differences that touch a voxel of `void` are not believed: they
    are replaced by those of the solution, and the fit is repeated.
    """
    solver = _CosineSolver(tuple(gradient.shape[1:]), spacing_mm, gradient.device)
    field = solver.solve(divergence(gradient, spacing_mm))
    if void is None or not bool(void.any()):
        return field
    doubted = _edges_at(void)
    for _ in range(REPAIRS):
        field = solver.solve(divergence(torch.where(doubted, differences(field), gradient), spacing_mm))
    return field


def local_field(field: Tensor, brain: Tensor, spacing_mm: Triple) -> Tensor:
    """Field of the sources inside the brain, high-passed, its mean there 0; ppm, shape (i, j, k).

    The Laplacian of a dipole field is zero away from its sources. The Laplacian of the total field is
    therefore kept inside the brain, set to zero elsewhere and integrated again in free space (as in
    HARPERELLA, Li et al. 2014), which removes the field of all that lies outside. The integral
    is divided by k^2 + `HIGH_PASS_PER_MM`^2 instead of k^2: the coil's phase has a Laplacian too.
    Unlike SHARP, no sphere has to fit inside the brain, so thick slices lose only one slice at each end.

    Args:
        field: total field.
        brain: where sources are kept: without its rim.
        spacing_mm: voxel size.
    """
    sources = divergence(differences(field), spacing_mm) * brain
    square = squared_frequency(sources.shape, spacing_mm, sources.device)
    local: Tensor = torch.fft.irfftn(torch.fft.rfftn(sources) / -(square + HIGH_PASS_PER_MM**2), s=sources.shape)
    return local - (local * brain).sum() / brain.sum().clamp(min=1)


def differences(volume: Tensor) -> Tensor:
    """Next minus this voxel along i, j, k, shape (3, i, j, k); the last plane of each is zero."""
    found = torch.zeros((3, *volume.shape), dtype=volume.dtype, device=volume.device)
    for axis in range(3):
        n = volume.shape[axis] - 1
        found[axis].narrow(axis, 0, n).copy_(volume.narrow(axis, 1, n) - volume.narrow(axis, 0, n))
    return found


def divergence(gradient: Tensor, spacing_mm: Triple) -> Tensor:
    """Of differences (3, i, j, k), per mm^2: with `differences`, the seven-point Laplacian."""
    total = torch.zeros_like(gradient[0])
    for axis, step in enumerate(spacing_mm):
        part = gradient[axis] / step**2
        total += part
        n = part.shape[axis] - 1
        total.narrow(axis, 1, n).sub_(part.narrow(axis, 0, n))
    return total


def eroded(mask: Tensor, voxels: tuple[int, int, int] = (1, 1, 1)) -> Tensor:
    """Voxels whose neighbors, up to so many along each axis, are in the mask too; what lies outside is not."""
    kept = mask
    for axis, reach in enumerate(voxels):
        for _ in range(reach):
            n = kept.shape[axis]
            inner = kept.narrow(axis, 1, n - 2) & kept.narrow(axis, 0, n - 2) & kept.narrow(axis, 2, n - 2)
            kept = torch.zeros_like(kept)
            kept.narrow(axis, 1, n - 2).copy_(inner)
    return kept


def rim_voxels(spacing_mm: Triple) -> tuple[int, int, int]:
    """Of `RIM_MM`, at least one."""
    i, j, k = (max(1, round(RIM_MM / step)) for step in spacing_mm)
    return i, j, k


def _edges_at(voxels: Tensor) -> Tensor:
    """Which differences touch one of the voxels, shape (3, i, j, k)."""
    touched = voxels.repeat(3, 1, 1, 1)
    for axis in range(3):
        n = voxels.shape[axis] - 1
        touched[axis].narrow(axis, 0, n).logical_or_(voxels.narrow(axis, 1, n))
    return touched


def squared_frequency(shape: torch.Size, spacing_mm: Triple, device: torch.device) -> Tensor:
    """Eigenvalues of the negative seven-point Laplacian on rfftn's frequencies, per mm^2."""
    parts = []
    for axis, (n, step) in enumerate(zip(shape, spacing_mm, strict=True)):
        frequency = torch.fft.rfftfreq(n, device=device) if axis == 2 else torch.fft.fftfreq(n, device=device)
        parts.append(
            ((2 * torch.sin(math.pi * frequency) / step) ** 2).reshape([-1 if d == axis else 1 for d in range(3)])
        )
    return parts[0] + parts[1] + parts[2]


class _CosineSolver:
    """Solves the seven-point Poisson equation on a box without flux through its faces."""

    def __init__(self, shape: tuple[int, ...], spacing_mm: Triple, device: torch.device) -> None:
        self.bases = [_cosine_basis(n, device) for n in shape]
        eigenvalues = [
            (2 * torch.sin(math.pi * torch.arange(n, device=device) / (2 * n)) / step) ** 2
            for n, step in zip(shape, spacing_mm, strict=True)
        ]
        total = eigenvalues[0][:, None, None] + eigenvalues[1][None, :, None] + eigenvalues[2][None, None, :]
        total[0, 0, 0] = math.inf
        self.eigenvalues = total

    def solve(self, sources: Tensor) -> Tensor:
        """The volume of mean 0 whose Laplacian is `sources`."""
        spectrum = self._transformed(sources, forwards=True) / -self.eigenvalues
        return self._transformed(spectrum, forwards=False)

    def _transformed(self, volume: Tensor, forwards: bool) -> Tensor:
        # A matrix product per axis: as fast as a Fourier transform of the mirrored volume, in 1/8 of its memory.
        for axis, basis in enumerate(self.bases):
            matrix = basis.T if forwards else basis
            volume = (volume.movedim(axis, -1) @ matrix).movedim(-1, axis)
        return volume.contiguous()


def _cosine_basis(n: int, device: torch.device) -> Tensor:
    """Orthonormal cosines (DCT-II), shape (frequency, place)."""
    place = torch.arange(n, dtype=torch.float64, device=device) + 0.5
    frequency = torch.arange(n, dtype=torch.float64, device=device)[:, None]
    basis = torch.cos(math.pi * frequency * place / n) * math.sqrt(2 / n)
    basis[0] = math.sqrt(1 / n)
    return basis.float()
