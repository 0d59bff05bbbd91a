"""The schema of cards: the YAML that tells where a cohort's files are and what they mean."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, StrictBool, field_validator
from pydantic import model_validator as check_model

from cmb_autoseg.cohort_names import COHORT_NAME
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import DERIVED_ROLES, SUSCEPTIBILITY_ROLES, PrepSettings, Record, Role, Triple

__all__ = [
    "BRAIN_MASK",
    "CORE_COLUMNS",
    "LABEL_NAME",
    "REVIEWED_NAME",
    "BrainMaskCard",
    "Card",
    "EntityRule",
    "ImageCard",
    "LabelCard",
    "Meta",
    "MetaRule",
    "ReviewedCard",
    "SliceTable",
    "TagRule",
    "card_json_schema",
    "compiled_regex",
]

LABEL_NAME = "labels.cmb"
REVIEWED_NAME = "labels.no_cmb"
BRAIN_MASK = "brain_mask"
CORE_COLUMNS = frozenset(
    ["case", "cohort", "subject", "session", "sequences", "labelled", "n_lesions", "source_files", "source_digests"]
)
"""Columns of cases.tsv that the tool fills; a card cannot set them."""
OPPOSITE = {"L": "R", "P": "A", "I": "S"}
COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
DICOM_TAG = re.compile(r"[A-Z][A-Za-z0-9]*|\(?[0-9A-Fa-f]{4},\s?[0-9A-Fa-f]{4}\)?")


def compiled_regex(text: str) -> re.Pattern[str]:
    """Compile a user's regular expression.

    Raises:
        ValueError: it is no regular expression; quotes it.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is no regular expression ({error}); correct it") from None


class TagRule(Record):
    """What the value of a DICOM tag must be: hold a regex, or be a number from `min` to `max`, both included."""

    regex: str | None = None
    min: float | None = None
    max: float | None = None

    @check_model(mode="after")
    def _asks_for_something(self) -> "TagRule":
        if (self.regex is None) == (self.min is None and self.max is None):
            raise ValueError("give a regex, or min, max or both")
        if self.regex is not None:
            compiled_regex(self.regex)
        return self


def _as_tag_rules(rules: Any) -> Any:
    """Plain texts are regexes."""
    if not isinstance(rules, dict):
        return rules
    for tag in rules:
        _check_tag(str(tag))
    return {
        tag: {"regex": _as_text(rule)} if isinstance(rule, str | int | float) else rule for tag, rule in rules.items()
    }


TagRules = Annotated[dict[str, TagRule], BeforeValidator(_as_tag_rules)]
"""DICOM tag, by its keyword or its number (gggg,eeee), to what it must be."""


def _check_tag(tag: str) -> None:
    if not DICOM_TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no DICOM tag; write its keyword, as in EchoTime, or its number (0018,0081)")


class SliceTable(Record):
    """Tables that say where pictures lie: one row a picture."""

    path: str
    """Pattern relative to the root, with entities of the case."""
    key: str = "image"
    """The column with the picture's file name."""
    columns: dict[Literal["x_mm", "y_mm", "z_mm", "pixel_mm", "slice_mm"], str] = Field(default_factory=dict)
    """Names of the columns with the middle of the picture in RAS millimetres, and the sizes; default: as here."""


class ImageCard(Record):
    """One sequence of the cohort: what it is and where its files are."""

    role: Role
    path: str | None = None
    """Pattern relative to the root; `{entity}` and `{entity:regex}`; `a.zip!/member` looks inside an archive."""
    dicom: TagRules = Field(default_factory=dict)
    """With `source: dicom`: what the tags of the series must be, all of them."""
    exclude: TagRules = Field(default_factory=dict)
    """With `source: dicom`: a series for which one of these holds is not taken."""
    optional: StrictBool = False
    copy_geometry_from: str | None = None
    """Name of another sequence whose affine replaces the file's own."""
    echo: PositiveInt | None = None
    """Which volume of a 4D file, from 1; where the path has {echo}, which of several files."""
    pick: Literal["error", "first", "latest"] = "error"
    """What to do with several files of one case: refuse it, or take one by the rule of `choice`."""
    other_grid: Literal["register", "leave_out"] = "register"
    """What to do with this sequence when it is not on the grid of the case's reference sequence."""
    variable: str | None = None
    """Of .mat files: the name of the array; may be left out where they hold one volume."""
    stack: str | None = None
    """Of pictures: the entity whose number is the slice's; they become one volume."""
    spacing_mm: Triple[PositiveFloat] | None = None
    """Of formats without geometry: between columns, rows and slices (pictures), or along i, j, k (.mat)."""
    axes: str | None = None
    """Of formats without geometry: where columns, rows and slices (i, j, k) run; default LPS, for .mat RAS."""
    slices: SliceTable | None = None
    """Of pictures: tables of their sizes and places."""

    @field_validator("role")
    @classmethod
    def _of_a_file(cls, role: Role) -> Role:
        if role in DERIVED_ROLES:
            raise ValueError(f"{role} is made by preparation; ask for it with prep.derived: [{role}]")
        return role

    @field_validator("axes")
    @classmethod
    def _three_directions(cls, axes: str | None) -> str | None:
        if axes is not None and sorted(OPPOSITE.get(letter, letter) for letter in axes) != ["A", "R", "S"]:
            raise ValueError(f"found {axes!r}; three letters are needed, one of R L, of A P and of S I each, as in LPS")
        return axes

    @check_model(mode="after")
    def _stack_has_sizes(self) -> "ImageCard":
        if self.slices is not None and self.spacing_mm is not None:
            raise ValueError("slices and spacing_mm both give sizes; keep one")
        return self


