"""Records: what one stage hands to the next. Data only; the JSON of a record is the object.

Distances are millimetres. Points and affines are RAS. Arrays that nnU-Net sees are ordered
(z, y, x), and so are `spacing_mm` and `*_shape` of plans; everything else is in file order (i, j, k).
"""

from cmb_autoseg.records.case import BrainMaskSource, Case, ImageSource, LabelSource, TableRows
from cmb_autoseg.records.fingerprint import CaseFingerprint, Fingerprint, IntensityRange, LesionSize
from cmb_autoseg.records.lesions import Lesion, LesionTable, OperatingPoint
from cmb_autoseg.records.model import (
    INTENDED_USE,
    DataKind,
    Encoder,
    FoldModel,
    Model,
    intended_use_after,
    joined_kinds,
)
from cmb_autoseg.records.plan import Plan, Reason, Topology, TrainingRange, pooled_patch
from cmb_autoseg.records.preparation import BrainNetworkSettings, PrepSettings, RegistrationBounds, StepRecord
from cmb_autoseg.records.record import Affine, Record, Triple
from cmb_autoseg.records.roles import DERIVED_ROLES, SUSCEPTIBILITY_MAGNITUDES, SUSCEPTIBILITY_ROLES, Role

__all__ = [
    "DERIVED_ROLES",
    "INTENDED_USE",
    "SUSCEPTIBILITY_MAGNITUDES",
    "SUSCEPTIBILITY_ROLES",
    "Affine",
    "BrainMaskSource",
    "BrainNetworkSettings",
    "Case",
    "CaseFingerprint",
    "DataKind",
    "Encoder",
    "Fingerprint",
    "FoldModel",
    "ImageSource",
    "IntensityRange",
    "LabelSource",
    "Lesion",
    "LesionSize",
    "LesionTable",
    "Model",
    "OperatingPoint",
    "Plan",
    "PrepSettings",
    "Reason",
    "Record",
    "RegistrationBounds",
    "Role",
    "StepRecord",
    "TableRows",
    "Topology",
    "TrainingRange",
    "Triple",
    "intended_use_after",
    "joined_kinds",
    "pooled_patch",
]
