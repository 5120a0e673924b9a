import builtins
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fourbit_onnx.data import files, images
from fourbit_onnx.errors import DataError

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (6, 4, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 4, 5, 3), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def classes(folder, pixels=GREY, suffix="png"):
    """Two of "cat", one of "dog", in an order of writing that is not that of names."""
    save(folder / "dog" / f"1.{suffix}", pixels[2])
    save(folder / "cat" / f"b.{suffix}", pixels[1])
    save(folder / "cat" / f"a.{suffix}", pixels[0])


@pytest.mark.parametrize("suffix", ["png", "bmp", "pgm", "PNG"])
def test_grey_images(tmp_path, suffix):
    classes(tmp_path, suffix=suffix)
    got = images.read_folder(tmp_path, names=("x", "y"))
    assert got["x"].dtype == np.float32
    np.testing.assert_array_equal(got["x"], GREY[:3, None] / np.float32(255))
    assert got["y"].dtype == np.int64
    assert got["y"].tolist() == [0, 0, 1]
    assert images.classes(tmp_path) == ["cat", "dog"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm"])
def test_colour_images(tmp_path, suffix):
    classes(tmp_path, COLOUR, suffix)
    got = images.read_folder(tmp_path)
    np.testing.assert_array_equal(got["image"], COLOUR[:3].transpose(0, 3, 1, 2) / np.float32(255))


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp"])
def test_lossy_images(tmp_path, suffix):
    flat = np.full((8, 8, 3), 128, np.uint8)
    save(tmp_path / "a" / f"1.{suffix}", flat)
    got = images.read_folder(tmp_path)["image"]
    assert got.shape == (1, 3, 8, 8)
    # a flat grey survives both formats within two levels of rounding
    np.testing.assert_allclose(got, 128 / 255, atol=2 / 255)


def test_grey_and_colour_together_are_colour(tmp_path):
    save(tmp_path / "a" / "1.png", GREY[0])
    save(tmp_path / "a" / "2.png", COLOUR[1])
    Image.fromarray(COLOUR[2]).quantize(200).save(tmp_path / "a" / "3.png")  # a palette
    got = images.read_folder(tmp_path)["image"]
    for channel in range(3):
        np.testing.assert_array_equal(got[0, channel], GREY[0] / np.float32(255))
    np.testing.assert_array_equal(got[1], COLOUR[1].transpose(2, 0, 1) / np.float32(255))
    assert got.shape == (3, 3, 4, 5)


def test_black_and_white(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY[0] > 127).save(tmp_path / "a" / "1.png")
    np.testing.assert_array_equal(images.read_folder(tmp_path)["image"][0, 0], GREY[0] > 127)


def test_train_and_test(tmp_path):
    classes(tmp_path / "train")
    save(tmp_path / "test" / "dog" / "9.png", GREY[3])
    assert images.read_folder(tmp_path)["labels"].tolist() == [0, 0, 1]
    got = images.read_folder(tmp_path, "test")
    assert got["labels"].tolist() == [1]  # the classes are those of train
    np.testing.assert_array_equal(got["image"][0, 0], GREY[3] / np.float32(255))
    assert files.has_parts(tmp_path)
    assert not files.has_parts(tmp_path / "train")
    np.testing.assert_array_equal(files.open_data(tmp_path, ("x", "y"), split="test")["x"], got["image"])


def test_hidden_files_are_passed_over(tmp_path):
    classes(tmp_path)
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db"):
        (tmp_path / name).write_bytes(b"?")
    assert len(images.read_folder(tmp_path)["labels"]) == 3


def refusal(folder, **options):
    with pytest.raises(DataError) as caught:
        images.read_folder(folder, **options)
    return str(caught.value).replace(str(folder), "DIR")


def test_sizes_that_differ(tmp_path):
    classes(tmp_path)
    save(tmp_path / "dog" / "2.png", GREY[3].T.copy())
    assert refusal(tmp_path) == (
        "images differ in size: DIR/cat/a.png is 5x4, DIR/dog/2.png is 4x5; resize them, such as with "
        "ImageMagick: mogrify -resize 5x4! FILES"
    )


def test_what_is_no_class(tmp_path):
    classes(tmp_path)
    (tmp_path / "list.txt").touch()
    assert refusal(tmp_path).startswith("DIR/list.txt is beside the folders of the classes; move it")
    (tmp_path / "list.txt").rename(tmp_path / "cat" / "list.txt")
    assert refusal(tmp_path) == (
        "DIR/cat/list.txt is no image of a known kind (.png, .jpg, .jpeg, .bmp, .pgm, .ppm, .webp); convert "
        "it or move it away"
    )


def test_what_is_missing(tmp_path):
    (tmp_path / "cat").mkdir()
    assert refusal(tmp_path) == "DIR has no image; put the images of each class in a folder of its name"
    classes(tmp_path / "train")
    (tmp_path / "cat").rmdir()
    assert refusal(tmp_path, split="test") == "DIR has train but no test; put the images of test there"
    save(tmp_path / "test" / "bird" / "9.png", GREY[3])
    assert refusal(tmp_path, split="test") == (
        "DIR/test has a class 'bird' that DIR/train has not; rename one"
    )


@pytest.mark.parametrize("size", [0, 1, 20, 40, 60])
def test_damaged(tmp_path, size):
    classes(tmp_path)
    path = tmp_path / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(tmp_path).startswith(
        ("DIR/dog/1.png is no readable PNG file; replace it", "DIR/dog/1.png is damaged (")
    )


def test_another_format_under_the_name(tmp_path):
    """Only the reader that the name stands for is tried, not all that Pillow has."""
    classes(tmp_path)
    Image.fromarray(GREY[0]).save(tmp_path / "dog" / "2.png", format="GIF")
    assert refusal(tmp_path) == "DIR/dog/2.png is no readable PNG file; replace it"


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("RGBA", "has transparent pixels; save it without an alpha channel"),
        ("LA", "has transparent pixels; save it without an alpha channel"),
        ("I;16", "has pixels of mode I;16; save it as grey or RGB with 8 bits a channel"),
    ],
)
def test_pixels_that_do_not_fit(tmp_path, mode, sentence):
    (tmp_path / "a").mkdir()
    Image.new(mode, (4, 5)).save(tmp_path / "a" / "1.png")
    assert refusal(tmp_path) == f"DIR/a/1.png {sentence}"


