"""What the page has in which order: sections, and the tables and figures of each."""

from dataclasses import dataclass

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """A part of the page; it is left out where none of its tables and figures is there."""

    key: str
    """Its anchor."""
    title: str
    intro: str
    tables: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()
    """Long tables, which are opened by a click or a key."""


SECTIONS = (
    Section(
        "results",
        "Main results",
        "Pooled over all cases at the threshold in force; in brackets the 95 % confidence interval.",
        ("main", "operating_point"),
    ),
    Section(
        "protocols",
        "Protocols side by side",
        "The same predictions under every rule of what counts as found. Figures of different rules cannot be compared "
        "with one another, nor can publications that use them.",
        ("protocols", "protocol_definitions"),
        ("protocols",),
    ),
    Section(
        "curves",
        "Curves",
        "Over all thresholds, from candidates with their confidence.",
        ("froc_rates", "precision_at_sensitivity"),
        ("froc", "precision_recall", "lesion_roc"),
    ),
    Section(
        "strata",
        "By size and region",
        "Sensitivity among reference lesions of each kind; false positives by their own size and region.",
        ("strata",),
        ("strata_size", "strata_region"),
    ),
    Section(
        "patients",
        "Patient level",
        "Whether a scan has as many lesions as a rule asks for, by the predicted and by the reference count.",
        ("patient", "patient_counts", "severity", "severity_agreement"),
        ("patient_roc",),
    ),
    Section("counts", "Counts", "Lesions per scan.", ("counts",), ("counts", "bland_altman")),
    Section(
        "calibration",
        "Calibration",
        "Whether findings with a probability of 0.8 are microbleeds in four of five cases.",
        ("calibration", "reliability"),
        ("reliability",),
    ),
    Section("voxels", "Voxel level", "Every voxel of the images, air included.", ("voxel", "surface")),
    Section(
        "subgroups",
        "Subgroups",
        "By the columns of the table of cases. Groups were not set up to be compared: differences between them may "
        "have other causes than the column's name says.",
        ("subgroups",),
        ("subgroups", "subgroups_fp"),
    ),
    Section(
        "systems",
        "Systems",
        "Several systems on the same cases, paired: the same draws of subjects for all. The patient-level area has a "
        "p of the bootstrap and one of DeLong: name one of them before you look, DeLong's where a single comparison "
        "of areas is the main one. The curve of a list ends where its rows end and keeps its last sensitivity, so "
        "average precision and FROC areas of a list that was cut off at some score are lower bounds: compare them "
        "with care.",
        ("systems", "system_differences", "delong"),
        ("systems", "systems_froc", "system_differences"),
    ),
    Section(
        "readers",
        "Reader study",
        "Verdicts of readers on the findings, and how far they agree.",
        ("reader_verdicts", "reader_agreement", "reader_pairs"),
    ),
    Section(
        "power",
        "Power",
        "Observed power is a function of p and adds nothing to it (Hoenig and Heisey 2001); it is here since "
        "publications show it. What to report is the detectable difference: the smallest one that a study of this "
        "size would have found with the target power.",
        ("power",),
    ),
    Section("time", "Time", "", ("seconds",)),
    Section("cases", "Cases", "", (), (), ("best_worst", "per_case", "matches")),
)
