"""Base class of typed configuration: pydantic models that read what people write in YAML.

A class of settings lists its fields with types, limits and defaults::

    class Sampling(Settings):
        n: Annotated[int, Field(ge=1)] = 16
        seed: int = 0

    read_settings(Sampling, {"n": "1e3"}, "sampling", TrainingError)

Unknown keys are errors that name the nearest field, ``"1e-4"`` (as YAML reads it) is a number,
``true`` is not, and values that are not finite are refused. ``Sampling.model_json_schema()`` gives
the JSON schema for editors, ``Sampling.model_fields`` the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from iavlib.core.errors import suggest

AnySettings = TypeVar("AnySettings", bound="Settings")


class Settings(BaseModel):
    """Immutable settings; subclasses list the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            unknown = [str(key) for key in values if key not in cls.model_fields]
            if unknown:
                problems = (
                    f"no field {key!r}; {suggest(key, cls.model_fields)}" for key in unknown
                )
                raise ValueError(", ".join(problems))
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _check_bool(cls, value: Any, info) -> Any:
        annotation = cls.model_fields[info.field_name].annotation
        if annotation is bool and not isinstance(value, bool):
            raise ValueError("Input should be true or false")
        if isinstance(value, bool) and not _accepts_bool(annotation):
            raise ValueError("Input should not be true or false")
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return self.model_dump(mode="json")


def read_settings(
    kind: type[AnySettings], values: Mapping[str, Any], where: str, error: type[Exception]
) -> AnySettings:
    """Check values and return them as settings.

    Parameters
    ----------
    kind : type
        A subclass of :class:`Settings`.
    values : mapping
    where : str
        What is read, for messages, such as ``recipe 'paper'``.
    error : type
        Exception raised with one message; see :func:`describe` to build another kind.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as wrong:
        raise error(f"{where}: {describe(wrong)}") from None


def describe(error: ValidationError) -> str:
    """Put everything that a validation found into one sentence, field by field."""
    sentences = []
    for item in error.errors(include_url=False):
        problem = item["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        field = ".".join(map(str, item["loc"]))
        if item["type"] == "missing":
            sentences.append(f"{field} is missing")
        elif isinstance(item["input"], Mapping | BaseModel):
            sentences.append(f"{field}: {problem}" if field else problem)
        else:
            sentences.append(f"{field} is {item['input']!r}, {problem}")
    return "; ".join(sentences)


def _accepts_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_accepts_bool, get_args(annotation)))
