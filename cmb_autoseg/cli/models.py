"""`cmb_models`: lists models, what they have learned from, and what they are for."""

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.cli._command import ExitCode, Parser, add_option, add_workspace, run_command
from cmb_autoseg.cli._help import epilog


def build_parser() -> Parser:
    parser = Parser(
        "cmb_models",
        "List the model of the package and those of the workspace: what each has learned from, its licence and use.",
        epilog(
            {
                "cmb_models": "all of them",
                "cmb_models -m /models/clinic": "one model folder",
                "cmb_models --json": "for programs",
            },
            writes="nothing",
            see="cmb_predict, which takes the model of the package where neither -m nor -d is given",
        ),
    )
    where = parser.add_argument_group("which models")
    add_option(where, "-m", "--model", type=Path, metavar="MODEL_DIR", help="this model folder alone")
    add_workspace(where)
    add_option(parser, "--json", action="store_true", help="print JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.model_choice import find_model
    from cmb_autoseg.inference.model_list import KnownModel, describe_model, known_models
    from cmb_autoseg.progress import log, report
    from cmb_autoseg.workspace import Workspace

    if args.model is not None:
        folder = find_model(args.model, None, None, None, None)
        given = shlex.quote(str(args.model))
        models = [KnownModel(folder.name, folder, f"-m {given}", given)]
    else:
        models = list(known_models(args.workspace))
    described = {}
    for model in models:
        try:
            facts = describe_model(model.folder)
            point = "" if facts["finalized"] else "--operating-point 0.5"
            described[model.name] = {
                "choice": f"{model.choice} {point}".strip(),
                "init": model.init if facts["family"] == "patches" else None,
                **facts,
            }
        except InputError as error:
            if args.model is not None:
                raise
            log(f"warning: {model.name}: left out: {error}")
    if args.json:
        print(json.dumps(described, indent=2))
        return ExitCode.DONE
    texts = ["\n".join([name, *(f"  {line}" for line in _lines(facts))]) for name, facts in described.items()]
    nothing = f"no trained model in {Workspace.find(args.workspace).root}; train one, or name a model folder with -m"
    report("\n\n".join(texts) or nothing)
    return ExitCode.DONE


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """One line a fact, the name of the fact first."""
    from cmb_autoseg.inference.training_range import spans

    sets, learned = facts["sequence_sets"], facts["learned_from"]
    yield _line("use", f"cmb_predict -i SCANS -o OUT {facts['choice']}".rstrip())
    if facts["init"] is not None:
        planned = "cmb_plan_preprocess -d DATASET --preset starter; " if facts["init"] == "starter" else ""
        preset = "-p starter " if facts["init"] == "starter" else ""
        yield _line("train on from it", f"{planned}cmb_train -d DATASET {preset}-f all --init {facts['init']}")
    yield _line("folder", facts["folder"])
    yield _line("sequences", ", ".join(facts["sequences"]))
    if sets:
        yield _line("alone or together", "; ".join(" + ".join(names) for names in sets))
    yield _line("voxel size", f"{spans(facts['voxel_mm'])} mm (x, y, z)")
    fields = ", ".join(f"{tesla:g}" for tesla in facts["field_strength_t"])
    yield _line("field strength", f"{fields} T" if fields else "not told")
    yield _line("brain mask", f"{_span(facts['brain_volume_ml'], '{:.0f}')} ml, with the skull where it was left on")
    yield _line(
        "signal to noise", f"{_span(facts['snr'], '{:.1f}')}, as in the scans" if facts["snr"] else "not measured"
    )
    counts = ", ".join(f"{count:,} {what}" for what, count in learned.items())
    yield _line("learned from", f"{facts['dataset']}{f': {counts}' if counts else ''}")
    if facts["began_with"]:
        yield _line("began with", ", ".join(facts["began_with"]))
    yield _line("folds", ", ".join(map(str, facts["folds"])))
    if not facts["finalized"]:
        yield _line("operating points", "none yet; cmb_finalize chooses them")
    yield _line("licence", facts["licence"] or "not told")
    yield _line("intended use", facts["intended_use"])


def _line(name: str, value: str) -> str:
    return f"{name + ':':<18} {value}"


def _span(pair: Sequence[float], form: str) -> str:
    low, high = (form.format(value) for value in pair)
    return low if low == high else f"{low}-{high}"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
