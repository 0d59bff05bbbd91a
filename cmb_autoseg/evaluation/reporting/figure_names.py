"""What figures are called and what they mean, in a few words; docs/reference/metrics.md has the whole."""

from collections.abc import Mapping

from cmb_autoseg.evaluation.matching.candidates import CANDIDATE_FLOOR

__all__ = ["CANDIDATE", "NAMES", "definition_of", "heading_of", "named"]

CANDIDATE = (
    f"A peak of the probability map and what surrounds it down to half of its height, from {CANDIDATE_FLOOR:g} on (or "
    "the threshold, if that is lower); in a list, every row. Its confidence is the highest probability in it, or the "
    "score of its row; plain masks and lists without scores have no candidates. Curves, areas under them and "
    "calibration are of candidates, all other figures of the lesions at the threshold in force."
)
NAMES: Mapping[str, tuple[str, str]] = {
    "lesion.sensitivity": ("lesion sensitivity", "found reference lesions / reference lesions"),
    "lesion.precision": ("lesion precision", "right predicted lesions / right and false predicted lesions"),
    "lesion.f1": ("lesion F1", "harmonic mean of sensitivity and precision"),
    "lesion.f1_per_subject_median": ("lesion F1, median of cases", "of the cases that have a reference lesion"),
    "lesion.f1_per_subject_mean": ("lesion F1, mean of cases", "of the cases that have a reference lesion"),
    "lesion.fp_per_scan": ("FP per scan", "false positive lesions / scans"),
    "lesion.fp_per_lesion": ("FP per CMB", "false positive lesions / reference lesions"),
    "lesion.fp_per_negative_scan": (
        "FP per lesion-free scan",
        "false positives of scans without reference lesion / such scans",
    ),
    "lesion.auc": (
        "lesion ROC AUC",
        "chance that a right candidate has a higher mean probability than a false one; missed lesions are not in it",
    ),
    "lesion.auc_with_misses": (
        "lesion ROC AUC, misses as 0",
        "as above, with missed lesions as right ones of probability 0",
    ),
    "lesion.average_precision": ("average precision", "area under the steps of precision over recall of candidates"),
    "lesion.froc_area": ("FROC area to 8 FP per scan", "mean sensitivity over 0 to 8 false positives per scan"),
    "lesion.froc_score": ("FROC score", "mean of the sensitivities at 0.125, 0.25, 0.5, 1, 2, 4 and 8 FP per scan"),
    "voxel.dice": ("voxel Dice", "2 TP / (2 TP + FP + FN), voxels of all cases together"),
    "voxel.one_minus_dice": ("1 - Dice", "what one publication calls SVD; it is no difference of volumes"),
    "voxel.dice_per_case_mean": ("voxel Dice, mean of cases", "of the cases where either side has a voxel"),
    "voxel.dice_of_hits": ("Dice of found lesions", "mean over pairs of the Dice of the two lesions"),
    "voxel.jaccard": ("voxel Jaccard", "TP / (TP + FP + FN)"),
    "voxel.precision": ("voxel precision", "TP / (TP + FP)"),
    "voxel.recall": ("voxel recall", "TP / (TP + FN), also called sensitivity"),
    "voxel.specificity": (
        "voxel specificity",
        "TN / (TN + FP); near 1 for any detector, since almost all is background",
    ),
    "voxel.false_positive_rate": ("voxel false positive rate", "FP / (TN + FP)"),
    "voxel.accuracy": ("voxel accuracy", "(TP + TN) / all voxels; near 1 for any detector"),
    "voxel.auc": ("voxel ROC AUC", "chance that a lesion voxel has a higher probability than another voxel, ties half"),
    "voxel.volume_difference_mean": ("volume difference, mm3", "mean over cases of predicted minus reference volume"),
    "voxel.absolute_volume_difference_mean": ("absolute volume difference, mm3", "mean over cases, sign left out"),
    "voxel.relative_volume_difference": (
        "relative volume difference",
        "predicted minus reference volume / reference volume, of all cases together; not symmetric",
    ),
    "count.mean_absolute_error": ("count, mean absolute error", "of predicted minus reference lesions of a case"),
    "count.bias": ("count, bias", "mean of predicted minus reference lesions; positive: too many"),
    "count.error_sd": ("count, SD of errors", "standard deviation of predicted minus reference"),
    "count.limit_of_agreement_low": ("lower limit of agreement", "bias - 1.96 SD of errors"),
    "count.limit_of_agreement_high": ("upper limit of agreement", "bias + 1.96 SD of errors"),
    "count.exact_count_share": ("exact counts", "share of cases with the same number on both sides"),
    "count.spearman": ("count, Spearman", "rank correlation of predicted and reference counts"),
    "count.icc": ("count, ICC(2,1)", "two-way random effects, absolute agreement, one rating"),
    "patient.sensitivity": ("patient sensitivity", "positive cases that are called positive"),
    "patient.specificity": ("patient specificity", "negative cases that are called negative"),
    "patient.balanced_accuracy": ("balanced accuracy", "mean of patient sensitivity and specificity"),
    "patient.precision": ("positive predictive value", "positive among the cases called positive"),
    "patient.false_positive_rate": ("false positive rate", "1 - specificity"),
    "patient.false_negative_rate": ("false negative rate", "1 - sensitivity"),
    "patient.auc": ("patient ROC AUC", "by the confidence of the k-th surest finding, k the least number of the rule"),
    "severity.class_accuracy": ("right class", "share of cases in the same class by prediction and reference"),
    "severity.kappa": ("kappa", "Cohen, without weights"),
    "severity.kappa_linear": ("kappa, linear weights", "Cohen, penalty by the distance of classes"),
    "severity.kappa_quadratic": ("kappa, quadratic weights", "Cohen, penalty by the squared distance"),
    "calibration.ece": (
        "expected calibration error",
        "mean distance of confidence and share of right candidates, 10 bins of equal width weighed by candidates",
    ),
    "calibration.maximal_calibration_error": ("maximal calibration error", "that distance in the worst bin"),
    "calibration.brier": ("Brier score", "mean squared distance of confidence and truth"),
    "surface.hd95_mm": ("HD95, mm", "95th percentile of surface distances, found lesions of 5 mm and more"),
    "surface.assd_mm": ("ASSD, mm", "mean surface distance in both directions"),
    "surface.surface_dice_1mm": ("surface Dice at 1 mm", "share of both surfaces within 1 mm of the other"),
}
"""By `<group>.<key>` of `metrics.json`: heading and meaning."""


def heading_of(key: str) -> str:
    """Of `<group>.<key>`; one without a name of its own is spelt out."""
    return NAMES[key][0] if key in NAMES else key.partition(".")[2].replace("_", " ")


def definition_of(key: str) -> str:
    return NAMES[key][1] if key in NAMES else ""


def named(group: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Keys of one group with their headings, as the columns of a table."""
    return {f"{group}.{key}": heading_of(f"{group}.{key}") for key in keys}
