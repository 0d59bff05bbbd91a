"""What is asked for, and everything that can be refused before the first cell is trained."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.comparison.case_scores import CellScores
from cmb_autoseg.comparison.cells import Cell, Comparison, grid_of_cells, read_comparison
from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.files import text_digest
from cmb_autoseg.locking import is_owned
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import Fold, RawDataset, kind_of_data
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, FoldModel, Plan, Role
from cmb_autoseg.trainers.encoder_choice import PretrainedEncoder, choose_encoder, refuse_mixed_encoders
from cmb_autoseg.trainers.fold_cases import fold_cases, trained_sequences
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["CompareSettings", "Job", "ask", "forget_recipes", "refuse_other"]

RANDOM = "random"
"""What a cell without an encoder says in place of the weights' digest."""


@dataclass(frozen=True)
class CompareSettings:
    """What the user chose.

    Attributes:
        recipes: in the order of the tables.
        seeds: of training.
        budgets: shares of the labelled training subjects.
        folds: from 0.
        reference: name of the recipe that the others are tested against; None for the first.
        subsets: judge on subsets of the sequences, too.
        cross_sequence: train on each sequence alone, too, and test on each.
    """

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...] = (0,)
    budgets: tuple[float, ...] = (1.0,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    reference: str | None = None
    subsets: bool = False
    cross_sequence: bool = False


@dataclass(frozen=True)
class Job:
    """One cell with all that it takes to train it."""

    cell: Cell
    recipe: Recipe
    """Of a cell of the cross-sequence matrix: with its one sequence."""
    validation: frozenset[str]
    """Names of the cases that it is judged on."""
    made_of: dict[str, str]
    """All that decides its scores, in words and digests."""

    def refuse_other_model(self, record: FoldModel, judged: Collection[str], folder: Path) -> None:
        """Refuse to judge a trained fold that is not this cell's, whenever it was trained.

        Args:
            record: of the fold.
            judged: `cohort/subject` of everyone whom the cell is judged on.
            folder: of the model.

        Raises:
            InputError: it learned from other cases, by another budget or from another encoder.
            LeakageError: it learned from somebody whom it would be judged on.
        """
        found = {
            "encoder": record.encoder.weights if record.encoder is not None else RANDOM,
            "set of training cases": _digest_of((*record.training_cases, *record.unlabelled_cases)),
            "budget": f"{record.budget:g}",
        }
        wanted = {**self.made_of, "budget": f"{self.cell.budget:g}"}
        cure = f"move {folder} away, so that cmb_compare trains it anew"
        differs = next((name for name, value in found.items() if wanted[name] != value), None)
        if differs is not None:
            raise InputError(f"{folder}: fold {record.fold} was trained with another {differs} than now; {cure}")
        leaked = sorted({*record.training_subjects} & {*judged})
        if leaked:
            raise LeakageError(
                f"{folder}: fold {record.fold} has learned from {', '.join(leaked)}, on whom it would be judged; {cure}"
            )

    def refuse_change(self, scores: CellScores, path: Path) -> None:
        """Refuse scores of other settings than these.

        Raises:
            InputError: names what differs.
        """
        differs = [name for name, value in self.made_of.items() if scores.made_of.get(name) != value]
        if differs:
            raise InputError(
                f"{path}: made with another {differs[0]} than now; restore that, or move {path.parent.parent} away or "
                "choose another -o"
            )


def ask(
    raw: RawDataset, plan: Plan, folds: Sequence[Fold], settings: CompareSettings, out: Path
) -> tuple[list[Job], Comparison]:
    """The cells that are asked for, each looked through.

    Raises:
        InputError: a setting is out of range or stands twice, an encoder is missing, a recipe finds no case, or
            `out` holds a comparison of another dataset, plan or recipe.
        LeakageError: an encoder has seen somebody whom its fold is judged on.
    """
    _refuse_odd(settings)
    earlier = read_comparison(out) if out.is_dir() else None
    alone = _alone(plan, settings.recipes) if settings.cross_sequence else ()
    names = [recipe.name for recipe in settings.recipes]
    cells = grid_of_cells(names, settings.seeds, settings.budgets, settings.folds, alone)
    cells = _that_have_cases(cells, raw, folds)
    comparison = Comparison(
        dataset=plan.dataset,
        plan=plan.digest,
        channels=plan.channels,
        reference=_reference(settings.reference, names, earlier),
        recipes={recipe.name: recipe.digest for recipe in settings.recipes},
        steps={recipe.name: recipe.epochs * recipe.steps_per_epoch for recipe in settings.recipes},
        cells=cells,
        subsets=settings.subsets,
        data=kind_of_data((raw, case) for case in raw.cases if case.labelled),
    )
    refuse_other(comparison, earlier, out)
    recipes = {recipe.name: recipe for recipe in settings.recipes}
    encoders = {recipe.name: _encoders(raw, plan, folds, settings.folds, recipe) for recipe in settings.recipes}
    jobs = [_job(raw, plan, folds, cell, recipes[cell.recipe], encoders[cell.recipe][cell.fold]) for cell in cells]
    _warn_of_missing_lesions(raw, jobs)
    _tell_unlabelled_left_out(raw, cells, settings.recipes)
    return jobs, comparison


def _tell_unlabelled_left_out(raw: RawDataset, cells: Sequence[Cell], recipes: Sequence[Recipe]) -> None:
    """Say how many unlabelled cases teach nothing in the matrix, one line a sequence."""
    learners = ", ".join(recipe.name for recipe in recipes if recipe.semi_supervised is not None)
    unlabelled = [case for case in raw.training_cases() if not case.labelled]
    for role in dict.fromkeys(cell.trained_on for cell in cells):
        lacking = sum(role not in case.sequences for case in unlabelled)
        if role is not None and learners and lacking:
            log(
                f"--cross-sequence: {lacking} of {len(unlabelled)} unlabelled cases have no {role} and are left out "
                f"where {learners} is trained on {role} alone"
            )


def _warn_of_missing_lesions(raw: RawDataset, jobs: Sequence[Job]) -> None:
    judged = frozenset[str]().union(*(job.validation for job in jobs))
    if not any(case.n_lesions for case in raw.cases if case.name in judged):
        log(
            "warning: no case that these folds are judged on has a lesion, so sensitivity, F1 and AUC stay undefined; "
            "take other folds or all"
        )


def _refuse_odd(settings: CompareSettings) -> None:
    for flag, values in (
        ("-r", [recipe.name for recipe in settings.recipes]),
        ("--seeds", [str(seed) for seed in settings.seeds]),
        ("--budgets", [f"{budget:g}" for budget in settings.budgets]),
    ):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            cure = "give a changed recipe a name of its own" if flag == "-r" else "name it once"
            if flag == "--budgets" and len({*settings.budgets}) == len(settings.budgets):
                twice, cure = f"{twice} (to six digits, which name the cells)", "leave one out"
            raise InputError(f"{flag}: found {twice} twice; {cure}")
    outside = next((budget for budget in settings.budgets if not 0 < budget <= 1), None)
    if outside is not None:
        raise InputError(
            f"--budgets: found {outside:g}, legal are shares over 0 and at most 1; give 0.25 for a quarter"
        )


def _reference(chosen: str | None, names: Sequence[str], earlier: Comparison | None) -> str:
    """The chosen recipe, else the one that earlier calls tested against, else the first."""
    if chosen is None:
        return names[0] if earlier is None else earlier.reference
    known = [*names, *(earlier.recipes if earlier is not None else ())]
    if chosen not in known:
        raise InputError(f"--reference {chosen}: not among the recipes; choose {', '.join(dict.fromkeys(known))}")
    return chosen


def _alone(plan: Plan, recipes: Sequence[Recipe]) -> tuple[Role, ...]:
    """The sequences of the cross-sequence matrix.

    Raises:
        InputError: there is only one, or a recipe has sequences of its own.
    """
    visible = tuple(role for role in plan.channels if role in SUSCEPTIBILITY_ROLES)
    if len(visible) < 2:
        raise InputError(
            f"--cross-sequence: {plan.dataset} has {', '.join(visible)} alone of the sequences in which microbleeds "
            "show, and the matrix needs two; leave the option out"
        )
    own = next((recipe for recipe in recipes if recipe.sequences is not None), None)
    if own is not None:
        raise InputError(
            f"--cross-sequence: recipe {own.name} has sequences of its own, which this option replaces; leave one out"
        )
    return visible


def refuse_other(asked: Comparison, earlier: Comparison | None, out: Path) -> None:
    """Refuse a folder whose cells cannot be compared with these; what was only asked for there binds no recipe.

    Raises:
        InputError: another dataset, plan or recipe, or a budget whose cells are called like those of another one.
    """
    if out.is_file():
        raise InputError(f"-o {out}: is a file; name a folder")
    if earlier is None:
        return
    cure = "choose another -o, or move that folder away"
    if earlier.dataset != asked.dataset:
        raise InputError(f"-o {out}: holds a comparison on {earlier.dataset}, not on {asked.dataset}; {cure}")
    if earlier.plan != asked.plan:
        raise InputError(f"-o {out}: holds a comparison by another plan of {asked.dataset}; {cure}")
    for name, digest in asked.recipes.items():
        if earlier.recipes.get(name, digest) != digest and _is_begun(out, name):
            raise InputError(
                f"-o {out}: recipe {name} was compared there with other settings ({earlier.steps[name]} steps, now "
                f"{asked.steps[name]}); {cure}, or give the changed recipe a name of its own"
            )

    budgets = {cell.name: cell.budget for cell in earlier.cells}
    for cell in asked.cells:
        known = budgets.get(cell.name, cell.budget)
        if known != cell.budget:
            raise InputError(
                f"--budgets: found {cell.budget!r}, whose cells are called like those of {known!r} in "
                f"{out}; give {known!r}"
            )


def forget_recipes(asked: Comparison, earlier: Comparison, out: Path) -> None:
    """Clear the settings of models that never came to a checkpoint, where a recipe is another one now."""
    for name, digest in asked.recipes.items():
        if earlier.recipes.get(name, digest) != digest and not _is_begun(out, name):
            for plans in (out / "models").glob(f"*/CMBTrainer__{name}-seed*/plans.json"):
                plans.unlink()


def _is_begun(out: Path, recipe: str) -> bool:
    """Whether a cell of a recipe is finished, has a checkpoint, or is another run's at this moment."""
    return (
        any((out / "scores").glob(f"{recipe}-seed*.json"))
        or any((out / "models").glob(f"*/CMBTrainer__{recipe}-seed*/fold_*/checkpoint_*.pth"))
        or any(is_owned(folder) for folder in (out / "running").glob(f"{recipe}-seed*"))
    )


def _that_have_cases(cells: Sequence[Cell], raw: RawDataset, folds: Sequence[Fold]) -> tuple[Cell, ...]:
    """All cells but those of the matrix whose fold has no case of their sequence, which is told."""
    sequences = {case.name: case.sequences for case in raw.cases}
    empty: set[tuple[Role, int]] = set()
    for role, fold in dict.fromkeys((cell.trained_on, cell.fold) for cell in cells):
        parts = {"training": folds[fold]["train"], "validation": folds[fold]["val"]}
        lacks = [part for part, names in parts.items() if not any(role in sequences[name] for name in names)]
        if role is not None and lacks:
            empty.add((role, fold))
            log(
                f"warning: --cross-sequence: fold {fold} has no {' and no '.join(lacks)} case with {role}, so nothing "
                f"is trained on {role} there"
            )
    return tuple(cell for cell in cells if (cell.trained_on, cell.fold) not in empty)


def _encoders(
    raw: RawDataset, plan: Plan, folds: Sequence[Fold], asked: Sequence[int], recipe: Recipe
) -> dict[int, str]:
    """Digest of the weights that each of the folds begins with; that they fit, and one another, is tried out."""
    chosen = {fold: choose_encoder(raw, folds, fold, recipe, None) for fold in asked}
    refuse_mixed_encoders(chosen)
    for encoder in chosen.values():
        if encoder is not None:
            _refuse_unfit(encoder, plan, recipe)
    return {fold: RANDOM if encoder is None else encoder.record.weights for fold, encoder in chosen.items()}


def _refuse_unfit(encoder: PretrainedEncoder, plan: Plan, recipe: Recipe) -> None:
    import torch

    from cmb_autoseg.networks.residual_unet import ResidualEncoder
    from cmb_autoseg.trainers.transfer import transfer_encoder

    fitted = recipe.applied_to(plan)
    with torch.device("meta"):
        network = ResidualEncoder(len(plan.channels), **fitted.topology.model_dump())
    transfer_encoder(network, fitted, encoder.path, encoder.weights, encoder.record)


def _job(raw: RawDataset, plan: Plan, folds: Sequence[Fold], cell: Cell, recipe: Recipe, encoder: str) -> Job:
    if cell.trained_on is not None:
        recipe = recipe.model_copy(update={"sequences": (cell.trained_on,)})
    trained_sequences(plan, recipe)
    cases = fold_cases(raw, plan, folds, cell.fold, recipe, cell.budget, cell.seed)
    learned = [case.name for case in (*cases.training, *cases.unlabelled)]
    validation = frozenset(folds[cell.fold]["val"])
    made_of = {
        "dataset": plan.dataset,
        "plan": plan.digest,
        "recipe": recipe.digest,
        "encoder": encoder,
        "set of training cases": _digest_of(learned),
        "set of validation cases": _digest_of(validation),
    }
    return Job(cell, recipe, validation, made_of)


def _digest_of(names: Iterable[str]) -> str:
    """Of a set of cases; their order plays no part."""
    return text_digest(" ".join(sorted(names)))
