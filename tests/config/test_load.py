"""What a configuration file, the environment and --set come to, and what is said of a wrong one."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from topkin.config.load import load_settings
from topkin.config.reference import as_toml, keys
from topkin.config.sections import Settings, TrainSettings
from topkin.errors import ConfigError

GOOD = '[purchases]\npath = "sales.parquet"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "topkin.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str, sets: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
    """What is said of a configuration, the folder's path left out."""
    with pytest.raises(ConfigError) as caught:
        load_settings(written(folder, text), sets, env or {})
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "")


def test_defaults_hold_where_the_file_is_silent(tmp_path: Path) -> None:
    loaded = load_settings(written(tmp_path, GOOD), env={})
    expected = Settings(
        purchases={"path": str(tmp_path / "sales.parquet")}, run={"output": str(tmp_path / "topkin-out")}
    )
    assert loaded == expected


def test_set_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "[train]\nepochs = 1\ndim = 8\npatience = 5\n")
    loaded = load_settings(path, ["train.epochs=3"], {"TOPKIN_TRAIN__EPOCHS": "2", "TOPKIN_TRAIN__DIM": "16"})
    assert (loaded.train.epochs, loaded.train.dim, loaded.train.patience) == (3, 16, 5)


def test_the_last_of_two_sets_wins(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, GOOD), ["train.dim=8", "train.dim=9"], {}).train.dim == 9


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    load_settings(written(tmp_path, GOOD), env={"TOPKIN_TRACEBACK": "1", "HOME": "/", "TOPKIN": "x"})


def test_paths_of_the_file_are_relative_to_it_and_those_of_flags_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    text = (
        '[run]\noutput = "../out"\n[purchases]\npath = "gs://bucket/a.parquet"\n[items]\npath = "/abs/i.parquet"\n'
        '[users]\npath = "users/*.parquet"\n[recommend]\nallow = "allow.parquet"\n'
    )
    folder = tmp_path / "config"
    folder.mkdir()
    loaded = load_settings(written(folder, text), ["recommend.deny=deny.parquet"], {"TOPKIN_USERS__PATH": "u.parquet"})
    assert loaded.run.output == str(tmp_path / "out")
    assert loaded.purchases.path == "gs://bucket/a.parquet"
    assert loaded.items is not None
    assert loaded.items.path == "/abs/i.parquet"
    assert loaded.users is not None
    assert loaded.users.path == str(here / "u.parquet")
    assert loaded.recommend.allow == str(folder / "allow.parquet")
    assert loaded.recommend.deny == str(here / "deny.parquet")


def test_a_path_that_looks_like_a_number_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(written(tmp_path, GOOD), ["purchases.path=2011"], {}).purchases.path == str(tmp_path / "2011")


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    loaded = load_settings(written(tmp_path, '[purchases]\npath = "~/sales.parquet"\n'), env={})
    assert loaded.purchases.path == "/home/someone/sales.parquet"


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("train.epochs=3", "epochs", 3),
        ("train.patience=4", "patience", 4),
        ("train.half_life_days=2.5", "half_life_days", 2.5),
    ],
)
def test_values_are_read_as_toml(tmp_path: Path, text: str, key: str, expected: object) -> None:
    assert getattr(load_settings(written(tmp_path, GOOD), [text], {}).train, key) == expected


def test_keys_of_a_section_inside_another_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "[train]\nadvanced.folds = 3\n[train.advanced]\nlogq = 1\ntemperature = 1\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(path, env={})
    path = written(tmp_path, GOOD + "[train.advanced]\nlogq = 1\ntemperature = 1\nfolds = 3\n")
    loaded = load_settings(path, ["train.advanced.logq=0.5"], {"TOPKIN_TRAIN__ADVANCED__FOLDS": "5"})
    assert (loaded.train.advanced.logq, loaded.train.advanced.temperature, loaded.train.advanced.folds) == (0.5, 1.0, 5)
    assert loaded.train.advanced.svd_rank == 512
    large = load_settings(path, ["train.preset=large"], {})
    assert (large.train.dim, large.train.advanced.svd_rank, large.train.advanced.folds) == (384, 1024, 3)


