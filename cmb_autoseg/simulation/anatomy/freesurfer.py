"""Label codes of FreeSurfer, SynthSeg and SimNIBS: which tissue and which structure each one is.

Codes after FreeSurferColorLUT; 136, 137, 163, 164 and those from 502 on as in the label maps that SynthSeg was trained
with, found by where they lie.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MNI_LANDMARKS", "OUTSIDE_CODES", "STRUCTURE_CODES", "TISSUE_CODES", "tissue_table"]

TISSUE_CODES: dict[str, tuple[int, ...]] = {
    "grey": (
        *(3, 42, 8, 47, 9, 48, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58, 27, 59),
        *(19, 55, 20, 56, 80, 81, 82, 96, 97, 138, 139, 172),
    ),
    "white": (
        *(2, 41, 7, 46, 16, 25, 57, 28, 60, 30, 62, 77, 78, 79, 85, 170, 173, 174, 175, 186, 187, 192),
        *(*range(250, 256), 5001, 5002),
    ),
    "fluid": (4, 5, 14, 15, 24, 43, 44, 72, 213, 221, 257),
    "plexus": (31, 63, 136, 137, 163, 164),
    "bone": (515, 516, 165),
    "soft": (507, 508, 509, 511, 530, 512, 258, 259, 118, 119, 130),
    "air": (502,),
    "blood": (514, 262),
    "eyes": (506,),
}
"""Cortical parcels (1000-2999, 11000-12999) are grey and their white matter (3000-4999, 13000-14999) is white."""
OUTSIDE_CODES = ("bone", "soft", "air", "blood", "eyes")

STRUCTURE_CODES: dict[str, tuple[int, ...]] = {
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "thalamus": (9, 10, 48, 49),
    "choroid plexus": TISSUE_CODES["plexus"],
    "ventricles": (4, 5, 14, 15, 43, 44, 72, *TISSUE_CODES["plexus"]),
    "infratentorial": (7, 8, 15, 16, 46, 47, 170, 171, 172, 173, 174, 175),
}
MNI_LANDMARKS: dict[tuple[int, ...], tuple[float, float, float]] = {
    (10, 9): (-11.0, -18.5, 7.5),
    (49, 48): (11.0, -18.0, 7.5),
    (11,): (-13.0, 10.0, 9.5),
    (50,): (13.5, 10.5, 10.0),
    (12,): (-25.5, 1.5, 0.0),
    (51,): (25.5, 2.0, 0.0),
    (13,): (-19.5, -4.5, -1.0),
    (52,): (19.5, -4.0, -1.0),
    (17,): (-25.5, -22.5, -14.5),
    (53,): (26.5, -21.5, -14.0),
    (18,): (-23.5, -5.0, -19.5),
    (54,): (24.0, -4.0, -19.5),
    (15,): (0.0, -46.0, -31.5),
}
"""Where the centroids of labels lie in MNI152 space."""


def tissue_table(codes: NDArray[np.int64]) -> list[str | None]:
    """The tissue of each code; None for an unknown one and for 0."""
    known = {code: tissue for tissue, members in TISSUE_CODES.items() for code in members}
    return [known.get(int(code)) or _parcel(int(code)) for code in codes]


def _parcel(code: int) -> str | None:
    if code >= 10000:
        code -= 10000
    if 1000 <= code < 3000:
        return "grey"
    return "white" if 3000 <= code < 5000 else None
