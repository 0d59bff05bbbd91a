"""Reading cards: from what stands on the command line to a checked `Card`.

No image is looked at. Every mistake in a card is one line that names the file, the line, the field and
the legal values.
"""

import difflib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from cmb_autoseg.dataset_conversion.card import Card, Meta, MetaRule
from cmb_autoseg.errors import CardError
from cmb_autoseg.files import text_digest
from cmb_autoseg.records import DERIVED_ROLES, Role

__all__ = ["OpenCard", "parse_card", "shipped_cards"]

CARDS = Path(__file__).parent / "cards"
SIMULATION = "truth/simulation.json"
"""What every folder that `cmb_simulate` made has."""


@dataclass(frozen=True)
class OpenCard:
    """A card with the file that it came from and where its cohort is."""

    card: Card
    path: Path
    chosen_root: Path | None = None
    """From CARD=ROOT; overrides the card's own root."""

    def error(self, field: str, problem: str) -> CardError:
        return CardError(f"{self.path}: {field}: {problem}")

    @property
    def root(self) -> Path:
        """The cohort's folder, with environment variables expanded.

        Raises:
            CardError: a variable is not set, or there is no such folder.
        """
        if self.chosen_root is not None:
            root = self.chosen_root
        else:
            text = os.path.expandvars(self.card.root)
            unset = re.search(r"\$\{?(\w+)", text)
            if unset:
                raise self.error(
                    "root", f"${unset[1]} is not set; set it, or say where the files are with CARD=ROOT on the command"
                )
            root = self.path.parent / Path(text).expanduser()
        if not _there(root, Path.is_dir):
            raise self.error("root", f"no folder {root}; correct it, or say CARD=ROOT on the command")
        return root.absolute()

    @property
    def digest(self) -> str:
        # Of real cohorts as it was before cards had the key.
        unset = None if self.card.simulated else {"simulated"}
        return text_digest(self.card.model_dump_json(exclude=unset))

    @property
    def is_simulated(self) -> bool:
        """Whether the card says so, or the cohort's folder does, whatever the cohort is called."""
        return self.card.simulated or self._has_truth

    @property
    def _has_truth(self) -> bool:
        """Whether `cmb_simulate` made the cohort's folder."""
        return _there(self.root / SIMULATION, Path.is_file)

    def warnings(self) -> list[str]:
        """A card that `cmb_simulate` wrote, and that is now used for scans from elsewhere."""
        if self.chosen_root is None or not self.card.simulated or self._has_truth:
            return []
        return [
            f"{self.path} says simulated: true, and {self.chosen_root} has no {SIMULATION}: figures will be called "
            "simulated; take the line out of the card where these are scans of real people"
        ]


def shipped_cards() -> dict[str, Path]:
    """The cards that come with the tool, by name."""
    return {path.stem: path for path in sorted(CARDS.glob("*.yaml"))}


def parse_card(argument: str) -> OpenCard:
    """Read and check a card given as on the command line: `CARD` or `CARD=ROOT`.

    Args:
        argument: path of a YAML file or name of a shipped card, perhaps with `=ROOT`.

    Raises:
        CardError: no such card, YAML error, unknown key, illegal value; names file, line and field.
    """
    path, root = _split_argument(argument)
    text = _read_text(path)
    raw = _with_parents(_parse_yaml(text, path), path, ())
    try:
        return OpenCard(Card.model_validate(raw), path, root)
    except ValidationError as error:
        raise CardError(_explain(error, path, text)) from None
    except RecursionError:
        raise CardError(f"{path}: an anchor refers to itself; write the values out") from None


def _split_argument(argument: str) -> tuple[Path, Path | None]:
    whole = _find_card(argument)
    if whole is not None:
        return whole, None
    for equals in (match.start() for match in re.finditer("=", argument)):
        path = _find_card(argument[:equals])
        if path is not None:
            root = argument[equals + 1 :]
            if not root:
                raise CardError(f"{argument}: nothing after =; give the cohort's folder, as in CARD=/data/cohort")
            return path, Path(root).expanduser()
    if _there(Path(argument), Path.is_dir):
        raise CardError(
            f"{argument}: a folder; a card describes it: cmb_cohort init {argument} -o card.yaml drafts one"
        )
    shipped = shipped_cards()
    near = difflib.get_close_matches(argument.partition("=")[0], [*shipped, *_cards_beside(argument)], n=1)
    hint = f"; did you mean {near[0]}?" if near else "; cmb_cohort init drafts one"
    raise CardError(f"{argument}: no such card: neither a file nor a shipped card ({', '.join(shipped)}){hint}")


def _cards_beside(argument: str) -> list[str]:
    """YAML files in the folder in which a card was looked for."""
    folder = Path(argument.partition("=")[0]).expanduser().parent
    return [str(path) for path in sorted(folder.glob("*.y*ml"))] if _there(folder, Path.is_dir) else []


def _find_card(text: str) -> Path | None:
    path = Path(text).expanduser()
    if _there(path, Path.is_file):
        return path
    return shipped_cards().get(text)