def test_lists_tables_and_bare_texts_can_be_set(tmp_path: Path) -> None:
    sets = [
        "evaluate.k=[1, 10]",
        'recommend.cooldown_by_category."Home & Garden"=3',
        "recommend.search=index",
        "purchases.rules.positive=quantity > 0 and price = 1",
        'purchases.normalise={ item_id = "upper(item_id)" }',
    ]
    cooldown = '[items]\npath = "items.parquet"\ncategory = "kind"\n[recommend]\nbought = "cooldown"\n'
    loaded = load_settings(written(tmp_path, GOOD + cooldown), sets, {})
    assert loaded.evaluate.k == (1, 10)
    assert loaded.recommend.cooldown_by_category == {"Home & Garden": 3}
    assert loaded.recommend.search == "index"
    assert loaded.purchases.rules == {"positive": "quantity > 0 and price = 1"}
    assert loaded.purchases.normalise == {"item_id": "upper(item_id)"}


def test_names_of_the_users_own_keep_their_case_in_variables(tmp_path: Path) -> None:
    env = {"TOPKIN_PURCHASES__RULES__No_Price": "price > 0"}
    assert load_settings(written(tmp_path, GOOD), env=env).purchases.rules == {"No_Price": "price > 0"}


@pytest.mark.parametrize("name", ["123", "1e5", "true", "2011-11-09", "[a]", '"quoted"'])
def test_a_column_may_be_called_like_a_number_or_a_date(tmp_path: Path, name: str) -> None:
    loaded = load_settings(written(tmp_path, GOOD), [f"purchases.user_id={name}"], {})
    assert loaded.purchases.user_id == name.strip('"')


def test_an_empty_value_takes_the_key_away(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + '[items]\npath = "i.parquet"\ntitle = "name"\n[run]\noutput = "x"\n')
    loaded = load_settings(path, ["items.title=", "run.output="], {})
    assert loaded.items is not None
    assert loaded.items.title is None
    assert loaded.run.output == str(tmp_path / "topkin-out")


@given(epochs=st.integers(1, 10**6), rate=st.floats(1e-6, 1), column=st.text(min_size=1, max_size=20))
@hypothesis_settings(max_examples=50)
def test_what_is_written_as_toml_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, epochs: int, rate: float, column: str
) -> None:
    text = (
        f"[train]\nepochs = {as_toml(epochs)}\nlearning_rate = {as_toml(rate)}\n"
        f"[purchases]\npath = '/s'\nuser_id = {as_toml(column)}\nrules = {as_toml({column: 'true'})}\n"
    )
    loaded = load_settings(written(tmp_path_factory.mktemp("c"), text), env={})
    assert (loaded.train.epochs, loaded.train.learning_rate) == (epochs, rate)
    assert loaded.purchases.user_id == column
    assert loaded.purchases.rules == {column: "true"}


@given(st.sampled_from(sorted(keys())))
@hypothesis_settings(max_examples=60)
def test_any_misspelt_key_names_the_right_one(tmp_path_factory: pytest.TempPathFactory, dotted: str) -> None:
    key = keys()[dotted]
    misspelt = key.name + "x"
    folder = message(tmp_path_factory.mktemp("c"), GOOD, (f"{key.section}.{misspelt}=1",))
    assert f"{key.section}.{misspelt} is not a key; did you mean {dotted}?" in folder


def test_a_missing_file_is_answered_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*none\.toml: topkin init PURCHASES\.parquet"):
        load_settings(tmp_path / "none.toml")


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a file, .* is a folder"):
        load_settings(tmp_path)


