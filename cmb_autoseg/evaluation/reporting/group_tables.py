"""Tables that set groups side by side: protocols, sizes and regions, subgroups, systems."""

from collections.abc import Mapping, Sequence
from typing import Any

from cmb_autoseg.evaluation.inputs.subgroups import LEAST
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.reporting.figure_names import heading_of, named
from cmb_autoseg.evaluation.reporting.study import Group, Study
from cmb_autoseg.reporting.tables import Row, Table, interval_text

__all__ = [
    "FEW",
    "protocol_definitions",
    "protocols_table",
    "strata_table",
    "subgroups_table",
    "system_differences",
    "systems_table",
]

PROTOCOL = ("sensitivity", "precision", "f1", "fp_per_scan", "fp_per_negative_scan", "average_precision", "froc_score")
FEW = (
    f"Too few: fewer than {LEAST['subjects']} subjects, {LEAST['with lesions']} with lesions or "
    f"{LEAST['without lesions']} without. What hangs on them is uncertain: all figures where subjects are few; "
    "sensitivity, F1 and areas where those with lesions are; specificity, FP per lesion-free scan and the "
    "patient-level area where those without are."
)
COUNTS = {"cases": "cases", "subjects": "subjects", "lesions": "lesions", "predicted": "predicted lesions"}
P_VALUES = frozenset({"p", "p_holm", "p_bh", "p_wilcoxon", "p_wilcoxon_holm"})
CORRECTED: tuple[str, ...] = ("p_holm", "p_bh", "p_wilcoxon_holm")
SEVERAL_COMPARISONS = (
    "Holm: corrected over the systems, figure by figure; BH: false discovery rate by Benjamini and Hochberg, likewise. "
    "Nothing is corrected over the figures: name one of them beforehand."
)
ONE_COMPARISON = (
    "Each figure is compared once, so there is nothing to correct for figure by figure. Nothing is corrected over the "
    "figures: name one of them beforehand."
)


def protocols_table(study: Study) -> Table:
    rows = tuple(
        {
            "protocol": f"{name} (in force)" if name == study.protocol.name else name,
            **{f"lesion.{key}": figures[key] for key in PROTOCOL if key in figures},
        }
        for name, figures in study.by_protocol.items()
    )
    present = tuple(key for key in PROTOCOL if any(f"lesion.{key}" in row for row in rows))
    columns = {"protocol": "protocol", **named("lesion", present)}
    return Table("protocols", "Figures under each protocol", columns, rows)


def protocol_definitions(study: Study) -> Table:
    rows = tuple({"protocol": name, "definition": protocol.defined} for name, protocol in study.limits.items())
    columns = {"protocol": "protocol", "definition": "when a lesion counts as found"}
    return Table("protocol_definitions", "Definitions of the protocols", columns, rows)


def strata_table(strata: Sequence[Group]) -> Table:
    notes = (
        "Sensitivity among reference lesions of the group, precision and false positives among predicted lesions of "
        "the group: a lesion may be marked in one group and predicted in the next.",
    )
    return _groups("strata", "Figures by size and region", strata, notes)


def subgroups_table(subgroups: Sequence[Group]) -> Table:
    return _groups("subgroups", "Figures by subgroup", subgroups, ())


def _groups(name: str, title: str, groups: Sequence[Group], notes: tuple[str, ...]) -> Table:
    counted = {key: text for key, text in COUNTS.items() if any(key in group.counts for group in groups)}
    keys = dict.fromkeys(key for group in groups for key in group.figures)
    rows = tuple(
        {
            "by": group.by,
            "group": group.name,
            "few": group.few or None,
            **group.counts,
            **group.figures,
            "warning": group.warning or None,
        }
        for group in groups
    )
    has_few = any(group.few for group in groups)
    few = {"few": "too few"} if has_few else {}
    columns = {"by": "by", "group": "group", **few, **counted, **{key: heading_of(key) for key in keys}}
    told = (FEW,) if has_few else ()
    for_programs = ("warning",) if any(group.warning for group in groups) else ()
    return Table(name, title, columns, rows, (*notes, *told), frozenset(keys), for_programs)


def systems_table(systems: Mapping[str, Mapping[str, Figure]]) -> Table:
    keys = dict.fromkeys(key for figures in systems.values() for key in figures)
    rows = tuple({"system": name, **figures} for name, figures in systems.items())
    columns = {"system": "system", **{key: heading_of(key) for key in keys}}
    return Table("systems", "Figures of each system", columns, rows, (), frozenset(keys))


def system_differences(differences: Sequence[Mapping[str, Any]]) -> Table:
    """From rows of `statistics.paired.comparison_rows`, whose figures are named `<group>.<key>`."""
    rows = tuple(_difference(row) for row in differences)
    columns = {
        "figure": "figure",
        "system": "system",
        "against": "against",
        "difference": "difference (95 % CI)",
        "percentile": "percentile interval",
        "p": "p",
        "p_holm": "p (Holm)",
        "p_bh": "p (BH)",
        "n_subjects": "subjects",
        "p_wilcoxon": "p (Wilcoxon)",
        "p_wilcoxon_holm": "p (Wilcoxon, Holm)",
        "n_wilcoxon": "subjects (Wilcoxon)",
    }
    notes = (
        "System less the one it is held against, on the same draws of subjects. The interval beside the difference is "
        "BCa; p, two-sided and from the same draws, belongs to the percentile interval: it is below 0.05 about where "
        "that one leaves 0 out, and near 0 the BCa interval may say otherwise. There is no p without a percentile "
        "interval, and where fewer than six subjects bear on a figure.",
        "Wilcoxon: signed ranks of the subjects' own figures, of those subjects for whom both systems have one; it "
        "tests another question, and no interval here belongs to it.",
    )
    figures = [row["figure"] for row in differences]
    compared_once = len(set(figures)) == len(figures)
    told = ONE_COMPARISON if compared_once else SEVERAL_COMPARISONS
    # With nothing to correct for, corrected columns would say p again.
    for_programs = CORRECTED if compared_once else ()
    columns = {key: heading for key, heading in columns.items() if key not in for_programs}
    return Table(
        "system_differences", "Differences between systems", columns, rows, (*notes, told), P_VALUES, for_programs
    )


def _difference(row: Mapping[str, Any]) -> Row:
    found = row["difference"]
    figure = Figure(value=found.value, ci=found.ci, ci_percentile=found.ci_percentile, why=found.why)
    percentile = interval_text(found.ci_percentile)
    return {**row, "figure": heading_of(row["figure"]), "difference": figure, "percentile": percentile}
