"""SHA-256 of files and of fields: what is read is what was written."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def of_file(path: Path) -> str:
    """That of the bytes of a file, read in a stream.

    Raises:
        OSError: It cannot be read.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def of_fields(fields: Mapping[str, Any]) -> str:
    """That of fields of JSON, however they are laid out in a file."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
