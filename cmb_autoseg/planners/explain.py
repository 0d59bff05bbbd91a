"""A plan in plain words, for the engineer who wants to know why before training for days."""

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import wrap

import numpy as np

from cmb_autoseg.planners.grid import Grids, mm
from cmb_autoseg.planners.planner import describe_lesion
from cmb_autoseg.planners.splits import BURDEN_BINS
from cmb_autoseg.raw_dataset import Fold
from cmb_autoseg.records import CaseFingerprint, Fingerprint, Plan, Topology

__all__ = ["explain"]

WIDTH = 100
TITLES = {
    "channels": "Channels",
    "grid": "Grid",
    "lesions": "Lesions kept",
    "patch": "Patch and batch",
    "network": "Network",
    "memory": "Memory",
}
DIRECTIONS = ("feet to head", "back to front", "left to right")
"""Of the canonical axes (z, y, x)."""
PLANES = ("axial", "coronal", "sagittal")
FOLD_RULE = (
    "subjects, never cases, are dealt to {n_folds} folds by cohort, set of sequences and number of lesions (none, 1,"
    f" {BURDEN_BINS[1]}-{BURDEN_BINS[2] - 1}, {BURDEN_BINS[2]} or more), by seed; written once, then kept"
)


def explain(plan: Plan, measured: Fingerprint, splits: Sequence[Fold]) -> str:
    """What was found, what was chosen and why, from stored records alone.

    Args:
        plan: with the reasons that the planner gave.
        measured: the fingerprint that it was planned from.
        splits: nnU-Net's `splits_final.json`.
    """
    lines = [f"Plan of {plan.dataset}, preset {plan.preset}, for {plan.device}", ""]
    lines += ["What was found in the data", *_data(measured), ""]
    for topic, title in TITLES.items():
        lines.append(title)
        rules: list[str] = []
        for reason in plan.reasons:
            if reason.topic == topic:
                lines += _paragraph(reason.text)
                rules += [reason.rule] if reason.rule not in rules else []
        lines += _details(topic, plan, measured)
        lines += [line for rule in rules for line in _paragraph(f"Rule: {rule}.", indent=4)]
        lines.append("")
    lines += [
        "Folds",
        *_folds(measured, splits),
        *_paragraph(f"Rule: {FOLD_RULE.format(n_folds=len(splits))}.", indent=4),
        "",
    ]
    if plan.warnings:
        lines += ["Warnings", *(line for text in plan.warnings for line in _paragraph(text)), ""]
    return "\n".join(lines)


