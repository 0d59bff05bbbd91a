"""Whom an encoder may learn from, and their network inputs by the first dataset's plan."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.leakage import held_out_subjects, subject_of
from cmb_autoseg.locking import LONGEST_WAIT_S, is_owned, own_folder
from cmb_autoseg.pipeline.network_inputs import refuse_while_read, unwritten, write_network_inputs
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import Fold, RawCase, RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Plan, Role

if TYPE_CHECKING:
    from cmb_autoseg.pretraining.patches import PretrainingCase

__all__ = ["PretrainingCases", "choose_cases", "open_cases", "write_inputs"]

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class PretrainingCases:
    """The cases of one encoder."""

    chosen: tuple[tuple[RawDataset, tuple[RawCase, ...]], ...]
    """By dataset, in the order in which the user named them."""
    judged: tuple[RawCase, ...]
    """Their subject is held out."""
    blind: tuple[RawCase, ...]
    """Without one of `visible`."""
    visible: tuple[Role, ...]
    """Sequences that are learned from and show microbleeds."""
    fold: int | None

    @property
    def count(self) -> int:
        return sum(len(cases) for _, cases in self.chosen)

    @property
    def subjects(self) -> tuple[str, ...]:
        """`cohort/subject`, sorted."""
        return tuple(sorted({subject_of(case) for _, cases in self.chosen for case in cases}))

    def in_words(self) -> str:
        """Who is learned from, and who is left out and why."""
        parts = ", ".join(f"{len(cases)} of {raw.folders.name}" for raw, cases in self.chosen)
        left_out = self.left_out()
        return (
            f"learns from {_counted(self.count, 'case')} of {_counted(len(self.subjects), 'subject')} ({parts})"
            f"{f'; left out: {left_out}' if left_out else ''}"
        )

    def left_out(self) -> str:
        """How many cases of how many subjects are not learned from, and why; empty where there are none."""
        judged = "labelled" if self.fold is None else f"in the validation of fold {self.fold}"
        reasons = ((f"{judged} or tested", self.judged), (f"without {' or '.join(self.visible)}", self.blind))
        return ", ".join(
            f"{_counted(len(cases), 'case')} of {_counted(len({*map(subject_of, cases)}), 'subject')} ({why})"
            for why, cases in reasons
            if cases
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def choose_cases(
    datasets: Sequence[RawDataset], folds: Sequence[Fold], fold: int | None, sequences: Collection[Role]
) -> PretrainingCases:
    """Unlabelled cases of all datasets; with a fold the first dataset's labelled training cases of it, too.

    Nobody who is held out in the first dataset's fold (without one: in any fold), or declared as test in any
    of the datasets, is learned from. Labelled cases of the further datasets are left alone, and without a fold so
    are all scans of their labelled subjects.

    Args:
        datasets: the first one's folds count.
        folds: of the first dataset.
        fold: None for an encoder that serves all folds.
        sequences: that are learned from.
    """
    held_out = held_out_subjects(datasets[0], folds, fold).union(
        *(held_out_subjects(further, [], None) if fold is None else _test_subjects(further) for further in datasets[1:])
    )
    training = set() if fold is None else set(folds[fold]["train"])
    visible = tuple(role for role in SUSCEPTIBILITY_ROLES if role in sequences)
    chosen, judged, blind = [], [], []
    for dataset in datasets:
        wanted = [case for case in dataset.training_cases() if not case.labelled or dataset is datasets[0]]
        allowed = [
            case for case in wanted if subject_of(case) not in held_out and (not case.labelled or case.name in training)
        ]
        judged += [case for case in wanted if case not in allowed]
        blind += [case for case in allowed if not set(visible) & set(case.sequences)]
        chosen.append((dataset, tuple(case for case in allowed if set(visible) & set(case.sequences))))
    return PretrainingCases(tuple(chosen), tuple(judged), tuple(blind), visible, fold)


def _test_subjects(dataset: RawDataset) -> frozenset[str]:
    return frozenset(subject_of(case) for case in dataset.cases if case.split == "test")


def write_inputs(cases: Sequence[PretrainingCases], plan: Plan, writes: bool) -> None:
    """Network inputs of the further datasets' cases by the first one's plan, where they are not there yet.

    Args:
        cases: of all encoders that are to be learned.
        plan: of the first dataset.
        writes: False in a process that waits for another one to write them.

    Raises:
        OutputError: another process writes or reads them.
    """
    for number, (dataset, _) in enumerate(cases[0].chosen[1:], 1):
        folder, origin = _inputs_folder(dataset, plan), _origin(dataset, plan)
        wanted = list({case.name: case for each in cases for case in each.chosen[number][1]}.values())
        if not writes:
            while unwritten(wanted, folder, origin):
                time.sleep(SECONDS_BETWEEN_LOOKS)
        elif unwritten(wanted, folder, origin):
            base = dataset.folders.preprocessed
            doing = is_owned(base)
            if doing:
                log(f"{dataset.folders.name}: waits for {doing}")
            with own_folder(base, "cmb_pretrain", wait_s=LONGEST_WAIT_S):
                write_network_inputs(dataset, plan, wanted, folder, origin, partial(refuse_while_read, dataset.folders))


def _inputs_folder(dataset: RawDataset, plan: Plan) -> Path:
    if dataset.folders.name == plan.dataset:
        return dataset.folders.inputs(plan.preset)
    return dataset.folders.inputs_for(plan.dataset, plan.preset)


def _origin(dataset: RawDataset, plan: Plan) -> dict[str, str]:
    return {"plan": plan.digest, "raw": dataset.digest}


def open_cases(cases: PretrainingCases, plan: Plan, sequences: Collection[Role]) -> "list[PretrainingCase]":
    """Open the network inputs without reading their voxels; other sequences than these are blank.

    Call it inside `nnunet_environment`.

    Raises:
        InputError: one of them is damaged.
    """
    from cmb_autoseg.pretraining.patches import PretrainingCase
    from cmb_autoseg.trainers.patches.patch_data import load_source

    blank = [channel for channel, role in enumerate(plan.channels) if role not in sequences]
    opened = []
    for dataset, chosen in cases.chosen:
        folder = _inputs_folder(dataset, plan)
        try:
            source = load_source(folder, [case.name for case in chosen])
        except InputError as error:
            if dataset.folders.name == plan.dataset:
                raise
            raise InputError(f"{str(error).partition('; ')[0]}; delete the file and run cmb_pretrain again") from None
        for anchors in source.anchors:
            image = source.images[anchors.name]
            name = f"{dataset.folders.name}/{anchors.name}"
            shown = _Blanked(image, blank) if blank else image
            opened.append(PretrainingCase(name, shown, anchors.brain, tuple(blank)))
    return opened


class _Blanked:
    """An image that can be sliced, in which some channels are as if nobody had measured them."""

    def __init__(self, image: Any, blank: Sequence[int]) -> None:
        self._image, self._blank = image, list(blank)
        self.shape = image.shape

    def __getitem__(self, place: tuple[slice, ...]) -> Any:
        """A box, by a tuple of four slices."""
        values = self._image[place].copy()
        values[[channel in self._blank for channel in range(self.shape[0])[place[0]]]] = 0
        return values