def test_a_file_that_is_not_text_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "topkin.toml"
    path.write_bytes(b"[purchases]\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"topkin\.toml:2: .* must be UTF-8, got byte 0xe9"):
        load_settings(path)


def test_broken_toml_is_shown_with_its_line(tmp_path: Path) -> None:
    text = message(tmp_path, GOOD + "[train]\nepochs = three\n")
    cure = "a value is a number, true, false, a list, a table or a text in quotes"
    assert text == f"topkin.toml:4: not TOML: Invalid value: {cure}\n    epochs = three"


def test_toml_that_ends_too_early_is_shown_with_its_last_line(tmp_path: Path) -> None:
    assert message(tmp_path, GOOD + "[train]\nepochs =").startswith("topkin.toml:4: not TOML: ")


def test_everything_wrong_is_said_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = (
        GOOD + 'userid = "x"\n[train]\nepochs = "3"\nadvanced.temperature = 0\n[recomend]\nk = 3\n'
        '[recommend]\nsearch = "indx"\ndim = 3\nk = true\nsources = ["popularity", "item_knm"]\n'
        '[evaluate]\nk = [5, 0]\n[purchases.rules]\npaid = ""\n'
    )
    assert message(tmp_path, text, ("similar.items=x",), {"TOPKIN_INDEX__EF": "3"}).splitlines() == [
        '--set similar.items: similar.items takes a whole number of at least 0, got "x"; it means: Neighbours per item',
        "TOPKIN_INDEX__EF: index.ef is not a key; did you mean index.ef_search?",
        "topkin.toml:3: purchases.userid is not a key; did you mean purchases.user_id?",
        'topkin.toml:5: train.epochs takes a whole number of at least 0, got "3"; write it without quotes',
        "topkin.toml:6: train.advanced.temperature takes a number from 0.01 to 100, got 0",
        "topkin.toml:7: [recomend] is not a section; did you mean [recommend]?",
        'topkin.toml:10: recommend.search takes one of "exact", "index", got "indx"; did you mean "index"?',
        "topkin.toml:11: recommend.dim is not a key; did you mean train.dim?; [recommend] takes "
        "k, model, sources, search, bought, personal, personal_repeat, personal_recent, personal_due, personal_fade, "
        "cooldown_days, cooldown_by_category, allow, allow_column, deny, deny_column, min_history, because, columns, "
        "max_per, diversity, boost, valid_from, valid_to, not_shown_nights, capacity",
        "topkin.toml:12: recommend.k takes a whole number of at least 1, got true",
        f'topkin.toml:13: recommend.sources takes {keys()["recommend.sources"].takes}, got ["popularity", "item_knm"]; '
        'did you mean "item_knn"?',
        "topkin.toml:15: evaluate.k takes a list, each a whole number of at least 1, got [5, 0]",
        'topkin.toml:17: purchases.rules.paid takes a text that is not empty, got ""',
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "topkin.toml: section [purchases] is missing; it needs path"),
        ("[purchases]\n", "topkin.toml:1: purchases.path is missing; it takes a text: A Parquet file, a folder"),
        ("epochs = 3\n" + GOOD, "topkin.toml:1: epochs is not a section; did you mean train.epochs?"),
        ("train = 4\n" + GOOD, "topkin.toml:1: train must be a section [train] of keys, got 4"),
        ("zebra = 4\n" + GOOD, "topkin.toml:1: zebra is not a section; sections are run, purchases, items"),
        (GOOD + "rules = 'a > 0'\n", "topkin.toml:3: purchases.rules takes a table of names, each with a text"),
        (GOOD + "user_id = 'sku'\nitem_id = 'sku'\n",
         "user_id and item_id must name two columns, got 'sku' for both: name the column with who bought"),
        (GOOD + "[heldout]\npath = 'h'\nuser_id = 'item_id'\n", "must name two columns, got 'item_id' for both"),
        (GOOD + "[publish]\nmetric = 'ndcg@7'\n", "publish.metric must be one of recall, precision, ndcg"),
        (GOOD + "[recommend]\ncooldown_by_category.toys = 0\n",
         "topkin.toml:4: recommend.cooldown_by_category.toys takes a number above 0 and of at most 36500, got 0"),
        (GOOD + "[publish]\nmust_beat = ['popularty']\n",
         'topkin.toml:4: publish.must_beat takes a list, each one of "popularity", "recent_popularity"'),
        (GOOD + "[prepare]\nrecent_days = inf\n",
         "topkin.toml:4: prepare.recent_days takes a number above 0 and of at most 36500, got inf"),
        (GOOD + "[train.advanced]\nlogq = nan\n", "topkin.toml:4: train.advanced.logq takes a number from 0"),
        (GOOD + "[train]\nnegatives = 3\n",
         "topkin.toml:4: train.negatives is not a key; did you mean train.advanced.negatives?"),
        (GOOD + "[train.advanced]\nepoch = 3\n",
         "topkin.toml:4: train.advanced.epoch is not a key; did you mean train.epochs?"),
        (GOOD + "[train]\nadvanced = 3\n",
         "topkin.toml:4: train.advanced must be a section [train.advanced] of keys, got 3"),
        ("temperature = 3\n" + GOOD, "temperature is not a section; did you mean train.advanced.temperature?"),
        (GOOD + '[recommend]\nmodel = "item_kn"\n', '"ials", got "item_kn"; did you mean "item_knn"?'),
        (GOOD + '[recommend]\nmodel = "user_knn"\nsearch = "index"\n',
         'topkin.toml:3: recommend.search = "index" finds items by the encoder\'s vectors, got recommend.model = '
         '"user_knn", which has none: set recommend.search = "exact", or recommend.model = "encoder"'),
        (GOOD + '[recommend]\nmodel = "ials"\nbought = "boost"\npersonal = 0\n',
         'recommend.bought = "boost" adds a personal part, weighed beside the encoder\'s scores, got recommend.model = '
         '"ials": set recommend.bought = "keep" and recommend.personal = 0'),
        (GOOD + '[recommend]\nmodel = "ials"\nbought = "keep"\n', 'recommend.bought = "keep" adds a personal part'),
        (GOOD + '[recommend]\nmodel = "ials"\nbought = "keep"\npersonal = 0.5\n', "and recommend.personal = 0"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_message(tmp_path: Path, text: str, words: str) -> None:
    assert words in message(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[purchases]\npath = ""\n',
         'topkin.toml:2: purchases.path takes a text that is not empty, got ""; it means: A Parquet file, a folder of '
         'them (hive keys are columns), or a glob, such as path = "purchases.parquet"'),
        (GOOD + '[run]\noutput = ""\n', 'not empty, got ""; it means: Folder that holds the runs and the pointer to '
         'the published one; leave it out for "topkin-out"'),
        (GOOD + "[recommend]\nallow = []\n", "recommend.allow takes a text, got []; it means: Parquet with the only "
         'items that may be listed, such as allow = "allow.parquet"; leave it out for none'),
        (GOOD + '[recommend]\ndeny = ""\n', 'not empty, got ""; it means: Parquet with items that may never be listed'),
        (GOOD + '[recommend]\nvalid_from = ""\n', "when an item may first be listed; leave it out for none"),
        (GOOD + '[items]\npath = "i"\ntitle = ""\n', 'items.title takes a text that is not empty, got ""'),
        (GOOD + "[run]\nmode = 640\n", "run.mode takes a text, got 640; it means: Rights of the files that are made, "
         'in octal, such as mode = "0640"'),
        (GOOD + '[run]\nmode = "999"\n', 'got "999"; it means: Rights of the files that are made, in octal, such as'),
        (GOOD + "[run]\ntimeout = 90\n", "run.timeout takes a text, got 90; it means: Minutes or hours that a stage "
         'may take, above 0, as 90m or 6h, such as timeout = "90m"'),
        (GOOD + '[run]\ntimeout = "0.0h"\n', 'run.timeout takes a text, got "0.0h"; it means: Minutes or hours that a '
         'stage may take, above 0'),
    ],
)  # fmt: skip
def test_a_text_that_is_empty_or_wrong_is_answered_with_its_meaning_and_an_example(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in message(tmp_path, text)


def test_what_stands_for_a_missing_value_may_be_empty(tmp_path: Path) -> None:
    text = GOOD + '[items]\npath = "i"\n[encoder]\npath = "m.keras"\n[encoder.inputs.words]\nmissing = ""\n'
    encoder = load_settings(written(tmp_path, text), env={}).encoder
    assert encoder is not None
    assert encoder.inputs["words"].missing == ""


@pytest.mark.parametrize("key", ["recommend.allow", "run.output", "purchases.user_id"])
def test_a_list_in_the_place_of_a_text_is_no_name(tmp_path: Path, key: str) -> None:
    assert message(tmp_path, GOOD, (f"{key}=[]",)).startswith(f"--set {key}: {key} takes a text, got []; it means: ")


@pytest.mark.parametrize("text", ["train.epochs", "epochs=3", "train. =3", "=3", "train.epochs 3"])
def test_a_malformed_set_is_answered_with_its_form(tmp_path: Path, text: str) -> None:
    assert "--set must be section.key=value, such as --set train.epochs=3, got" in message(tmp_path, GOOD, (text,))


def test_a_set_below_a_plain_value_is_said(tmp_path: Path) -> None:
    text = message(tmp_path, GOOD, ("purchases.path.x=3",))
    assert text.startswith("--set purchases.path.x: path is not a table in ")


def test_a_value_cannot_smuggle_in_another_key(tmp_path: Path) -> None:
    text = message(tmp_path, GOOD, ("train.epochs=3\ndim = 5",))
    assert 'train.epochs takes a whole number of at least 0, got "3\\ndim = 5"' in text


def test_a_relative_name_of_the_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_settings("topkin.toml", env={}).purchases.path == os.path.join(tmp_path, "sales.parquet")


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "a = " + "{a=" * 3000 + "1" + "}" * 3000])
def test_toml_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    assert "nested deeper" in message(tmp_path, GOOD + text)


