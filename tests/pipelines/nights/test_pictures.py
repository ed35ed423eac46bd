"""Pictures of a page's items, from files as they lie in a shop's folder."""

import base64
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from topkin.config.sections import Settings
from topkin.errors import InputError
from topkin.models.encoders import thumbnails
from topkin.models.encoders.thumbnails import thumbnail
from topkin.pipelines.nights import pictures
from topkin.pipelines.nights.pictures import Pictures, faults
from topkin.report.pictures import png


def picture(shade: int, height: int = 300, width: int = 150) -> bytes:
    return png(np.full((height, width, 3), shade))


def settings(path: Path, image: str = "photo", **items: Any) -> Settings:
    values = {"purchases": {"path": "x"}, "items": {"path": str(path), "item_id": "sku", **items}}
    return Settings.model_validate({**values, "report": {"image": image}})


def shade_of(address: str) -> tuple[int, tuple[int, ...]]:
    kind, _, data = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    pixels = tf.io.decode_image(base64.b64decode(data)).numpy()
    return round(float(pixels.mean())), pixels.shape


def pictures_of(asked: Settings, ids: list[Any]) -> dict[Any, str]:
    reader = Pictures.of(asked)
    assert reader is not None
    return dict(reader(pa.array(ids)))


def test_paths_are_read_beside_the_file_and_data_addresses_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture(40))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inside = f"data:image/png;base64,{base64.b64encode(picture(90)).decode()}"
    values = ["photos/a.png", inside, "https://shop.example/c.png", "gone.png", "broken.png", None, "data:x;base64,?"]
    ids = list("abcdefg")
    pq.write_table(pa.table({"sku": ids, "photo": values}), tmp_path / "items.parquet", row_group_size=2)
    got = pictures_of(settings(tmp_path / "items.parquet"), ids)
    assert {item: shade_of(address) for item, address in got.items()} == {
        "a": (40, (64, 32, 3)),
        "b": (90, (64, 32, 3)),
    }


@pytest.mark.parametrize(("which", "shade"), [("first", 10), ("last", 200)])
def test_bytes_are_those_of_the_row_that_counts(tmp_path: Path, which: str, shade: int) -> None:
    for number, own in enumerate((10, 200)):
        table = pa.table({"sku": pa.array([7, 8]), "photo": [picture(own, 20, 20), None]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    got = pictures_of(settings(tmp_path, duplicates=which), [7, 8])
    assert {item: shade_of(address) for item, address in got.items()} == {7: (shade, (20, 20, 3))}


def test_no_more_are_kept_than_there_is_room_for_the_first_first(tmp_path: Path, monkeypatch: Any) -> None:
    ids = [f"i{n}" for n in range(30)]
    rng = np.random.default_rng(1)
    photos = [png(rng.integers(0, 255, (64, 64, 3))) for _ in ids]
    pq.write_table(pa.table({"sku": ids, "photo": photos}), tmp_path / "items.parquet")
    monkeypatch.setattr(pictures, "ROOM", 40_000)
    got = pictures_of(settings(tmp_path), ids[::-1])
    assert 3 < len(got) < 30
    assert sum(map(len, got.values())) <= 40_000
    assert list(got)[:3] == ids[:-4:-1]


def test_what_a_column_cannot_be_is_told_before_the_night(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sku": ["a"], "photo": [1.5]}), tmp_path / "items.parquet")
    for image, says in (("foto", "did you mean 'photo'"), ("photo", "photo is double: drop it")):
        (fault,) = faults(settings(tmp_path, image))
        assert says in str(fault)
    with pytest.raises(InputError, match=r"none are named: set items\.path"):
        Pictures.of(Settings.model_validate({"purchases": {"path": "x"}, "report": {"image": "photo"}}))
    assert faults(Settings.model_validate({"purchases": {"path": "x"}})) == []


def test_a_transparent_picture_is_shown_on_white_and_a_long_one_keeps_its_shape() -> None:
    clear = np.zeros((10, 200, 4), np.uint8)
    small = thumbnail(png(clear), 64)
    assert small is not None
    pixels = tf.io.decode_image(small).numpy()
    assert pixels.shape == (3, 64, 3)
    assert pixels.min() > 250
    assert thumbnail(b"\x89PNG\r\n\x1a\n", 64) is None
    assert thumbnail(b"", 64) is None


def test_values_that_are_no_picture_stop_no_night(tmp_path: Path) -> None:
    values = ["data:image/png;base64,é", "data:image/svg+xml,<svg onload='x()'/>", "\0", "", "/dev/zero", "photo.png"]
    (tmp_path / "photo.png").write_bytes(picture(40))
    ids = list("abcdef")
    pq.write_table(pa.table({"sku": ids, "photo": values}), tmp_path / "items.parquet")
    assert list(pictures_of(settings(tmp_path / "items.parquet"), ids)) == ["f"]


def test_files_that_lack_the_column_or_have_another_type_bring_no_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sku": ["a"], "photo": [picture(40)]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"sku": ["b"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"sku": ["c"], "photo": [1.5]}), tmp_path / "2.parquet")
    assert list(pictures_of(settings(tmp_path), list("abc"))) == ["a"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "large.png").write_bytes(picture(40))
    pq.write_table(pa.table({"sku": ["a"], "photo": ["large.png"]}), tmp_path / "items.parquet")
    assert pictures_of(settings(tmp_path), ["a"])
    monkeypatch.setattr(pictures, "FILE_BYTES", 100)
    monkeypatch.setattr("topkin.models.encoders.image_files.read_file", lambda *_: pytest.fail("it was read"))
    assert not pictures_of(settings(tmp_path), ["a"])


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp"])
def test_a_small_file_of_a_vast_picture_is_not_decoded(kind: str, monkeypatch: Any) -> None:
    vast = np.zeros((120, 80, 3), np.uint8)
    files = {
        "png": png(vast),
        "jpeg": tf.io.encode_jpeg(vast).numpy(),
        "gif": b"GIF89a" + struct.pack("<HH", 80, 120) + bytes(40),
        "bmp": b"BM" + bytes(16) + struct.pack("<ii", 80, -120) + bytes(40),
    }
    assert thumbnails.pixels_of(files[kind]) == 120 * 80
    monkeypatch.setattr(thumbnails, "MOST_PIXELS", 120 * 80 - 1)
    assert thumbnail(files[kind], 64) is None


@pytest.mark.parametrize(
    ("chunk", "payload"),
    [
        (b"VP8 ", bytes(10) + struct.pack("<HH", 80, 120)),
        (b"VP8L", bytes(4) + b"\x2f" + struct.pack("<I", 79 | 119 << 14)),
        (b"VP8X", bytes(8) + (79).to_bytes(3, "little") + (119).to_bytes(3, "little")),
    ],
)
def test_a_webp_says_its_size(chunk: bytes, payload: bytes) -> None:
    assert thumbnails.pixels_of(b"RIFF" + bytes(4) + b"WEBP" + chunk + payload + bytes(20)) == 120 * 80


def test_files_that_go_after_they_were_looked_at_are_told_and_stop_no_report(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"sku": ["a"], "photo": [picture(40)]}), path)
    reader = Pictures.of(settings(path))
    assert reader is not None
    path.write_bytes(path.read_bytes()[:-20])
    assert reader(pa.array(["a"])) == {}
    assert "others could not be read: items: " in reader.note
    assert str(path) in reader.note
