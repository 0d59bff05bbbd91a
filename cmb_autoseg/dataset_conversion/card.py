"""Cards: the YAML that tells where a cohort's files are and what they mean.

`parse_card` reads and checks a card; it looks at no image. The schema is `Card`; every mistake in a
card is one line that names the file, the line, the field and the legal values.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator
from pydantic import model_validator as check_model

from cmb_autoseg.errors import CardError
from cmb_autoseg.files import text_digest
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, PrepSettings, Record, Role

__all__ = [
    "LABEL_NAME",
    "Card",
    "ImageCard",
    "LabelCard",
    "MetaRule",
    "OpenCard",
    "card_json_schema",
    "parse_card",
    "shipped_cards",
]

LABEL_NAME = "labels.cmb"
CARDS = Path(__file__).parent / "cards"
CORE_COLUMNS = frozenset(
    ["case", "cohort", "subject", "session", "sequences", "labelled", "n_lesions", "source_files", "source_digests"]
)
"""Columns of cases.tsv that the tool fills; a card cannot set them."""
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class ImageCard(Record):
    """One sequence of the cohort: what it is and where its files are."""

    role: Role
    path: str
    """Pattern relative to the root; `{entity}` and `{entity:regex}`."""
    optional: bool = False
    copy_geometry_from: str | None = None
    """Name of another sequence whose affine replaces the file's own."""
    echo: PositiveInt | None = None
    """Which volume of a 4D file, from 1; where the path has {echo}, which of several files."""
    pick: Literal["error", "first"] = "error"
    """What to do with several files of one case: refuse it, or take the first by the rule of `choice`."""
    other_grid: Literal["refuse", "leave_out"] = "refuse"
    """What to do with this sequence when it is not on the grid of the case's reference sequence."""


class LabelCard(Record):
    """Where the microbleeds are marked, and how."""

    kind: Literal["mask", "points"]
    path: str
    values: dict[str, Annotated[int, Field(strict=True)]] = Field(default_factory=dict)
    columns: dict[Literal["x", "y", "z", "radius_mm"], str] = Field(default_factory=dict)
    space: Literal["ras_mm", "lps_mm", "voxel0", "voxel1"] = "ras_mm"
    radius_mm: PositiveFloat = 1.5
    optional: bool = False
    resample: Literal["refuse", "nearest"] = "refuse"

    @check_model(mode="after")
    def _keys_fit_the_kind(self) -> "LabelCard":
        foreign = {"mask": {"columns", "space", "radius_mm"}, "points": {"values", "resample"}}[self.kind]
        misplaced = sorted(foreign & self.model_fields_set)
        if misplaced:
            raise ValueError(f"{', '.join(misplaced)} cannot go with kind: {self.kind}; remove it or change kind")
        if self.values and "cmb" not in self.values:
            raise ValueError(f"values names {', '.join(self.values)} but not cmb; name the microbleeds' value cmb")
        return self