class RowsCard(Record):
    """Which rows of a table of many cases are one case's."""

    column: str
    equals: str
    """What the column says, made of entities, as in {sub}_SWI.nii.gz."""
    wide: StrictBool = False
    """One row a case: x, y, z of one point after the other in the cells that follow; else a row a point."""


class RatersCard(Record):
    """Several readings of one case become one."""

    entity: str = "rater"
    """The entity of the path that names the reader."""
    combine: Literal["union", "majority", "one"] = "union"
    one: str | None = None
    """The reader to take, with combine: one."""

    @check_model(mode="after")
    def _one_is_named(self) -> "RatersCard":
        if (self.combine == "one") != (self.one is not None):
            raise ValueError("combine: one goes with one: NAME of the reader, and only with it")
        return self


def _number_or_name(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"found {value!r}; a whole number, or of boxes the name of a class, is needed")
    return value


FOREIGN_KEYS = {
    "mask": {"columns", "space", "radius_mm", "sheet", "rows", "format"},
    "points": {"values", "resample", "format"},
    "boxes": {"radius_mm", "resample", "sheet", "rows", "variable"},
}
"""Keys of labels that say nothing of a kind."""
SPACES_OF_BOXES: dict[str, tuple[str, ...]] = {"yolo": (), "coco": (), "voc": ("voxel0", "voxel1")}
"""Of formats that fix how boxes are counted, what is left to say."""


class LabelCard(Record):
    """Where the microbleeds are marked, and how."""

    kind: Literal["mask", "points", "boxes"]
    path: str
    values: dict[str, Annotated[int | str, BeforeValidator(_number_or_name)]] = Field(default_factory=dict)
    columns: dict[
        Literal["x", "y", "z", "radius_mm", "x_min", "x_max", "y_min", "y_max", "z_min", "z_max", "class"], str
    ] = Field(default_factory=dict)
    space: Literal["ras_mm", "lps_mm", "voxel0", "voxel1"] = "ras_mm"
    radius_mm: PositiveFloat = 1.5
    variable: str | None = None
    sheet: str | None = None
    rows: RowsCard | None = None
    format: Literal["yolo", "voc", "coco", "table"] | None = None
    raters: RatersCard | None = None
    grid: str | None = None
    """Name of the sequence on which the marks were made; default: the reference sequence."""
    optional: StrictBool = False
    resample: Literal["refuse", "nearest"] = "refuse"

    @check_model(mode="after")
    def _keys_fit_the_kind(self) -> "LabelCard":
        misplaced = sorted(FOREIGN_KEYS[self.kind] & self.model_fields_set)
        if misplaced:
            raise ValueError(f"{', '.join(misplaced)} cannot go with kind: {self.kind}; remove it or change kind")
        if self.values and "cmb" not in self.values:
            raise ValueError(f"values names {', '.join(self.values)} but not cmb; name the microbleeds' value cmb")
        if self.kind == "mask" and any(isinstance(value, str) for value in self.values.values()):
            raise ValueError("values of a mask are whole numbers, as in {cmb: 1}")
        if self.kind == "boxes" and self.format is None:
            raise ValueError("boxes need a format: yolo, voc, coco or table")
        if "space" in self.model_fields_set and self.space not in SPACES_OF_BOXES.get(self.format or "", (self.space,)):
            raise ValueError(f"space: {self.space} says nothing of format: {self.format}; remove it")
        return self


