"""The hook for distortion correction: another installed package does it, this one checks what comes back.

    [project.entry-points."cmb_autoseg.distortion"]
    my_unwarp = "my_package.unwarp:unwarp"

makes `prep: {distortion: my_unwarp}` legal in a card. A card names what is installed and nothing
else: it can hold no code, no module and no path.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import numpy as np

from cmb_autoseg.errors import InputError, fault_reason
from cmb_autoseg.geometry import Volume, check_same_grid
from cmb_autoseg.records import Case, Role

__all__ = ["DISTORTION_GROUP", "DistortionHook", "correct_distortion", "installed_hooks", "load_hook"]

DISTORTION_GROUP = "cmb_autoseg.distortion"
"""Group of entry points in which packages announce their corrections."""

DistortionHook = Callable[[dict[Role, Volume], Case], dict[Role, Volume]]
"""Gets the sequences (canonical axes, float32, finite, each on its own grid) and the case, and gives
back the same sequences on the same grids. It must not change the arrays that it gets."""


def installed_hooks() -> dict[str, EntryPoint]:
    """The corrections that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=DISTORTION_GROUP)}


def load_hook(name: str) -> DistortionHook:
    """Find and import the correction that a card names.

    Raises:
        InputError: no installed package offers it, or importing it fails.
    """
    installed = installed_hooks()
    if name not in installed:
        found = ", ".join(sorted(installed)) or "none"
        raise InputError(
            f"prep.distortion: no installed package offers {name!r}; installed: {found}; "
            f"install the package that offers it (entry points, group {DISTORTION_GROUP}), or remove the key"
        )
    try:
        hook = installed[name].load()
    except Exception as error:  # a foreign package may fail with anything
        raise InputError(
            f"prep.distortion: {name} ({installed[name].value}) cannot be imported ({fault_reason(error)}); "
            "install it again, or remove the key"
        ) from error
    if not callable(hook):
        raise InputError(f"prep.distortion: {name} ({installed[name].value}) is no function; correct its entry point")
    loaded: DistortionHook = hook
    return loaded


def correct_distortion(name: str, volumes: dict[Role, Volume], case: Case) -> dict[Role, Volume]:
    """Let the named correction work on the sequences of one case, and check its result.

    Args:
        name: `prep.distortion` of the card.
        volumes: canonical axes, float32, finite.
        case: what the card says of them; the hook finds its own files by `case.images`.

    Returns:
        The same roles on the same grids, float32.

    Raises:
        InputError: there is no such hook, or it fails, or it gives back other roles or values that
            are not finite.
        GeometryError: it gives back another grid.
    """
    hook = load_hook(name)
    try:
        corrected = hook(dict(volumes), case)
    except Exception as error:  # see load_hook
        raise InputError(f"{case.name}: prep.distortion {name} failed: {fault_reason(error)}") from error
    if not isinstance(corrected, dict) or set(corrected) != set(volumes):
        found = ", ".join(map(str, corrected)) if isinstance(corrected, dict) else type(corrected).__name__
        raise InputError(
            f"{case.name}: prep.distortion {name} gave back {found or 'nothing'}, expected the sequences "
            f"{', '.join(volumes)}; correct that package"
        )
    return {role: _checked(name, case, role, corrected[role], volume) for role, volume in volumes.items()}


def _checked(name: str, case: Case, role: Role, corrected: Volume, volume: Volume) -> Volume:
    where = f"{case.name}: prep.distortion {name}: {role}"
    if not isinstance(corrected, Volume):
        raise InputError(f"{where} came back as {type(corrected).__name__}, expected a Volume; correct that package")
    named = Volume(np.asarray(corrected.data), np.asarray(corrected.affine, dtype=np.float64), name=where)
    check_same_grid(named, volume, "a correction keeps the grid; correct that package")
    data = named.data.astype(np.float32)
    if not np.isfinite(data).all():
        raise InputError(f"{where} has values that are not finite; correct that package")
    return volume.with_data(data)
