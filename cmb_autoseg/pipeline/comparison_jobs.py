"""What is asked for, and everything that can be refused before the first cell is trained."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cmb_autoseg.comparison.case_scores import CellScores
from cmb_autoseg.comparison.cells import Cell, Comparison, grid_of_cells, read_comparison
from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.files import text_digest
from cmb_autoseg.locking import is_owned
from cmb_autoseg.pipeline.comparison_matrix import matrix_sequences, tell_unlabelled_left_out, that_have_cases
from cmb_autoseg.pipeline.comparison_members import depths, refuse_missing_members
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import Fold, RawDataset, kind_of_data
from cmb_autoseg.records import FoldModel, Plan
from cmb_autoseg.trainers.encoder_choice import choose_encoder, refuse_mixed_encoders
from cmb_autoseg.trainers.fold_cases import fold_cases, trained_sequences
from cmb_autoseg.trainers.pretrained_encoder import PretrainedEncoder
from cmb_autoseg.trainers.recipe import Recipe

__all__ = ["CompareSettings", "Job", "ask", "forget_recipes", "refuse_other", "steps_of"]

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
        singles: judge on each sequence alone, too.
        cross_sequence: train on each sequence alone, too, and test on each.
    """

    recipes: tuple[Recipe, ...]
    seeds: tuple[int, ...] = (0,)
    budgets: tuple[float, ...] = (1.0,)
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    reference: str | None = None
    subsets: bool = False
    singles: bool = True
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
    is_built_on: bool = False
    """Whether another recipe of the call needs its model, and not the scores alone."""

    def with_members(self, built_on: Mapping[str, str]) -> "Job":
        """The job that knows on which models it is built.

        Args:
            built_on: their digests by name, as `comparison_members.identities` gives them.
        """
        more = {f"model of {name}": identity for name, identity in built_on.items()}
        return replace(self, made_of={**self.made_of, **more})

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

    def differences(self, scores: CellScores) -> list[str]:
        """What scores are made of that this cell is not, in words."""
        return [name for name, value in self.made_of.items() if scores.made_of.get(name) != value]

    def refuse_change(self, scores: CellScores, path: Path) -> None:
        """Refuse scores of other settings than these.

        Raises:
            InputError: names what differs.
        """
        differs = self.differences(scores)
        if differs:
            raise InputError(
                f"{path}: made with another {differs[0]} than now; restore that, or move {path.parent.parent} away or "
                "choose another -o"
            )


def ask(
    raw: RawDataset, plan: Plan, folds: Sequence[Fold], settings: CompareSettings, out: Path
) -> tuple[list[Job], Comparison]:
    """The cells that are asked for, each looked through; what a recipe is built on comes before it.

    Raises:
        InputError: a setting is out of range or stands twice, an encoder is missing, a recipe finds no case, a
            recipe is built on one that is neither asked for nor there in all folds, or `out` holds a comparison of
            another dataset, plan or recipe.
        LeakageError: an encoder has seen somebody whom its fold is judged on.
    """
    _refuse_odd(settings)
    earlier = read_comparison(out) if out.is_dir() else None
    alone = matrix_sequences(plan, settings.recipes) if settings.cross_sequence else ()
    names = [recipe.name for recipe in settings.recipes]
    cells = grid_of_cells(names, settings.seeds, settings.budgets, settings.folds, alone)
    cells = that_have_cases(cells, raw, folds)
    comparison = Comparison(
        dataset=plan.dataset,
        plan=plan.digest,
        channels=plan.channels,
        reference=_reference(settings.reference, names, earlier),
        recipes={recipe.name: recipe.digest for recipe in settings.recipes},
        steps={recipe.name: steps_of(recipe) for recipe in settings.recipes},
        cells=cells,
        subsets=settings.subsets,
        n_folds=len(folds),
        data=kind_of_data((raw, case) for case in raw.cases if case.labelled),
    )
    refuse_other(comparison, earlier, out)
    recipes = {recipe.name: recipe for recipe in settings.recipes}
    encoders = {recipe.name: _encoders(raw, plan, folds, settings.folds, recipe) for recipe in settings.recipes}
    first = depths(settings.recipes)
    refuse_missing_members(plan, settings.recipes, settings.seeds, settings.budgets, settings.folds, len(folds), out)
    jobs = [
        _job(raw, plan, folds, cell, recipes[cell.recipe], encoders[cell.recipe][cell.fold])
        for cell in sorted(cells, key=lambda cell: first[cell.recipe])
    ]
    needed = {name for recipe in settings.recipes for name in recipe.members}
    jobs = [replace(job, is_built_on=job.cell.recipe in needed) for job in jobs]
    _warn_of_missing_lesions(raw, jobs)
    tell_unlabelled_left_out(raw, cells, settings.recipes)
    return jobs, comparison


def steps_of(recipe: Recipe) -> int:
    """Optimisation steps of a fold; 0 of a mixture, which has none."""
    return 0 if recipe.mixture is not None else recipe.epochs * recipe.steps_per_epoch


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
    from cmb_autoseg.trainers.patches.transfer import transfer_encoder

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
