"""Make fourbit_onnx/data/text.npz: the English documentation of ONNX's operators.

Run ``python tools/make_text.py`` in an environment with onnx. The file in the repository was made with onnx
1.23.2. It is shipped and not read from the installed onnx because the documentation changes, also that of
old operator versions: of the 571 that onnx 1.17 and 1.23 share, 67 read differently.

An operator's text is its name, its documentation and the descriptions of its attributes, inputs and
outputs, of all versions, newest first. Blocks of code are left out, and so are paragraphs that are hardly
letters; white space becomes single spaces, a paragraph a line. The operators come in the order of the
SHA-256 of their names; the last sixth of them is the test.

Operator versions repeat each other, and so do operators (the reductions, the poolings). A paragraph is left
out if too many of its runs of 24 letters occurred before: 95 % for training; 30 % for the test, which comes
last, so that what it asks for is not what was learned by heart.
"""

import argparse
import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import defs

ROOT = Path(__file__).parents[1]
RUN = 24
REPEATED = {"train": 0.95, "test": 0.3}
COMMON = 25  # rarer characters become one symbol
RARE = "\N{REPLACEMENT CHARACTER}"
TEST = 1 / 6  # of the operators


def paragraphs(schema: defs.OpSchema) -> list[str]:
    """The documentation of one version, one line a paragraph, no code."""
    pieces = [schema.doc or ""]
    pieces += [f"{name}: {schema.attributes[name].description}" for name in sorted(schema.attributes)]
    pieces += [f"{value.name}: {value.description}" for value in (*schema.inputs, *schema.outputs)]
    found = []
    for piece in pieces:
        prose = re.sub(r"```.*?(```|$)", "\n\n", piece.replace("\r", ""), flags=re.DOTALL)
        found += [" ".join(part.split()) for part in re.split(r"\n\s*\n", prose)]
    return [part for part in found if sum(map(str.isalpha, part)) > 0.6 * len(part) and " " in part]


def new(paragraph: str, seen: set[str], repeated: float) -> bool:
    """Whether at most that share of a paragraph was ``seen``; if so, all of it is from now on."""
    text = re.sub(r"[^a-z]+", " ", paragraph.lower())
    runs = {text[start : start + RUN] for start in range(max(1, len(text) - RUN + 1))}
    if len(runs & seen) > repeated * len(runs):
        return False
    seen |= runs
    return True


def operators() -> list[tuple[str, list[str]]]:
    """Name to paragraphs of all versions, newest first, in the order of the names' hashes."""
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for schema in defs.get_all_schemas_with_history():
        found.setdefault(schema.name, []).append((schema.since_version, paragraphs(schema)))
    names = sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())
    return [(name, [line for _, lines in sorted(found[name])[::-1] for line in lines]) for name in names]


def main() -> None:
    """Collect, thin out, number the characters, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "fourbit_onnx/data/text.npz")
    output = parser.parse_args().output
    found, seen = operators(), set()
    first = round(len(found) * (1 - TEST))
    parts = {}
    for part, chosen in (("train", found[:first]), ("test", found[first:])):
        kept = [(name, [line for line in lines if new(line, seen, REPEATED[part])]) for name, lines in chosen]
        parts[part] = "\n".join("\n".join([name, *lines, ""]) for name, lines in kept if lines)
    counts = Counter(parts["train"])
    characters = sorted(character for character, count in counts.items() if count >= COMMON)
    code = {character: number for number, character in enumerate(characters)}
    coded = {
        part: np.array([code.get(character, len(characters)) for character in text], np.uint8)
        for part, text in parts.items()
    }
    np.savez_compressed(output, characters=np.array([*characters, RARE]), **coded)
    sizes = ", ".join(f"{part} {len(text):,} characters" for part, text in parts.items())
    sizes += f", {len(characters) + 1} kinds"
    print(f"onnx {onnx.__version__}: {sizes}; {output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