def png_head(width, height):
    """A PNG that claims a size: signature and header, no pixel."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


@pytest.mark.parametrize("side", [4097, 12_000, 60_000])
def test_claims_of_many_pixels(tmp_path, side):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(png_head(side, side))
    assert refusal(tmp_path) in (
        f"DIR/a/1.png has {side}x{side} pixels, more than 16,777,216; resize it",
        "DIR/a/1.png has more than 16,777,216 pixels; resize it",
    )


def test_memory_is_counted_before_it_is_taken(tmp_path, monkeypatch):
    classes(tmp_path)
    monkeypatch.setattr(images, "_decode", None)
    wanted = 4 * 3 * 4 * 5
    assert refusal(tmp_path, limit=wanted - 1).startswith("DIR would take ")
    with pytest.raises(TypeError):  # one byte more, and it would decode
        images.read_folder(tmp_path, limit=wanted)


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    inside, outside = tmp_path / "data", tmp_path / "private"
    classes(inside)
    save(outside / "secret.png", GREY[4])
    link = inside / "cat" / "c.png"
    link.symlink_to(outside / "secret.png")
    assert refusal(inside) == (
        "DIR/cat/c.png is a link out of DIR, which is not followed; put a copy in its place"
    )
    link.unlink()
    (inside / "fox").symlink_to(outside)
    assert refusal(inside).startswith("DIR/fox is a link out of DIR")
    (inside / "fox").unlink()
    link.symlink_to(inside / "cat" / "a.png")
    assert len(images.read_folder(inside)["labels"]) == 4


def test_says_what_to_install(tmp_path, monkeypatch):
    classes(tmp_path)
    real = builtins.__import__

    def without(name, *args, **options):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refusal(tmp_path) == (
        "Pillow, which reads images, is not installed; add it with: pip install pillow (the extra 'images')"
    )


def test_parts_have_the_same_classes(tmp_path):
    for part in ("one", "two"):
        classes(tmp_path / part)
    files.check_together(tmp_path / "one", tmp_path / "two")
    save(tmp_path / "two" / "ant" / "1.png", GREY[3])
    with pytest.raises(DataError, match=r"have not the same classes: 'ant' is in one of them only; put both"):
        files.check_together(tmp_path / "one", tmp_path / "two")


def test_one_image_is_no_data(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    with pytest.raises(DataError, match=r"a\.png is one file of several; give its folder, "):
        files.open_data(tmp_path / "a.png")
    assert refusal(tmp_path).startswith("DIR/a.png is beside the folders of the classes; move it")
