"""A recipe as a TOML file: the fields of `Recipe`, a table for each quantiser."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes.recipe import CLIPS, PHASES, QUANTIZERS, Quantizer, Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 2**16  # bytes; a recipe has hundreds

_BEGIN = "fourbit inspect --toml --recipe"  # prints a file to begin with
_NEEDED = ("activation", "weight", "dgrad", "wgrad")  # a default of ours would be a recipe that nobody wrote
_LABELS = ("name", "source")  # say nothing about how to train

_KINDS = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
_SETTINGS: Mapping[str, type] = {
    "name": str,
    "arithmetic": str,
    "keep_ends": bool,
    "keep": list,
    "keep_last": float,
    "source": str,
}
# A phase is written by name.
_OF_QUANTIZER: Mapping[str, type] = {
    "format": str,
    "scale": str,
    "phase": str,
    "threshold": float,
    "rounding": str,
    "samples": int,
    "hadamard": int,
    "dither": bool,
}


def read(path: Path) -> Recipe:
    """The recipe in a file, with all four quantisers that a recipe of 4 bits needs.

    Other settings that it leaves out are as in `Recipe`, keys of a table as in `Quantizer`; the name is that
    of the file.

    Raises:
        RecipeError: It cannot be read, something in it is no recipe (the message says which key), a
            quantiser is missing, or it sets nothing: an empty file is no ``ibm2020``.
    """
    given = load(path, "recipe")
    keys = [*_SETTINGS, *QUANTIZERS]
    known(str(path), given, keys)
    if set(given) <= set(_LABELS):
        wanted = ", ".join(key for key in keys if key not in _LABELS)
        raise RecipeError(
            f"{path} is no recipe: it sets none of {wanted}; print one to begin with: {_BEGIN} ibm2020"
        )
    fields: dict[str, Any] = {"name": path.stem}
    for key, value in given.items():
        where = f"{path}: {key}"
        fields[key] = _quantizer(where, value) if key in QUANTIZERS else checked(where, value, _SETTINGS[key])
    if "keep" in fields:
        fields["keep"] = tuple(checked(f"{path}: keep", one, str) for one in fields["keep"])
    missing = [f"[{name}]" for name in _NEEDED if name not in fields]
    if missing and fields.get("arithmetic", "4-bit") == "4-bit":
        raise RecipeError(
            f"{path} has no {', '.join(missing)}, and a recipe of 4 bits needs {', '.join(_NEEDED)}; take "
            f"what is missing from a recipe that is printed by: {_BEGIN} NAME"
        )
    try:
        return Recipe(**fields)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def load(path: Path, what: str) -> dict[str, Any]:
    """The tables in a TOML file.

    Args:
        path: The file.
        what: What it should hold, for the message.

    Raises:
        RecipeError: It cannot be read, is too large, or is no TOML.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        refused = RecipeError(f"{path} cannot be read ({error.strerror or error})")
        refused.wrong_use = isinstance(error, FileNotFoundError)
        raise refused from error
    if len(text) > LARGEST:
        raise RecipeError(f"{path} is larger than {LARGEST:,} bytes; that is no {what}")
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"{path} is no TOML: {str(error) or 'nested too deeply'}; correct it there"
        ) from error


def _quantizer(where: str, given: Any) -> Quantizer:
    if not isinstance(given, dict):
        raise RecipeError(f"{where} is a table such as {{format = 'int4', scale = 'sawb'}}, not {given!r}")
    known(where, given, [*_OF_QUANTIZER])
    for key in ("format", "scale"):
        if key not in given:
            raise RecipeError(f"{where} has no {key}")
    fields = {key: checked(f"{where}.{key}", value, _OF_QUANTIZER[key]) for key, value in given.items()}
    if "phase" in fields:
        if fields["phase"] not in PHASES:
            raise RecipeError(f"{where}.phase is one of {', '.join(PHASES)}, not {fields['phase']!r}")
        fields["phase"] = PHASES.index(fields["phase"])
    try:
        return Quantizer(**fields)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def known(where: str, given: Mapping[str, Any], keys: list[str]) -> None:
    """Refuse a key of ``given`` that is not among ``keys``; ``where`` begins the message.

    Raises:
        RecipeError: There is one.
    """
    for key in given:
        if key not in keys:
            raise RecipeError(f"{where} has no key {key!r}; there are: {', '.join(keys)}")


def checked(where: str, value: Any, kind: type) -> Any:
    """``value`` if it is of ``kind``; a whole number is a ``float``, too. ``where`` begins the message.

    Raises:
        RecipeError: It is of another type.
    """
    if kind is float and type(value) is int:
        beyond = abs(value) > sys.float_info.max
        return (math.inf if value > 0 else -math.inf) if beyond else float(value)
    if kind is list and type(value) is list:
        return value
    if type(value) is not kind:
        raise RecipeError(f"{where} is {_KINDS.get(kind, 'a list of texts')}, not {value!r}")
    return value


def write(recipe: Recipe) -> str:
    """``recipe`` as TOML text that `read` reads back to the same recipe."""
    lines = [f"{key} = {_text(getattr(recipe, key))}" for key in _SETTINGS]
    for name in QUANTIZERS:
        quantizer: Quantizer | None = getattr(recipe, name)
        if quantizer is None or recipe.arithmetic != "4-bit":
            continue
        lines += ["", f"[{name}]"]
        for field in dataclasses.fields(Quantizer):
            value = getattr(quantizer, field.name)
            if field.default is dataclasses.MISSING or value != field.default or field.name == "rounding":
                lines.append(f"{field.name} = {_text(PHASES[value] if field.name == 'phase' else value)}")
                if field.name == "format" and quantizer.scale in CLIPS:
                    lines[-1] += "  # uint4 of what cannot be negative, else int4, whichever stands here"
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    # JSON's texts, lists, numbers and booleans are TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
