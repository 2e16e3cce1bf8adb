"""A dataset: cases in YAML, each a short conversation and what is expected of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .scorers import SCORERS, ExpectationInvalid, Expected


class DatasetInvalid(Exception):
    """The dataset cannot be used; the message says where and why."""


class Review(BaseModel):
    """How the runner answers when a person is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: str
    """Name of the action that is asked about: a tool, or what the graph itself calls it."""
    decision: dict[str, Any]
    """`{"type": "approve"}`, or an edit, a rejection, a response."""


class Case(BaseModel):
    """One conversation on a thread of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    turns: tuple[str, ...] = Field(min_length=1)
    """What the person writes, one after the other. `ask` is short for a single one."""
    reviews: tuple[Review, ...] = ()
    """Answers in the order in which they are given; an action that none is left for keeps waiting."""
    context: dict[str, Any] = {}
    """Laid over that of the dataset."""
    expect: tuple[Expected, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _one_turn(cls, values: Any) -> Any:
        if isinstance(values, dict) and "ask" in values:
            values = {**values, "turns": [values["ask"]]}
            del values["ask"]
        return values

    @field_validator("expect", mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if not isinstance(values, list):
            raise ValueError("`expect` must be a list")
        return tuple(_expected(value) for value in values)


class Dataset(BaseModel):
    """Cases for one assistant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    assistant: str
    """A graph or the id of an assistant."""
    description: str = ""
    context: dict[str, Any] = {}
    trials: int = Field(default=1, ge=1)
    """How often each case is run."""
    cases: tuple[Case, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Dataset:
        ids = [case.id for case in self.cases]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"there are two cases with the id {', '.join(twice)}")
        return self


def load(path: Path) -> Dataset:
    """Read a dataset.

    Raises:
        DatasetInvalid: it cannot be read, or something in it is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetInvalid(f"{path}: {error}") from error
    try:
        return Dataset.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{path}: `{_place(detail['loc'], content)}`: {detail['msg']}" for detail in error.errors()
        ]
        raise DatasetInvalid("\n".join(problems)) from error


def _expected(value: Any) -> Expected:
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"an expectation is one of {', '.join(SCORERS)} with its argument, not {value!r}")
    [(scorer, argument)] = value.items()
    if scorer not in SCORERS:
        raise ValueError(f"{scorer!r} is no scorer; known are {', '.join(SCORERS)}")
    try:
        return Expected.of(scorer, argument)
    except ExpectationInvalid as error:
        raise ValueError(str(error)) from error


def _place(location: tuple[int | str, ...], content: Any) -> str:
    """Where in the file: cases by their id rather than their number."""
    parts = [str(part) for part in location]
    if len(location) > 1 and location[0] == "cases" and isinstance(location[1], int):
        case = content["cases"][location[1]]
        if isinstance(case, dict) and "id" in case:
            parts[1] = str(case["id"])
    return ".".join(parts) or "dataset"