class ReviewedCard(Record):
    """Which cases somebody has read and found without microbleeds; they need no file of labels.

    Either a file is there (`path`), or something known of the case has one of some values (`from`, `is`).
    """

    path: str | None = None
    source: Annotated[str | None, Field(alias="from")] = None
    """An entity, a column of `meta` or of the participants table."""
    values: Annotated[tuple[str, ...], Field(alias="is")] = ()

    @field_validator("values", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        listed = values if isinstance(values, list | tuple) else [values]
        return tuple(_as_text(value) for value in listed)

    @check_model(mode="after")
    def _one_way(self) -> "ReviewedCard":
        if (self.path is None) == (self.source is None) or bool(self.values) != (self.source is not None):
            raise ValueError("give either path, or from and is")
        return self


class LabelsCard(Record):
    """Marks, and who has none."""

    cmb: LabelCard | None = None
    no_cmb: ReviewedCard | None = None


class BrainMaskCard(Record):
    """A brain mask that comes with the cohort."""

    path: str
    grid: str | None = None
    """Name of the sequence on whose grid it is; default: the reference sequence."""


class EntityRule(Record):
    """With `source: dicom`: the tag that an entity is read from."""

    tag: str
    regex: str | None = None
    """Searched in the tag's value; its first group, else the whole match, is the entity."""

    @check_model(mode="after")
    def _legal(self) -> "EntityRule":
        _check_tag(self.tag)
        if self.regex is not None:
            compiled_regex(self.regex)
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
    redistribute: StrictBool = False


class Privacy(Record):
    """What must not leave the cohort's folder."""

    hash_ids: StrictBool = False


class Card(Record):
    """A cohort: its files, their meaning and what is known of its people."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Annotated[str, Field(pattern=COHORT_NAME)]
    status: Literal["verified", "unverified"] = "unverified"
    simulated: StrictBool = False
    """No person was scanned: figures of such cohorts are marked. A card does not take it over by `extends`."""
    extends: str | None = None
    root: str = "."
    source: Literal["files", "dicom"] = "files"
    dim: Literal[2, 3] = 3
    """2: the images are pictures of slices."""
    entities: dict[str, EntityRule] = Field(default_factory=dict)
    licence: Licence | None = None
    case: str | None = None
    group_by: Annotated[tuple[str, ...], Field(min_length=1)] = ("sub",)
    images: Annotated[dict[str, ImageCard], Field(min_length=1)]
    labels: LabelsCard = LabelsCard()
    brain_mask: BrainMaskCard | None = None
    meta: Meta = Meta()
    prep: PrepSettings = PrepSettings()
    qc: QualitySettings = QualitySettings()
    privacy: Privacy = Privacy()
    exclude: dict[str, str] = Field(default_factory=dict)
    """Case to the reason why it is left out; what somebody decided who looked."""
    ignore: tuple[str, ...] = ()
    """Globs over relative paths (`*` also crosses folders) that `check` does not list as unmatched."""

    @property
    def label(self) -> LabelCard | None:
        return self.labels.cmb

    @field_validator("entities", mode="before")
    @classmethod
    def _tags_by_name(cls, entities: Any) -> Any:
        if not isinstance(entities, dict):
            return entities
        return {name: {"tag": rule} if isinstance(rule, str) else rule for name, rule in entities.items()}

    @check_model(mode="after")
    def _images_fit_together(self) -> "Card":
        if not any(image.role in SUSCEPTIBILITY_ROLES for image in self.images.values()):
            roles = ", ".join(SUSCEPTIBILITY_ROLES)
            raise ValueError(f"images: none has a role in which microbleeds are visible ({roles}); add such a sequence")
        named = {f"images.{name}.copy_geometry_from": image.copy_geometry_from for name, image in self.images.items()}
        named["labels.cmb.grid"] = self.labels.cmb.grid if self.labels.cmb else None
        named["brain_mask.grid"] = self.brain_mask.grid if self.brain_mask else None
        for where, name in named.items():
            if name is not None and name not in self.images:
                raise ValueError(f"{where}: no sequence called {name}; there are {', '.join(self.images)}")
        return self

    @check_model(mode="after")
    def _images_fit_the_source(self) -> "Card":
        for name, image in self.images.items():
            where = f"images.{name}"
            if self.source == "dicom" and (image.path is not None or not image.dicom):
                raise ValueError(f"{where}: with source: dicom a sequence has dicom: {{Tag: regex}} and no path")
            if self.source == "files" and (image.path is None or image.dicom or image.exclude):
                raise ValueError(f"{where}: needs a path; dicom and exclude go with source: dicom")
            if self.dim == 3 and (image.stack or image.slices):
                raise ValueError(f"{where}: stack and slices are of pictures; set dim: 2")
        if (self.source == "dicom") != bool(self.entities):
            raise ValueError("entities: {sub: PatientID} goes with source: dicom, and that with it")
        if self.source == "dicom" and self.dim == 2:
            raise ValueError("dim: 2 is of pictures; leave it out with source: dicom")
        return self


def card_json_schema() -> dict[str, Any]:
    """JSON Schema of a card, for editors that check YAML while one types."""
    return Card.model_json_schema(by_alias=True)


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value
