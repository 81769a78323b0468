"""What tables read of a result: files of several machines, and of other people, go into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lofi_tal.bounds import plain_value
from lofi_tal.errors import DataError
from lofi_tal.files import plain_file, read_json

FORMAT = 1
_MOST_BYTES = 16 * 2**20
_ADVICE = "remove it and run the row again."

Text = Annotated[str, Field(max_length=4000)]
Figures = dict[str, float]


class _Part(BaseModel):
    """An object of which some keys are read, and all may be there."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Score(_Part):
    average_mAP: float = Field(ge=0, le=1)  # noqa: N815 - the key of the file
    videos: int = Field(ge=0)


class _Candidate(_Part):
    selection_mAP: float = Field(ge=0, le=1)  # noqa: N815 - the key of the file


class _Chosen(_Part):
    candidates: list[_Candidate] = Field(min_length=1)


class _Cost(_Part):
    seconds: float = Field(ge=0)
    peak_memory_bytes: float = Field(ge=0)


class _Probe(_Part):
    inside_auc: float
    boundary_ap: float
    boundary_f1: float
    boundary_share: float


class _Environment(_Part):
    processor: Text
    cores: int
    threads: int
    versions: dict[str, Any]


class _Result(_Part):
    """A row that did not fail."""

    seed: int = Field(ge=-(2**63), lt=2**63)
    settings: Text
    data_hash: Text
    command: Text
    scores: dict[str, _Score] = Field(min_length=1)
    proposals: Figures
    probe: _Probe
    clips: Figures
    grids: list[Figures]
    chosen: _Chosen
    stages: dict[str, _Cost]
    replicates: dict[str, int | Annotated[str, Field(pattern=r"^[0-9]\.[0-9]{5}( [0-9]\.[0-9]{5})*$")]]
    environment: _Environment
    device: Annotated[str, Field(max_length=4000, pattern=r", ")]

    @field_validator("replicates")
    @classmethod
    def _are_draws(cls, replicates: dict[str, int | str]) -> dict[str, int | str]:
        if any(isinstance(draws, int) for key, draws in replicates.items() if key != "count"):
            raise ValueError("the draws of each way are a text")
        return replicates


def checked_result(path: Path) -> dict[str, Any]:
    """Return the content of a result file.

    Raises:
        DataError: If it is no plain file, too large, not of this version, or lacks something that the tables read.
    """
    if plain_file(path, path.parent).st_size > _MOST_BYTES:
        raise DataError(f"{path} is larger than a result of format {FORMAT} can be: {_ADVICE}")
    result = read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise DataError(f"{path} is not a result of format {FORMAT}: {_ADVICE}")
    try:
        plain_value(result)
        if "failed" not in result:
            _Result.model_validate(result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is not a whole result ({key!r}: {first['msg'].lower()}): {_ADVICE}") from error
    except ValueError as error:
        raise DataError(f"{path} is not a usable result: {error}; {_ADVICE}") from error
    return result
