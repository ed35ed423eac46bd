"""Lists beside that of [recommend]: what they take from it, and what is wrong with them in the words of their keys."""

from pathlib import Path

import pytest

from topkin.config.load import load_settings, settings_of
from topkin.config.reference import as_toml
from topkin.config.sections import Settings
from topkin.errors import ConfigError

BASE = """[purchases]
path = "p.parquet"
[items]
path = "i.parquet"
category = "c"
[items.features]
brand = "brand"
[recommend]
k = 7
max_per = {category = 2}
"""


NEW = "new_items = {{days = 9, at_least = {}}}\n"


def load(folder: Path, text: str, *sets: str, env: dict[str, str] | None = None) -> Settings:
    (folder / "topkin.toml").write_text(BASE + text)
    return load_settings(folder / "topkin.toml", sets, env or {})


def test_a_list_has_the_values_of_recommend_where_it_sets_none(tmp_path: Path) -> None:
    text = '[lists.mail]\nk = 3\nmax_per = {}\nbought = "keep"\ndeny = "d.parquet"\n[lists.plain]\n'
    text += '[lists.mail.eligible.Land]\nuser = "segment"\nitem = "brand"\n'
    settings = load(tmp_path, text, "recommend.because=1")
    mail, plain = settings.lists["mail"], settings.lists["plain"]
    assert plain.model_dump() == settings.recommend.model_dump()
    assert (mail.k, mail.max_per, mail.bought, mail.because) == (3, {}, "keep", 1)
    assert mail.deny == str(tmp_path / "d.parquet")
    assert mail.eligible["Land"].item == "brand"
    assert settings.of_list("mail").recommend == mail
    assert settings.of_list("") is settings
    assert settings.list_names == ("", "mail", "plain")
    assert Settings.model_validate(settings.model_dump(mode="json")).lists == settings.lists


def test_a_list_by_a_baseline_does_not_know_the_users_whom_the_encoder_knows_by_features(tmp_path: Path) -> None:
    users = '[users]\npath = "u.parquet"\n[users.features]\nage = "age"\n'
    mail, plain = '[lists.mail]\nmodel = "item_knn"\n', "[lists.plain]\n"
    settings = load(tmp_path, users + mail + plain)
    assert [settings.of_list(name).recommend.min_history for name in settings.list_names] == [0, 1, 0]
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
    settings = load(tmp_path, users + '[lists.mail]\nmodel = "encoder"\n' + plain, "recommend.model=item_knn")
    assert [settings.of_list(name).recommend.min_history for name in settings.list_names] == [1, 0, 1]
    asked = load(tmp_path, users + mail + "min_history = 2\n" + plain, "recommend.min_history=3")
    assert [asked.of_list(name).recommend.min_history for name in asked.list_names] == [3, 2, 3]


def test_a_list_has_the_sources_of_recommend_or_none(tmp_path: Path) -> None:
    main, mail = "recommend.model=popularity", '[lists.mail]\nmodel = "encoder"\n'
    asked = 'recommend.sources=["item_knn", "popularity"]'
    for sets in ((main,), (main, asked), (asked,)):
        settings = load(tmp_path, mail, *sets)
        assert settings.lists["mail"].sources == settings.recommend.sources != ()
    assert load(tmp_path, mail + 'sources = ["popularity", "item_knn"]\n', main, asked).lists["mail"].baseline is None
    assert load(tmp_path, mail + "sources = []\n", main, asked).lists["mail"].sources == ()


def test_what_only_times_can_give_is_off_in_every_list(tmp_path: Path) -> None:
    text = '[lists.mail]\nbought = "keep"\npersonal_due = 1.0\npersonal_recent = 2.0\n'
    mail = load(tmp_path, text, "purchases.order=row").lists["mail"]
    assert (mail.personal_due, mail.personal_recent) == (0, 0)


