"""Images as files: what is decoded, what is resized, and rows that are neither crash nor loss."""

from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from topkin.encoding.columns import Rejections
from topkin.encoding.signature import EncoderInput
from topkin.models.encoders import image_files
from topkin.models.encoders.image_files import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
Files = list[str | bytes | None]
PNG = bytes(tf.io.encode_png(PIXELS).numpy())


def spec(*shape: int, dtype: str = "float32") -> EncoderInput:
    return EncoderInput(name="x", column="x", kind="image", dtype=dtype, shape=shape)


def read(
    values: list[str | bytes | None], wanted: EncoderInput, folder: Path | str = ""
) -> tuple[np.ndarray, list[str]]:
    rejections = Rejections(len(values))
    images = decode(pa.array(values), wanted, rejections, folder=str(folder))
    return images, rejections.reasons().to_pylist()


def test_a_file_of_the_right_size_is_its_pixels() -> None:
    images, reasons = read([PNG, PNG], spec(12, 10, 3))
    np.testing.assert_array_equal(images, [PIXELS, PIXELS])
    assert (images.dtype, reasons) == (np.float32, [])


def test_files_are_resized_as_keras_resizes_a_folder_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    dataset = keras.utils.image_dataset_from_directory(
        tmp_path, labels=None, image_size=(8, 9), batch_size=1, shuffle=False, verbose=False
    )
    images, _ = read([PNG], spec(8, 9, 3))
    np.testing.assert_allclose(images, np.concatenate(list(dataset.as_numpy_iterator())), atol=1e-3)


def test_a_model_of_whole_numbers_gets_them_rounded() -> None:
    exact, _ = read([PNG], spec(8, 9, 3))
    rounded, _ = read([PNG], spec(8, 9, 3, dtype="uint8"))
    assert rounded.dtype == np.uint8
    np.testing.assert_array_equal(rounded, np.round(exact))


def test_channels_are_those_of_the_model() -> None:
    grey, _ = read([PNG], spec(12, 10))
    assert grey.shape == (1, 12, 10)
    alpha, _ = read([PNG], spec(12, 10, 4))
    assert (alpha[..., 3] == 255).all()


@pytest.mark.parametrize("make", [tf.io.encode_jpeg, tf.io.encode_png])
def test_jpeg_and_png_are_read(make: object) -> None:
    images, reasons = read([bytes(make(PIXELS).numpy())], spec(12, 10, 3))  # type: ignore[operator]
    assert reasons == []
    assert np.abs(images - PIXELS).mean() < 60


def test_what_is_no_image_is_a_rejected_row_among_good_ones() -> None:
    broken: Files = [b"", b"text", PNG[:40], PNG[:-30] + bytes(30), b"\xff\xd8\xff" + bytes(90)]
    images, reasons = read([PNG, *broken, PNG], spec(12, 10, 3))
    np.testing.assert_array_equal(images[[0, -1]], [PIXELS, PIXELS])
    assert reasons == ["x is no image that can be decoded"] * len(broken)
    assert read(broken, spec(12, 10, 3))[1] == ["x is no image that can be decoded"] * len(broken)


def test_paths_are_read_from_the_folder_of_the_table_and_uris_from_where_they_say(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(PNG)
    paths = ["in/a.png", str(tmp_path / "in" / "a.png"), f"file://{tmp_path}/in/a.png"]
    lost = ["b.png", "in", "nowhere://x/y.png", "", "a\0b"]
    images, reasons = read([*paths, *lost, None], spec(12, 10, 3), tmp_path)
    np.testing.assert_array_equal(images[:3], [PIXELS] * 3)
    assert reasons == ["x names a file that cannot be read"] * len(lost)


def test_many_images_keep_their_rows() -> None:
    flat = [np.full((2, 2, 1), n, np.uint8) for n in range(256)] * 3
    values: Files = [bytes(tf.io.encode_png(p).numpy()) for p in flat]
    values[5] = values[300] = b"broken"
    images, reasons = read(values, spec(2, 2, 1))
    assert len(reasons) == 2
    good = np.setdiff1d(np.arange(len(values)), [5, 300])
    np.testing.assert_array_equal(images[good], np.stack(flat)[good])


@pytest.mark.parametrize("inside", [True, False])
def test_files_are_in_memory_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    monkeypatch.setattr(image_files, "STEP", 4)
    monkeypatch.setattr(image_files, "WINDOW_BYTES", 1000)
    flat = [np.full((2, 2, 1), n, np.uint8) for n in range(60)]
    files = [bytes(tf.io.encode_png(p).numpy()) for p in flat]
    assert 70 < len(files[0]) < 100
    for number, file in enumerate(files):
        (tmp_path / f"{number}.png").write_bytes(file)
    values: Files = [*files] if inside else [f"{number}.png" for number in range(60)]
    values[7], values[23] = None, b"broken" if inside else "lost.png"
    images, reasons = read(values, spec(2, 2, 1), tmp_path)
    good = np.setdiff1d(np.arange(60), [7, 23])
    np.testing.assert_array_equal(images[good], np.stack(flat)[good])
    assert len(reasons) == 1
    column, wanted = pa.array(values), np.setdiff1d(np.arange(60), [7])
    windows = list(image_files._windows(column, wanted, str(tmp_path)))
    assert np.concatenate([rows for rows, _ in windows]).tolist() == wanted.tolist()
    assert max(sum(len(file or b"") for file in held) for _, held in windows) < 1000 + 4 * 100
    assert len(windows) > 3