def test_values_that_are_not_utf8_are_refused_with_their_place(tmp_path: Path) -> None:
    raw = os.fsdecode(b"x\xff")
    assert "TOPKIN_RUN__OUTPUT: a value must be UTF-8, got b'x\\xff'" in message(
        tmp_path, GOOD, env={"TOPKIN_RUN__OUTPUT": raw}
    )
    assert "--set: a value must be UTF-8" in message(tmp_path, GOOD, sets=(f"run.output={raw}",))


@pytest.mark.parametrize("value", ["inf", "nan", "1e30", "0"])
def test_a_step_size_that_cannot_train_is_refused(tmp_path: Path, value: str) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text('[purchases]\npath = "p.parquet"\n')
    with pytest.raises(ConfigError, match=r"train\.learning_rate"):
        load_settings(config, [f"train.learning_rate={value}"], env={})


@pytest.mark.parametrize(("preset", "most"), [("small", 256), ("standard", 640), ("large", 1024)])
def test_vectors_of_a_preset_have_no_more_coordinates_than_it_says(preset: str, most: int) -> None:
    train = TrainSettings(preset=preset)
    prior, length = 1, 1
    assert train.svd_dim + train.next_item_dim + train.dim + prior + length == most
    assert train.advanced.svd_rank >= train.svd_dim
    assert TrainSettings(preset=preset, dim=8).dim == 8
    assert TrainSettings(preset=preset).changed(dim=8, folds=9).advanced.folds == 9
    assert TrainSettings(preset=preset).changed(folds=9).svd_dim == train.svd_dim