def test_lists_are_set_by_flags_and_the_environment(tmp_path: Path) -> None:
    env = {
        "TOPKIN_LISTS__MAIL__K": "4",
        "TOPKIN_LISTS__MAIL__ELIGIBLE__Land__USER": "segment",
        "TOPKIN_LISTS__MAIL__ELIGIBLE__Land__ITEM": "brand",
    }
    lists = load(tmp_path, "[lists.mail]\nk = 3\n", "lists.new.model=popularity", env=env).lists
    assert (lists["mail"].k, list(lists["mail"].eligible), lists["new"].baseline) == (4, ["Land"], "popularity")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[lists.mail]\nkk = 3\n", "topkin.toml:12: lists.mail.kk is not a key; did you mean lists.mail.k?"),
        ('[lists.mail]\nk = "x"\n', "topkin.toml:12: lists.mail.k takes a whole number"),
        ("[lists.mail]\nmax_per = {catgory = 1}\n", "lists.mail.max_per must name a column of items that is kept"),
        ("[lists.mail]\nmax_per = {catgory = 1}\n", "got 'catgory': did you mean 'category'?"),
        ("[lists.mail]\nmax_per = {maker = 1}\n", "items.features.maker keeps one, with learn = false"),
        ("[lists.mail]\nmax_per = {price = 1}\n", "got 'price': set items.price to its column"),
        ("[lists.Mail]\n", "small letters, digits, - and _, got 'Mail'"),
        ('[lists.mail.eligible.a]\nuser = "segment"\nitemm = "x"\n', "did you mean lists.mail.eligible.a.item?"),
        ('[lists.mail]\nmodel = "popularity"\nsearch = "index"\n', 'lists.mail.search = "index" finds items by'),
        ('[lists.mail]\nsources = ["popularity"]\n', "lists.mail.sources stand beside the encoder"),
        ('[lists.mail]\nsources = ["popularity"]\n', "got popularity where [recommend] has "),
        ('[lists.mail]\nmodel = "encoder"\nsources = ["item_knn", "popularity"]\n', "or set it to []"),
        ("[lists.mail]\ndiversity = 0.2\ncapacity = 3\n", "lists.mail.capacity gives items by the score alone"),
        ("[lists]\nmail = 3\n", "lists.mail must be a section [lists.mail] of keys, got 3"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_by_its_own_keys(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert message in str(error.value)
    assert "recommend." not in str(error.value).replace("[recommend]", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boost = {margin = 0.1}\n", "recommend.boost must name a column of items that is kept"),
        ('boost = {brand = 0.1}\n[lists.a]\nbought = "keep"\n', 'got lists.a.bought = "keep", whose bought items'),
        ("boost = {brand = 0.1}\ncapacity = 3\n", "got recommend.capacity too: drop one"),
        ("boost = {brand = 2}\n", "recommend.boost.brand takes a number from -1 to 1"),
        (NEW.format(2) + "capacity = 3\n", "best new items by the score, got recommend.capacity too: drop one"),
        (NEW.format(2) + 'bought = "keep"\n', 'got recommend.bought = "keep", whose bought items'),
        (NEW.format(8), "recommend.new_items.at_least must be at most recommend.k = 7, got 8: set a lower one"),
        (NEW.format(2) + "[lists.a]\nk = 1\n", "lists.a.new_items.at_least must be at most lists.a.k = 1, got 2"),
        ("new_items = {days = 9, at_least = 1, column = 'brand'}\n", "must name a feature of kind 'time'"),
        ("new_items = {days = 9, at_leest = 1}\n", "did you mean recommend.new_items.at_least?"),
    ],
)
def test_what_is_wrong_with_boosts_and_quotas_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert message in str(error.value)


def test_a_quota_without_times_needs_a_column(tmp_path: Path) -> None:
    since = "[items.features.since]\ncolumn = 'd'\nkind = 'time'\n"
    with pytest.raises(ConfigError, match=r"without times .*: set recommend.new_items.column to one, of kind time"):
        load(tmp_path, NEW.format(2), "purchases.order=row")
    named = load(tmp_path, NEW.format(2) + since, "purchases.order=row", "recommend.new_items.column=since")
    assert named.recommend.new_items is not None


@pytest.mark.parametrize(
    ("recommend", "fault"),
    [
        ({"bought": "boost", "cooldown_days": 5}, 'cooldown_days goes with recommend.bought = "cooldown", got "boost"'),
        ({"bought": "cooldown", "cooldown_by_category": {"tea": 5}}, "goes by items.category, which is not set"),
        ({"bought": "cooldown", "cooldown_days": 5}, ""),
    ],
)
def test_days_of_a_cooldown_that_no_list_goes_by_are_refused(
    recommend: dict[str, object], fault: str, tmp_path: Path
) -> None:
    category = "" if fault.startswith("goes by") else 'category = "kind"\n'
    keys = "".join(f"{key} = {as_toml(value)}\n" for key, value in recommend.items())
    text = f'[purchases]\npath = "p.parquet"\n[recommend]\n{keys}[items]\npath = "i.parquet"\n'
    path = tmp_path / "topkin.toml"
    path.write_text(text + category)
    if fault:
        with pytest.raises(ConfigError, match=fault):
            load_settings(path, [], {})
        path.write_text(text + 'category = "kind"\n[lists.mail]\nbought = "cooldown"\n')
    read = load_settings(path, [], {})
    recorded = Settings.model_validate(read.model_dump(mode="json")).model_copy(update={"lists": {}})
    assert settings_of(recorded.model_dump(mode="json"), "a run").recommend.bought == recommend["bought"]
