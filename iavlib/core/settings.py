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

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from iavlib.core.errors import suggest

AnySettings = TypeVar("AnySettings", bound="Settings")


#: More than anyone writes by hand: aliases of aliases, or what is no configuration at all.
_MOST_VALUES, _DEEPEST = 100_000, 30


class _Loader(yaml.SafeLoader):
    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > _MOST_VALUES:  # mappings merged into mappings merged ...
            raise yaml.YAMLError(f"a mapping of more than {_MOST_VALUES:,} entries")


def read_yaml(source: Path | str) -> Any:
    """Read YAML that people write.

    Parameters
    ----------
    source : Path or str
        A file in UTF-8, or YAML itself.

    Returns
    -------
    object
        Mappings, lists and plain values; None where there is nothing.

    Raises
    ------
    ValueError
        With the reason in a line: not readable, not UTF-8, not YAML, nested too deeply, or aliases
        that stand for more values than a configuration holds.

    Examples
    --------
    >>> read_yaml("sizes: [96, 224]")
    {'sizes': [96, 224]}
    """
    try:
        text = source.read_text(encoding="utf-8-sig") if isinstance(source, Path) else source
        content = yaml.load(text, _Loader)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"is not UTF-8 (line {line}); save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"is not valid YAML ({reason})") from error
    _check_extent(content)
    return content


def _check_extent(content: Any) -> None:
    n_values, waiting = 0, [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        n_values += 1
        if n_values + len(waiting) > _MOST_VALUES or depth > _DEEPEST:
            raise ValueError(
                f"holds more than {_MOST_VALUES:,} values (aliases written out) or {_DEEPEST} "
                "levels; shorten it"
            )
        inner = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list | set | tuple):
            waiting += [(item, depth + 1) for item in inner]


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