def test_a_section_that_an_option_misspells_is_blamed_on_the_option(tmp_path: Path) -> None:
    path = tmp_path / "topkin.toml"
    path.write_text('[purchases]\npath = "p"\n')
    with pytest.raises(ConfigError, match=r"^--set purchase.path: \[purchase\] is not a section; did you mean"):
        load_settings(path, ["purchase.path=x"], env={})
    with pytest.raises(ConfigError, match=r"^TOPKIN_PURCHASE__PATH: \[purchase\] is not a section"):
        load_settings(path, [], env={"TOPKIN_PURCHASE__PATH": "x"})
    with pytest.raises(ConfigError, match=r"^--set items.title: items.path is missing"):
        load_settings(path, ["items.title=x"], env={})
    path.write_text('[purchases]\npath = "p"\n[purchase]\n')
    with pytest.raises(ConfigError, match=r"topkin.toml:3: \[purchase\] is not a section"):
        load_settings(path, ["purchase.path=x"], env={})


def test_a_configuration_may_be_named_by_a_uri(tmp_path: Path) -> None:
    folder = tmp_path / "a shop"
    folder.mkdir()
    (folder / "topkin.toml").write_text('[purchases]\npath = "p"\n')
    loaded = load_settings((folder / "topkin.toml").as_uri(), env={})
    assert loaded.purchases.path == f"{folder}/p"
    with pytest.raises(ConfigError, match="URI such as file:///home"):
        load_settings("file:topkin.toml", env={})
    with pytest.raises(ConfigError, match=r"cannot be read: .*copy it to this machine"):
        load_settings("foo://bucket/topkin.toml", env={})


def test_paths_beside_a_configuration_in_an_object_store_keep_its_options(bucket):
    from topkin.artifacts import storage
    from topkin.artifacts.objects import uri

    storage.write_bytes(b'[run]\noutput = "../out"\n[purchases]\npath = "p.parquet"\n', f"{bucket}/night/topkin.toml")
    loaded = load_settings(f"{bucket}/night/topkin.toml?region=us-east-1", env={})
    opened, key = uri.parse(loaded.purchases.path)
    assert (key, dict(opened.options)) == ("night/p.parquet", {"region": "us-east-1"})
