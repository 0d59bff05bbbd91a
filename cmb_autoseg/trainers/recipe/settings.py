"""What the parts of a recipe share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat

from cmb_autoseg.records import Record

__all__ = ["FactorRange", "Plane", "Settings", "Share"]

Share = Annotated[float, Field(ge=0, le=1)]
Plane = Literal["axial", "coronal", "sagittal"]


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("the first number is the smallest, the second the largest")
    return limits


FactorRange = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
"""Smallest and largest."""


class Settings(Record):
    """A part of a recipe; the text under a field is its description in the schema and in the reference.

    Messages of validators that look at several fields begin with the key of one of them and what was found there.
    """

    model_config = ConfigDict(use_attribute_docstrings=True, allow_inf_nan=False)
