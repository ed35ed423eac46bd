"""``topkin embed`` with a trained model: by flags, by the configuration, and where it is still the stage of a run."""

import json
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.models import history_encoder, save_encoder
from topkin.pipelines.cli.app import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """my_model.keras and items.parquet in the current folder."""
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((None, None, 1), name="image")
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).save("my_model.keras")
    pixels = np.arange(48, dtype=np.uint8).reshape(3, 16)
    photos = [*(row.tobytes() for row in pixels), None]
    pq.write_table(pa.table({"sku": [*"abcd"], "photo": pa.array(photos, pa.binary(16))}), "items.parquet")
    return tmp_path


FLAGS = ["--items", "items.parquet", "--id", "sku", "--input", "image=photo", "--size", "image=4x4"]


def test_it_runs_without_a_configuration_and_says_where_everything_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "topkin.toml").write_text("[broken")  # not read where flags say all
    assert main(["embed", "--encoder", "my_model.keras", *FLAGS]) == 0
    shown = capsys.readouterr()
    assert "image = photo (image of 4 x 4 x 1, float32)" in shown.err
    out = folder / "topkin-vectors"
    for line in (
        f"{out}/encoder",
        f"{out}/items   3 of 4 rows",
        f"{out}/rejects   1 rows",
        "1  image (photo) is missing",
    ):
        assert line in shown.out
    assert "rows a second on CPU (no GPU was found)" in shown.out
    assert pq.read_table(out / "items")["vector"].to_pylist() == [[7.5], [23.5], [39.5]]


def test_the_configuration_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "topkin.toml").write_text(
        '[items]\npath = "items.parquet"\nitem_id = "sku"\n[encoder]\npath = "my_model.keras"\n'
        '[encoder.inputs]\nimage = { column = "photo", kind = "image", size = [4, 4] }\n'
    )
    assert main(["embed", "--json", "-o", "out"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["read"], printed["embedded"], printed["rejects"], printed["dim"]) == (
        4,
        3,
        {"image (photo) is missing": 1},
        1,
    )
    assert printed["folder"] == str(folder / "out")
    assert main(["embed", "--json", "-o", "out", "--force", "--size", "image=2x2"]) == 3
    assert "4 bytes, column 'photo' has raw pixels of 16 bytes" in capsys.readouterr().err


def test_users_are_embedded_by_flags_and_beside_the_items(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users = history_encoder(["a", "b"], 1, kind="mean", time_gaps=False)
    inputs = keras.Input((4, 4, 1), name="image")
    items = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    save_encoder(items, "both", {"image": "photo"}, user=users, user_inputs={"items": {"kind": "history"}})
    pq.write_table(pa.table({"id": [1, 2], "bought": [["a"], None]}), "users.parquet")
    of_users = ["--users", "users.parquet", "--user-id", "id", "--input", "items=bought"]
    assert main(["embed", "--encoder", "both", "--json", *of_users]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["side"], printed["read"], printed["rejects"]) == ("users", 2, {"items (bought) is missing": 1})
    (folder / "topkin.toml").write_text(
        '[items]\npath = "items.parquet"\nitem_id = "sku"\n[users]\npath = "users.parquet"\nuser_id = "id"\n'
        '[encoder]\npath = "both"\n[encoder.user_inputs]\nitems = { column = "bought", missing = "" }\n'
    )
    assert main(["embed", "-o", "out"]) == 0
    shown = capsys.readouterr()
    assert "items = bought (history of the last 64, string, '' where missing)" in shown.err
    assert f"{folder}/out/items   3 of 4 rows" in shown.out
    assert f"{folder}/out/users   2 of 2 rows" in shown.out
    assert main(["embed", "-o", "out", "--json", "--force"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {side: printed[side]["embedded"] for side in printed} == {"items": 3, "users": 2}
    assert main(["embed", "--encoder", "both", *of_users, "--kind", "items=text"]) == 3
    assert "kind 'text' takes strings, column 'bought' is list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (
            ["--encoder", "my_model.keras"],
            "there is no configuration topkin.toml: give --encoder",
            2,
        ),
        (["--encoder", "no.keras", *FLAGS], "no.keras is not there: save the model by", 3),
        (["--encoder", "my_model.keras", *FLAGS, "--size", "image=4"], "--size must be NAME=HEIGHTxWIDTH", 2),
        (["--encoder", "my_model.keras", *FLAGS, "--input", "photo"], "--input must be NAME=VALUE, as in --input", 2),
        (["--encoder", "my_model.keras", *FLAGS, "--kind", "image=picture"], "kind takes one of", 2),
        (["--encoder", "my_model.keras", *FLAGS, "--as-of", "2024-01-01"], "--as-of is for the stages of a run", 2),
        (["--encoder", "my_model.keras", *FLAGS, "--", "--runer=x"], "there is no --runer", 2),
    ],
)
def test_wrong_use_is_answered_with_the_cure(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str, code: int
) -> None:
    assert main(["embed", *arguments]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (folder / "topkin-vectors").exists()


def test_without_a_model_it_is_the_stage_of_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "topkin.toml").write_text('[purchases]\npath = "none.parquet"\n')
    assert main(["embed"]) != 0
    assert "purchases.path: there is no file" in capsys.readouterr().err
    assert main(["embed", "--id", "sku"]) == 2
    assert "--id is for a trained model: name it by --encoder MODEL.keras, or by [encoder]" in capsys.readouterr().err
