"""What every record is: immutable, strict about its fields, written as JSON."""

import json
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, text_digest, write_json

__all__ = ["Affine", "Count", "Probability", "Record", "Triple"]

T = TypeVar("T")
Triple = tuple[T, T, T]
Row = tuple[float, float, float, float]
Affine = tuple[Row, Row, Row, Row]
"""Voxel indices (i, j, k, 1) to RAS millimetres, row by row."""
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Base of all records: immutable, strict about its fields, written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    def write(self, path: Path) -> None:
        """Write as JSON under a temporary name, then rename."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read back what `write` wrote.

        Raises:
            InputError: the file is missing, is no JSON, or is no such record; names the field.
        """
        return cls.parse(read_json(path), str(path))

    @classmethod
    def parse(cls, content: Any, where: str) -> Self:
        """A record from JSON content that another file holds.

        Args:
            content: what the JSON says.
            where: the file, and the key in it, for messages.

        Raises:
            InputError: it is no such record; names the field.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"{where}: {f'field {field}: ' if field else ''}{first['msg'].removeprefix('Value error, ')}; "
                "made by another version? run its stage again"
            ) from None

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; equal records have equal digests."""
        return text_digest(json.dumps(self.model_dump(mode="json"), sort_keys=True))
