"""What the commands that predict share: what goes in, choosing a model, and telling what came of it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_preset,
    add_workspace,
    fold_list,
    positive_int,
)
from cmb_autoseg.cli._recipes import add_recipe

if TYPE_CHECKING:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.inference.layouts import CaseResult
    from cmb_autoseg.inference.run import ModelChoice
    from cmb_autoseg.records import Case

__all__ = ["Found", "add_choices", "add_input", "add_model", "chosen_model", "find_scans", "input_path", "tell_results"]

ROLES = ("swi", "gre_mag", "qsm")


def add_input(group: argparse._ActionsContainer) -> None:
    """`-i`, and what chooses or names scans in it."""
    add_option(
        group,
        "-i",
        required=True,
        metavar="IN",
        help="a NIfTI file, a folder of them (CASE_0000.nii.gz or any names), a BIDS root, a DICOM folder or a card",
    )
    add_choices(group)
    add_option(group, "--role", choices=ROLES, help="what scans are, whatever their names say; not with a card or BIDS")
    add_option(group, "--split", choices=("train", "test"), help="of a card, take only these cases (default: all)")


def input_path(text: str, out: Path) -> Path:
    """What `-i` names; imports next to nothing, so that a mistyped path is told at once.

    Raises:
        InputError: nothing, or results would be written among the scans.
    """
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.input_kinds import WHAT_IN_MAY_BE

    if out.is_file():
        raise InputError(f"-o {out}: is a file; name a folder")
    if not text.strip():
        raise InputError("-i: found nothing, expected a scan, a folder of scans, a DICOM folder or a card")
    source = Path(text)
    if source.is_dir() and source.resolve() == out.resolve():
        raise InputError(f"-o {out}: holds the scans, and results among them would be taken for scans; choose another")
    a_path = source.suffix != "" or source.parent != Path()  # a bare word may be a card of the package
    if a_path and "=" not in text and not source.exists():
        raise InputError(f"-i {source}: no such file or folder; {WHAT_IN_MAY_BE}")
    return source


@dataclass(frozen=True)
class Found:
    """The scans that `-i` names, and how the model wants them."""

    cases: "list[Case]"
    failures: "list[InputFailure]"
    single: bool
    """One file, which, if bad, is bad input and not a cohort with a failure."""


def find_scans(args: argparse.Namespace, source: Path, model: "ModelChoice", scratch: Path) -> Found:
    """The cases that the options of `add_input` and `add_preparation` name, for a model.

    Args:
        args: parsed.
        source: as `input_path` gives it.
        model: as `chosen_model` gives it.
        scratch: a folder for volumes converted from DICOM.

    Raises:
        InputError: no usable scan, or results would be written among a BIDS dataset's.
    """
    from cmb_autoseg.cli._preparation import preparation
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.inputs import InputSettings, find_cases, is_single_file, refuse_raw_data
    from cmb_autoseg.inference.model_folder import trained_plan
    from cmb_autoseg.preprocessing.settings import needed_roles, prepared_by
    from cmb_autoseg.records import Role
    from cmb_autoseg.workspace import Workspace

    refuse_raw_data(args.o, "-o")
    workspace = Workspace.find(args.workspace)
    wanted = preparation(args, workspace)
    settings = InputSettings(
        roles=needed_roles(trained_plan(model.folder).channels, wanted),
        echo=args.echo,
        role=Role(args.role) if args.role else None,
        prefer=tuple(args.prefer or ()),
        scratch=scratch,
        workspace=workspace,
    )
    cases, failures = find_cases(source, settings)
    if args.split is not None:
        cases = [case for case in cases if case.split == args.split]
    cases = prepared_by(wanted, cases)
    if not cases and (args.split is not None or not failures):
        raise InputError(f"-i {args.i}: no usable case{f' of split {args.split}' if args.split else ''} in it")
    return Found(cases, failures, is_single_file(source))


def add_choices(group: argparse._ActionsContainer) -> None:
    """Options that choose among several files of one sequence."""
    add_option(group, "--echo", type=positive_int, metavar="N", help="which echo of multi-echo scans, from 1")
    add_option(
        group,
        "--prefer",
        nargs="+",
        metavar="TAG",
        help="of several acquisitions or runs in BIDS, take those with this in their names: acq-hires, run-2",
    )


def add_model(parser: Parser) -> None:
    """Options that name the model, and where it runs."""
    model = parser.add_argument_group("model (by default the starter model of the package; -d or -m name others)")
    add_dataset(model, required=False)
    add_recipe(model, "recipe of the model: a name or a YAML file, with -d (default: supervised)")
    add_preset(model)
    add_option(model, "-m", "--model", dest="m", type=Path, metavar="MODEL_DIR", help="a model folder instead of -d")
    add_option(model, "-f", nargs="+", metavar="FOLD", help="folds of the ensemble (default: all trained ones)")
    add_option(
        model,
        "--operating-point",
        default="counting",
        metavar="POINT",
        help="counting, screening, youden, or a probability like 0.35 (default: counting)",
    )
    add_option(
        model, "--trust-model", action="store_true", help="load a model that may run foreign code (default: refuse it)"
    )
    run = parser.add_argument_group("run")
    add_device(run)
    add_workspace(run)


def chosen_model(args: argparse.Namespace, refuse: Callable[[Path], None] | None = None) -> "ModelChoice":
    """The model that the options name.

    Args:
        args: of the command line.
        refuse: raises where the folder holds a model that the command has no use for.

    Raises:
        InputError: there is no such model, fold or operating point.
    """
    from cmb_autoseg.inference.model_choice import find_model

    folds = fold_list(args.f or ["all"])
    folder = find_model(args.m, args.d, args.r, args.preset, args.workspace, args.f)

    from cmb_autoseg.inference.model_folder import operating_point
    from cmb_autoseg.inference.run import ModelChoice

    if refuse is not None:
        refuse(folder)
    point = operating_point(folder, args.operating_point)
    return ModelChoice(folder, folds, point, args.trust_model)


def tell_results(
    results: "Sequence[CaseResult]",
    failed: "Sequence[InputFailure]",
    out: Path,
    written: str = "tables, masks and pictures",
) -> ExitCode:
    """Print what was found, warnings and failures, and where it was written; the exit code of the run."""
    from cmb_autoseg.progress import log, report

    for result in results:
        earlier = "" if result.seconds else " (predicted by an earlier run)"
        found = len(result.table.lesions)
        used = f" ({', '.join(result.sequences_used)})" if result.sequences_used else ""
        report(f"{result.table.case}: {found} lesion{'' if found == 1 else 's'}{used}{earlier}")
        for warning in result.warnings:
            log(f"warning: {result.table.case}: {warning}")
    for failure in failed:
        log(f"failed: {failure.case}: {failure.reason.removeprefix(f'{failure.case}: ')}")
    if results or failed:
        report(f"{len(results)} of {len(results) + len(failed)} cases predicted; {written}: {out}")
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE
