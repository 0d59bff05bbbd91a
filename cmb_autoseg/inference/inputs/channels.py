"""Folders with nnU-Net's file names: `CASE_0000.nii.gz`."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import nifti_stem
from cmb_autoseg.inference.inputs.common import (
    InputFailure,
    InputSettings,
    echo_of,
    named_case,
    with_susceptibility,
    with_unused_echo,
)
from cmb_autoseg.records import Case, ImageSource, Role

__all__ = ["CHANNEL_NAME", "cases_of_channels", "channel_role", "has_channel_number"]

CHANNEL_NAME = re.compile(r"(?P<case>.+)_(?P<channel>0\d{3})")
"""nnU-Net's file names; numbers from 1000 on are years or subjects."""


def has_channel_number(path: Path) -> bool:
    return CHANNEL_NAME.fullmatch(nifti_stem(path)) is not None


def channel_role(path: Path, channel: int, roles: tuple[Role, ...]) -> Role:
    """The sequence that a channel number of the model means.

    Raises:
        InputError: the model has no such channel.
    """
    if channel >= len(roles):
        legal = ", ".join(f"_{index:04d} {role}" for index, role in enumerate(roles))
        raise InputError(f"{path}: channel {channel:04d} is unknown to the model; rename it to one of {legal}")
    return roles[channel]


def cases_of_channels(images: Sequence[Path], settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    """Files with nnU-Net's names; a file without a channel number among them is a failure of its own."""
    by_case: defaultdict[str, list[tuple[Path, int]]] = defaultdict(list)
    failures: list[InputFailure] = []
    for path in images:
        match = CHANNEL_NAME.fullmatch(nifti_stem(path))
        if match:
            by_case[match["case"]].append((path, int(match["channel"])))
        else:
            reason = f"{path}: no channel number among files that have one; name it CASE_0000.nii.gz or move it away"
            failures.append(InputFailure(nifti_stem(path), reason))
    cases: list[Case] = []
    for name, channels in by_case.items():
        try:
            cases.append(_case_of_channels(name, channels, settings))
        except InputError as error:
            failures.append(InputFailure(name, str(error)))
    return cases, failures


def _case_of_channels(name: str, channels: Sequence[tuple[Path, int]], settings: InputSettings) -> Case:
    images: dict[Role, ImageSource] = {}
    for path, channel in channels:
        role = channel_role(path, channel, settings.roles)
        if role in images:
            raise InputError(f"{path}: a second file of channel {channel:04d} beside {images[role].path}; remove one")
        echo = echo_of(path, settings.echo) if len(channels) > 1 else settings.echo
        images[role] = ImageSource(path=str(path), echo=echo)
    case = with_susceptibility(named_case(name, images), settings.roles)
    if any(image.echo is not None for image in images.values()):
        return case
    return with_unused_echo(case, settings.echo, (path.name for path, _ in channels))