class MetaRule(Record):
    """How one column of cases.tsv is filled: a fixed value, or from something known of the case."""

    value: str | None = None
    source: Annotated[str | None, Field(alias="from")] = None
    """An entity of the paths, an earlier column of `meta`, or a column of the participants table."""
    regex: str | None = None
    """Searched in the source; its first group, else the whole match, is the value."""
    map: dict[str, str] | None = None

    @field_validator("value", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _as_text(value)

    @field_validator("map", mode="before")
    @classmethod
    def _text_to_text(cls, value: Any) -> Any:
        return {_as_text(key): _as_text(item) for key, item in value.items()} if isinstance(value, dict) else value

    @check_model(mode="after")
    def _one_origin(self) -> "MetaRule":
        if (self.value is None) == (self.source is None):
            raise ValueError("give either value or from")
        if self.value is not None and (self.regex is not None or self.map is not None):
            raise ValueError("regex and map work on from, not on value")
        if self.regex is not None:
            compiled_regex(self.regex)
        return self


class ParticipantsTable(Record):
    """A table with one row per subject; its columns become columns of cases.tsv."""

    path: str
    key: str = "sub"
    """The entity; the table's column is called the same or `participant_id`."""


class Meta(Record):
    """Rules by column, and the participants table."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, MetaRule] = Field(init=False)

    participants: ParticipantsTable | None = None

    @property
    def rules(self) -> dict[str, MetaRule]:
        return self.__pydantic_extra__ or {}

    @check_model(mode="after")
    def _legal_columns(self) -> "Meta":
        for name in self.rules:
            if name in CORE_COLUMNS or not COLUMN_NAME.fullmatch(name):
                raise ValueError(
                    f"{name} cannot be a column here (filled by the tool, or not a plain name); choose another"
                )
        return self


class Licence(Record):
    """Under what terms the cohort may be used."""

    id: str
    redistribute: bool = False


class Privacy(Record):
    """What must not leave the cohort's folder."""

    hash_ids: bool = False


class Card(Record):
    """A cohort: its files, their meaning and what is known of its people."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    status: Literal["verified", "unverified"] = "unverified"
    extends: str | None = None
    root: str = "."
    licence: Licence | None = None
    case: str | None = None
    group_by: Annotated[tuple[str, ...], Field(min_length=1)] = ("sub",)
    images: Annotated[dict[str, ImageCard], Field(min_length=1)]
    labels: dict[Literal["cmb"], LabelCard] = Field(default_factory=dict)
    meta: Meta = Meta()
    prep: PrepSettings = PrepSettings()
    privacy: Privacy = Privacy()
    ignore: tuple[str, ...] = ()
    """Globs over relative paths (`*` also crosses folders) that `check` does not list as unmatched."""

    @property
    def label(self) -> LabelCard | None:
        return self.labels.get("cmb")

    @check_model(mode="after")
    def _images_fit_together(self) -> "Card":
        if not any(image.role in SUSCEPTIBILITY_ROLES for image in self.images.values()):
            roles = ", ".join(SUSCEPTIBILITY_ROLES)
            raise ValueError(f"images: none has a role in which microbleeds are visible ({roles}); add such a sequence")
        for name, image in self.images.items():
            if image.copy_geometry_from is not None and image.copy_geometry_from not in self.images:
                raise ValueError(
                    f"images.{name}.copy_geometry_from: no sequence called {image.copy_geometry_from}; "
                    f"there are {', '.join(self.images)}"
                )
        return self


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
        return text_digest(self.card.model_dump_json())


def card_json_schema() -> dict[str, Any]:
    """JSON Schema of a card, for editors that check YAML while one types."""
    return Card.model_json_schema(by_alias=True)


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
    _refuse_what_is_to_come(raw, path)
    try:
        return OpenCard(Card.model_validate(raw), path, root)
    except ValidationError as error:
        raise CardError(_explain(error, path, text)) from None
    except RecursionError:
        raise CardError(f"{path}: an anchor refers to itself; write the values out") from None


def compiled_regex(text: str) -> re.Pattern[str]:
    """Compile a user's regular expression.

    Raises:
        ValueError: it is no regular expression; quotes it.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is no regular expression ({error}); correct it") from None


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
        return _merged(_with_parents(_parse_yaml(_read_text(parent), parent), parent, (path, *below)), raw)
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


def _refuse_what_is_to_come(raw: dict[str, Any], path: Path) -> None:
    """Say plainly which parts of the card language are not read yet."""
    if "dim" in raw and raw["dim"] != 3:
        raise CardError(f"{path}: dim: {raw['dim']!r} is not supported yet; cohorts of 3D volumes are")
    if "source" in raw:
        raise CardError(f"{path}: source: {raw['source']!r} is not supported yet; convert the scans to NIfTI first")
    for group, name, entry in _entries(raw):
        if "dicom" in entry:
            raise CardError(f"{path}: {group}.{name}.dicom: not supported yet; convert the scans to NIfTI first")
        if "!/" in str(entry.get("path", "")):
            raise CardError(f"{path}: {group}.{name}.path: files inside archives are not supported yet; unpack them")
        if group == "labels" and entry.get("kind") == "boxes":
            raise CardError(f"{path}: labels.{name}.kind: boxes are not supported yet; legal are mask and points")
        if group == "labels" and str(entry.get("path", "")).lower().endswith((".xlsx", ".mat")):
            raise CardError(
                f"{path}: labels.{name}.path: .xlsx and .mat are not supported yet; save the points as .tsv or .csv"
            )


def _entries(raw: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for group in ("images", "labels"):
        if isinstance(raw.get(group), dict):
            for name, entry in raw[group].items():
                if isinstance(entry, dict):
                    yield group, str(name), entry


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
        return f"{prefix}missing; add it"
    if first["type"] in ("literal_error", "enum"):
        legal_values = first["ctx"]["expected"].replace("'", "")
        near = difflib.get_close_matches(str(first["input"]), re.findall(r"[\w.]+", legal_values), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{prefix}found {_kind(first['input'])}, legal are {legal_values}{hint}"
    if first["type"] == "value_error":
        return prefix + first["msg"].removeprefix("Value error, ")
    if first["type"] == "recursion_loop":
        return f"{prefix}an anchor refers to itself; write the values out"
    message = first["msg"]
    return f"{prefix}found {_kind(first['input'])}; {message[0].lower()}{message[1:]}"


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


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
