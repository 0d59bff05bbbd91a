"""What sequences are."""

from enum import StrEnum

__all__ = ["DERIVED_ROLES", "SUSCEPTIBILITY_MAGNITUDES", "SUSCEPTIBILITY_ROLES", "Role"]


class Role(StrEnum):
    """What a sequence is, whatever its cohort calls it."""

    SWI = "swi"
    GRE_MAG = "gre_mag"
    GRE_PHASE = "gre_phase"
    QSM = "qsm"
    T1 = "t1"
    T2 = "t2"
    FLAIR = "flair"
    FRST = "frst"
    LOCAL_PHASE = "local_phase"
    QSM_SIGN = "qsm_sign"


SUSCEPTIBILITY_ROLES = (Role.SWI, Role.GRE_MAG, Role.QSM)
"""Roles in which a microbleed is visible, in the order in which one is chosen as reference grid."""

SUSCEPTIBILITY_MAGNITUDES = (Role.SWI, Role.GRE_MAG)
"""Those of them that readers count in."""

DERIVED_ROLES = (Role.FRST, Role.LOCAL_PHASE, Role.QSM_SIGN)
"""Channels that preparation makes of other sequences; no file has such a role."""
