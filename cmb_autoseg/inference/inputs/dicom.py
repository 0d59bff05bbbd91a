"""A folder of DICOM files as one case."""

from collections import defaultdict
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import grids_agree
from cmb_autoseg.inference.dicom import DicomVolume, convert_dicom, pick_volume
from cmb_autoseg.inference.inputs.common import (
    InputSettings,
    assumed_role,
    listed,
    named_case,
    overruled,
    safe_folder_name,
    with_unused_echo,
)
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, ImageSource, Role

__all__ = ["case_of_dicom"]


def case_of_dicom(folder: Path, settings: InputSettings) -> Case:
    """One case of all series in a folder, named after the folder.

    Raises:
        InputError: no series in which microbleeds are visible, or several that could be meant; scans of several people.
    """
    if settings.scratch is None:
        raise InputError(f"-i {folder}: DICOM files need a scratch folder for their conversion; pass one")
    by_role: defaultdict[Role, list[DicomVolume]] = defaultdict(list)
    faults: defaultdict[Role, list[str]] = defaultdict(list)
    for volume in convert_dicom(folder, settings.scratch):
        if volume.fault:
            faults[volume.role].append(f"series {volume.series} left out: {volume.fault}")
        else:
            by_role[volume.role].append(volume)
    there = tuple(known for known in SUSCEPTIBILITY_ROLES if known in by_role)
    if not there:
        broken = next((faults[known][0] for known in (*SUSCEPTIBILITY_ROLES, *faults) if known in faults), None)
        found = listed(by_role) or "nothing but localizers and projections"
        why = broken or f"no magnitude, SWI or QSM series in it (found {found}); give the folder of one"
        raise InputError(f"-i {folder}: {why}")
    name = safe_folder_name(folder, "dicom")
    roles, echo, role = settings.roles, settings.echo, settings.role
    usable = tuple(known for known in there if known in roles and role in (None, known))
    if not usable:
        only = pick_volume(by_role[there[0]], echo, folder)
        series = f"series {only.series}"
        taken, notes = (role, overruled(only.role, role, series)) if role else assumed_role(only.role, roles, series)
        case = named_case(name, {taken: ImageSource(path=str(only.path))}, notes)
        return case if only.echo == echo else with_unused_echo(case, echo, [f"series {only.series}"])
    picked = {known: pick_volume(by_role[known], echo, folder) for known in usable}
    companions = tuple(known for known in roles if known in by_role and known not in SUSCEPTIBILITY_ROLES)
    for known in companions if role is None else ():
        fitting = [volume for volume in by_role[known] if grids_agree(volume.path, picked[usable[0]].path)]
        picked[known] = pick_volume(fitting or by_role[known], echo, folder)
    told = {known: "; ".join(faults[known]) for known in roles if known in faults}
    case = named_case(name, {known: ImageSource(path=str(volume.path)) for known, volume in picked.items()}, told)
    if any(volume.echo == echo for volume in picked.values()):
        return case
    return with_unused_echo(case, echo, (f"series {volume.series}" for volume in picked.values()))
