"""Make fourbit_onnx/data/glyphs.npz: characters as bitmaps, from the fonts that matplotlib carries.

Run ``python tools/make_glyphs.py`` in an environment with matplotlib and Pillow. The file in the repository
was made with matplotlib 3.11.2, Pillow 13.0.0 and NumPy 2.4.6 on Linux x86_64; with other versions of
FreeType single grey levels may differ, which is why the bitmaps are shipped and not drawn on the user's
machine.

Each face is scaled so that its "H" is 18 pixels high. A character is drawn eight times larger (so that
hinting hardly matters), centred by its bounding box (so that where it stands on the line does not tell
which it is), and averaged over 8x8 cells to 32x32 pixels.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]

# Digits, capitals without O (in some faces the same as zero), and the small letters of another shape than
# their capitals.
CHARACTERS = "0123456789ABCDEFGHIJKLMNPQRSTUVWXYZabdefghnqrt"
FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)
SIZE, CAP, FINER = 32, 18, 8


def font_of(face: str) -> ImageFont.FreeTypeFont:
    """The face at the size at which its H is CAP * FINER pixels high, as nearly as whole sizes allow."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    path = str(folder / f"{face}.ttf")

    def height(size: int) -> int:
        _, top, _, bottom = ImageFont.truetype(path, size).getbbox("H")
        return int(bottom - top)

    size = min(range(120, 320), key=lambda size: abs(height(size) - CAP * FINER))
    return ImageFont.truetype(path, size)


def draw(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray:
    """One character, (SIZE, SIZE) uint8, 255 inside."""
    side = SIZE * FINER
    canvas = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(canvas).text((side // 2, side // 2), character, fill=255, font=font)
    left, top, right, bottom = canvas.getbbox()
    if right - left > side or bottom - top > side:
        raise SystemExit(f"{font.getname()} {character!r} is {right - left}x{bottom - top}, over {side}")
    left, top = (left + right - side) // 2, (top + bottom - side) // 2
    image = canvas.crop((left, top, left + side, top + side))
    cells = np.asarray(image, np.uint32).reshape(SIZE, FINER, SIZE, FINER).sum((1, 3))
    return ((cells + FINER * FINER // 2) // (FINER * FINER)).astype(np.uint8)


def main() -> None:
    """Draw every character of every face."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "fourbit_onnx/data/glyphs.npz")
    output = parser.parse_args().output
    fonts = [font_of(face) for face in FACES]
    bitmaps = np.stack([np.stack([draw(font, character) for character in CHARACTERS]) for font in fonts])
    np.savez_compressed(output, bitmaps=bitmaps, faces=np.array(FACES), characters=np.array(list(CHARACTERS)))
    print(f"{output}: {bitmaps.shape}, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