def _there(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # a name that is too long, or with a null byte
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CardError(f"{path}: not a UTF-8 text; a card is a YAML text file: save it as UTF-8") from None


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys, in which merges (`<<`) cannot grow without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve merges; of a key that comes several times the last one holds, and only it is kept."""
        merges = any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value)
        super().flatten_mapping(node)
        if merges:
            node.value = list({_identity(key): (key, value) for key, value in node.value}.values())

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _identity(key: yaml.Node) -> object:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _parse_yaml(text: str, path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = error.problem or error.context or ""
        raise CardError(f"{path}{line}: not readable as YAML ({problem}); {_yaml_cure(problem)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CardError(f"{path}: not readable as YAML ({reason}); {_yaml_cure(reason)}") from None
    if not isinstance(raw, dict):
        raise CardError(f"{path}: found {_kind(raw)}, expected keys and values; see cmb_cohort init for a draft")
    return raw


def _yaml_cure(problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces, not with tabs"
    return "remove one" if "stands twice" in problem else "correct that place; quote texts that hold : # { or ["


def _with_parents(raw: dict[str, Any], path: Path, below: Sequence[Path]) -> dict[str, Any]:
    """Lay the card over the one that it extends."""
    wanted = raw.get("extends")
    if wanted is None:
        return raw
    if not isinstance(wanted, str):
        raise CardError(f"{path}: extends: found {_kind(wanted)}, expected the name of a shipped card or a path")
    beside = path.parent / wanted
    parent = beside if _there(beside, Path.is_file) else shipped_cards().get(wanted)
    if parent is None:
        raise CardError(f"{path}: extends: no card {wanted}; shipped are {', '.join(shipped_cards())}")
    if parent.resolve() in {card.resolve() for card in (path, *below)}:
        raise CardError(f"{path}: extends: {wanted} extends this card in turn; break the circle")
    try:
        inherited = _with_parents(_parse_yaml(_read_text(parent), parent), parent, (path, *below))
        inherited.pop("simulated", None)  # it is said of the other card's scans
        return _merged(inherited, raw)
    except RecursionError:
        raise CardError(f"{path}: an anchor refers to itself; write the values out") from None


def _merged(parent: dict[str, Any], child: dict[str, Any], depth: int = 0, key: str = "") -> dict[str, Any]:
    """Lay keys over keys: null removes one, an empty mapping replaces one.

    The rules of `meta` and a label of another kind replace what they override as wholes, because
    their keys exclude each other.
    """
    result = dict(parent)
    for name, value in child.items():
        old = parent.get(name)
        whole = depth == 1 and key == "meta"
        if value is None:
            result.pop(name, None)
        elif isinstance(old, dict) and isinstance(value, dict) and value and not whole and _same_kind(old, value):
            result[name] = _merged(old, value, depth + 1, name)
        else:
            result[name] = value
    return result


def _same_kind(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return bool(old.get("kind") == new.get("kind", old.get("kind")))


def _explain(error: ValidationError, path: Path, text: str) -> str:
    """The first mistake in one line; an unknown key first, since it often causes the others."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if part != "[key]"]
    line = _line_of(location, text)
    where = f"{path}:{line}" if line else str(path)
    field = ".".join(str(part) for part in location)
    prefix = f"{where}: {field}: " if field else f"{where}: "
    if first["type"] == "extra_forbidden":
        legal = _legal_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), legal, n=1, cutoff=0.4)
        return f"{prefix}unknown key{f'; did you mean {near[0]}?' if near else ''} (legal keys: {', '.join(legal)})"
    if first["type"] == "missing":
        return f"{prefix}missing; {'give all values of the list' if isinstance(location[-1], int) else 'add it'}"
    if first["type"] in ("literal_error", "enum"):
        legal_values = re.sub(r"<\w+\.\w+: (\w+)>", r"\1", first["ctx"]["expected"].replace("'", ""))
        if location[-1] == "role":
            legal_values = ", ".join(role for role in Role if role not in DERIVED_ROLES)
        near = difflib.get_close_matches(str(first["input"]).lower(), re.findall(r"[\w.]+", legal_values), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{prefix}found {_kind(first['input'])}, legal are {legal_values}{hint}"
    if first["type"] == "value_error":
        return prefix + first["msg"].removeprefix("Value error, ")
    if first["type"] == "recursion_loop":
        return f"{prefix}an anchor refers to itself; write the values out"
    return f"{prefix}found {_kind(first['input'])}; {_needed(first['type'], location, first['msg'])}"


NEEDED = (
    (("dict_type",), "keys and values are needed, as in {key: value}"),
    (("tuple_type", "list_type"), "a list is needed, as in [a, b]"),
    (("string_type",), "a text is needed; put it in quotes"),
    (("bool_type",), "true or false is needed, without quotes"),
    (("float_parsing", "float_type", "int_parsing", "int_type", "int_from_float"), "a number is needed"),
    (("too_short",), "at least one value is needed"),
)
"""By pydantic's kind of mistake what is needed, in words of a card."""


def _needed(kind: str, location: Sequence[Any], message: str) -> str:
    if kind in ("model_type", "model_attributes_type"):
        return f"keys are needed here: {', '.join(_legal_keys(location))}"
    plain = message.removeprefix("Input should be ")
    return next((needed for kinds, needed in NEEDED if kind in kinds), f"it should be {plain}")


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _legal_keys(location: Sequence[Any]) -> list[str]:
    """The keys that the schema knows at a place in the card."""
    model: Any = Card
    parts = iter(location)
    for part in parts:
        if model is Meta and part != "participants":
            model = MetaRule
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        annotation = fields[str(part)].annotation
        if get_origin(annotation) is dict:
            next(parts, None)
            annotation = get_args(annotation)[1]
        options = [annotation, *get_args(annotation)]
        model = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]


def _line_of(location: Sequence[Any], text: str) -> int | None:
    """The line, from 1, of a field or of its nearest parent that the file holds."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line: int | None = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
