"""`cmb_plan_preprocess`: from cards or a raw dataset to a plan, folds and network inputs."""

import argparse
from collections.abc import Sequence

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_seed,
    add_workspace,
    positive_float,
    resolve_device,
    run_command,
    workspace_words,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._preparation import add_preparation, preparation
from cmb_autoseg.workspace import PRESETS, Workspace

MEMORY_GB = {"cuda": 8.0, "cpu": 2.0}


def build_parser() -> Parser:
    parser = Parser(
        "cmb_plan_preprocess",
        "Measure a dataset, choose channels, grid, patch and network for it, deal folds, and preprocess it.",
        epilog(
            {
                "cmb_plan_preprocess -d 501": "a converted dataset",
                "cmb_plan_preprocess -d 501 -c my_card.yaml valdo=/data/VALDO/Task2": "convert these cards first",
                "cmb_plan_preprocess -d 501 -gpu_memory_target 24": "for a card of 24 GB",
                "cmb_plan_preprocess -d 501 --folds 10": "for ten-fold instead of five-fold cross-validation",
                "cmb_plan_preprocess -d 501 --explain": "why this grid, patch and network; plans first where need be",
            },
            writes="WORKSPACE/preprocessed/DatasetNNN_NAME/: dataset_fingerprint.json, PRESET_plan.json with its\n"
            "reasons, PRESET_plan.txt in plain words, PRESET_3d/ with the network's inputs; splits_final.json,\n"
            "the folds, in WORKSPACE/raw/DatasetNNN_NAME/ and a copy here; WORKSPACE/logs/",
            some_failed="with -c: some cases were left out, exclusions.tsv says which and why; the rest is planned",
            see="cmb_train, which comes next",
        ),
    )
    where = parser.add_argument_group("input and output")
    add_dataset(where)
    add_option(
        where, "-c", nargs="+", metavar="CARD[=ROOT]", help="convert these cards first: paths or names of shipped ones"
    )
    add_workspace(where)
    planning = parser.add_argument_group("planning")
    add_option(
        planning,
        "--preset",
        choices=PRESETS,
        default="adaptive",
        help="adaptive: from the fingerprint, never loses a lesion (default); s0: 1 mm isotropic, 64^3 patches; "
        "starter: voxels of the starter model, for cmb_train --init starter",
    )
    add_option(
        planning,
        "-gpu_memory_target",
        type=positive_float,
        metavar="GB",
        help="accelerator memory that training may take (default: 8 with a GPU)",
    )
    add_option(
        planning, "--allow-lesion-loss", action="store_true", help="accept lesions that the grid loses or merges"
    )
    add_option(
        planning,
        "--explain",
        action="store_true",
        help="say in plain words what was found, what was chosen and why; an up-to-date plan is not made again",
    )
    add_option(
        planning,
        "--folds",
        type=_number_of_folds,
        metavar="N",
        help="parts for cross-validation, 2 to 20, dealt once (default: 5, or what the dataset has)",
    )
    run = parser.add_argument_group("run")
    add_device(run)
    add_seed(run)
    add_preparation(parser)
    return parser


def _number_of_folds(text: str) -> int:
    """An argparse type: as `raw_dataset.LEGAL_N_FOLDS`."""
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if not 2 <= number <= 20:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 2 to 20")
    return number


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.files import writable_folder
    from cmb_autoseg.progress import report

    workspace = Workspace.find(args.workspace)
    code = ExitCode.DONE
    if args.c:
        from cmb_autoseg.cli.convert import convert_cards

        folders, code = convert_cards(args.c, args.d, workspace, preparation(args, workspace))
    else:
        folders = workspace.dataset(args.d)
    if args.explain and not args.c:
        from cmb_autoseg.planners.stored import stored_explanation

        text = stored_explanation(folders, args.preset, args.device, args.gpu_memory_target, args.folds)
        if text is not None:
            report(text)
            return code
    writable_folder(folders.workspace)
    device = resolve_device(args.device)

    from cmb_autoseg.pipeline.planning import plan_preprocess
    from cmb_autoseg.planners import PlanSettings
    from cmb_autoseg.raw_dataset import read_raw_dataset

    settings = PlanSettings(args.preset, device, args.gpu_memory_target or MEMORY_GB[device], args.allow_lesion_loss)
    plan = plan_preprocess(folders, settings, args.seed, args.folds)
    if args.explain:
        report(folders.plan(plan.preset, ".txt").read_text(encoding="utf-8"))
    else:
        lesions = f"{plan.lesions_before} lesions before, {plan.lesions_after} after"
        report(f"{plan.dataset}, preset {plan.preset}: {lesions}")
        for reason in plan.reasons:
            report(f"  {reason.text}")
    report(f"plan: {folders.plan(plan.preset)}")
    slow = "; on a CPU that takes days, and -r demo minutes" if plan.device == "cpu" else ""
    chosen = f"-d {folders.number}{'' if plan.preset == 'adaptive' else f' -p {plan.preset}'}"
    begun = " --init starter" if plan.preset == "starter" else ""
    where = workspace_words(args.workspace)
    report(f"next: cmb_train {chosen} -f all{begun}{where}{slow}")
    unlabelled = sum(not case.labelled for case in read_raw_dataset(folders).training_cases())
    if unlabelled:
        report(f"or first: cmb_pretrain {chosen}{where}, for an encoder from {unlabelled} unlabelled cases")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