def _paragraph(text: str, indent: int = 2) -> list[str]:
    margin = " " * indent
    text = text[0].upper() + text[1:] if indent > 2 else text
    return wrap(
        text,
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _data(measured: Fingerprint) -> Iterator[str]:
    cases = measured.cases
    labelled = [case for case in cases if case.labelled]
    subjects = {(case.cohort, case.subject) for case in cases}
    cohorts = ", ".join(f"{name} ({count})" for name, count in sorted(Counter(c.cohort for c in cases).items()))
    yield f"  {len(cases)} cases of {len(subjects)} subjects, {len(labelled)} labelled; cohorts: {cohorts}"
    sets = Counter(" + ".join(case.sequences) for case in cases)
    yield from _paragraph("sequences: " + ", ".join(f"{name} in {count}" for name, count in sets.most_common()))
    fields = Counter(case.field_strength_t for case in cases if case.field_strength_t is not None)
    if fields:
        yield "  field strength: " + ", ".join(f"{tesla:g} T in {count}" for tesla, count in sorted(fields.items()))
    yield "  native grids (in-plane x slices):"
    yield from _native_grids(cases)
    yield from _lesions_found(labelled)


def _native_grids(cases: Sequence[CaseFingerprint]) -> Iterator[str]:
    grids = Grids(cases)
    in_plane = np.sort(grids.in_plane_mm(), axis=1)
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, (plane, thickness) in enumerate(zip(in_plane, grids.slices_mm(), strict=True)):
        key = (*np.round(plane, 2).tolist(), round(float(thickness), 2), int(grids.slice_axis[index]))
        groups.setdefault(key, []).append(index)
    shown = sorted(groups.items(), key=lambda group: (-len(group[1]), repr(group[0])))
    for key, members in shown[:8]:
        *sizes, axis = key
        boxes = grids.box_shape[members]
        extent = np.median(boxes * grids.spacing_mm[members], axis=0)
        yield (
            f"    {mm([float(str(size)) for size in sizes])}, {PLANES[int(str(axis))]}: {len(members)} cases; brain of "
            f"{extent[2]:.0f} x {extent[1]:.0f} x {extent[0]:.0f} mm (left-right, back-front, feet-head)"
        )
    if len(shown) > 8:
        yield f"    and {len(shown) - 8} grids more"


def _lesions_found(labelled: Sequence[CaseFingerprint]) -> Iterator[str]:
    lesions = [(case, lesion) for case in labelled for lesion in case.lesions]
    with_lesions = sum(bool(case.lesions) for case in labelled)
    yield f"  {len(lesions)} lesions in {with_lesions} of {len(labelled)} labelled cases"
    if lesions:
        low, middle, high = np.percentile([lesion.diameter_mm for _, lesion in lesions], (10, 50, 90))
        yield (
            f"  lesion diameter (sphere of equal volume): {low:.1f} mm at the 10th percentile, {middle:.1f} mm at the "
            f"median, {high:.1f} mm at the 90th"
        )
        smallest_case, smallest = min(lesions, key=lambda one: (one[1].volume_mm3, one[0].case))
        single = sum(lesion.slices == 1 for _, lesion in lesions)
        yield from _paragraph(
            f"{single} lie in a single slice; the smallest is {describe_lesion(smallest_case, smallest.lesion)}"
        )


def _details(topic: str, plan: Plan, measured: Fingerprint) -> Iterator[str]:
    """What stands in the plan's figures beside its reasons."""
    if topic == "grid":
        directions = ", ".join(DIRECTIONS[axis] for axis in plan.transpose_forward)
        yield f"  voxels of {mm(plan.spacing_mm)} ({directions}); the coarsest axis comes first"
        yield f"  the median brain box is {' x '.join(map(str, plan.median_shape))} voxels there"
    if topic == "lesions" and plan.lost_lesions:
        cases = {case.case: case for case in measured.cases}
        for name in plan.lost_lesions:
            case, number = name.rsplit("#", 1)
            yield f"    lost: {describe_lesion(cases[case], int(number))}"
    if topic == "network":
        yield from _levels(plan.topology, plan)


def _levels(topology: Topology, plan: Plan) -> Iterator[str]:
    yield "    level  features  kernel     stride     feature map     voxel (mm)"
    spacing, shape = np.array(plan.spacing_mm), np.array(plan.patch_shape)
    for level, (features, kernel, stride) in enumerate(
        zip(topology.features_per_stage, topology.kernel_sizes, topology.strides, strict=True)
    ):
        spacing, shape = spacing * stride, shape // stride
        columns = (_by(kernel), _by(stride), _by(shape.tolist()), _by([f"{size:.3g}" for size in spacing]))
        yield "    {:<5}  {:<8}  {:<9}  {:<9}  {:<14}  {}".format(level, features, *columns)


def _by(values: Sequence[object]) -> str:
    return " x ".join(map(str, values))


def _folds(measured: Fingerprint, splits: Sequence[Fold]) -> Iterator[str]:
    cases = {case.case: case for case in measured.cases}
    for fold, split in enumerate(splits):
        held_out = [cases[name] for name in split["val"] if name in cases]
        subjects = {(case.cohort, case.subject) for case in held_out}
        lesions = sum(len(case.lesions) for case in held_out)
        yield (
            f"  fold {fold}: trains on {len(split['train'])} cases, is judged on {len(held_out)} "
            f"(subjects: {len(subjects)}, lesions: {lesions})"
        )
