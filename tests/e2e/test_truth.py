"""The generated shop knows what each customer would like best: are the lists right, and not only there?"""

import duckdb
import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The demo's shop, all of it, and the run that the demo makes of it."""
    folder = tmp_path_factory.mktemp("truth")
    shop = Shop()
    shop.write(str(folder / "shop"))
    config = folder / "topkin.toml"
    config.write_text(shop.config_toml("shop"))
    return folder, run_all(load_settings(config, env={}), as_of=shop.as_of)


def test_the_model_finds_planted_tastes_three_times_as_often_as_popularity(shop):
    folder, run = shop
    model, popular = duckdb.sql(f"""
        with best as (from read_parquet('{folder}/shop/truth/best.parquet') where rank <= 20),
        users as (select distinct user_id from read_parquet('{run.folder("prepare")}/histories/*.parquet')
                  where len(items) > 0),
        lists as (from read_parquet('{run.folder("recommend")}/recommendations/*/*.parquet')),
        bought as (select distinct user_id, item_id from read_parquet('{run.folder("prepare")}/events/*.parquet')),
        popular as (
            select user_id, item_id from users cross join (from '{run.folder("prepare")}/catalogue.parquet')
            anti join bought using (user_id, item_id) where available
            qualify row_number() over (partition by user_id order by users desc, item_id) <= 20),
        wanted as (from best semi join users using (user_id))
        select (select count(*) from wanted semi join lists using (user_id, item_id)) / (select count(*) from wanted),
               (select count(*) from wanted semi join popular using (user_id, item_id)) / (select count(*) from wanted)
    """).fetchone()
    assert model > 3 * popular > 0


def test_the_model_is_published_above_every_baseline_on_novel_items(shop):
    _, run = shop
    metrics = storage.read_json(f"{run.folder('evaluate')}/metrics.json")
    novel = metrics["novel"]
    assert novel["model"]["recall@10"] > 3 * novel["popularity"]["recall@10"]
    assert metrics["verdict"]["good"] is True
    assert all(metrics["beats"].values())


def test_items_never_sold_have_neighbours_of_their_own_category(shop):
    _, run = shop
    own, pairs = duckdb.sql(f"""
        with catalogue as (from '{run.folder("prepare")}/catalogue.parquet'),
        near as (from read_parquet('{run.folder("similar")}/similar_items/*.parquet') where rank <= 5)
        select sum((a.category = b.category)::int), count(*) from near
        join catalogue a using (item_id) join catalogue b on b.item_id = neighbour_id
        where a.events = 0 and a.category is not null and b.category is not null
    """).fetchone()
    assert pairs > 100
    assert own / pairs > 0.9


def test_items_never_sold_reach_the_lists(shop):
    _, run = shop
    (listed,) = duckdb.sql(f"""
        select count(distinct item_id) from read_parquet('{run.folder("recommend")}/recommendations/*/*.parquet')
        semi join (from '{run.folder("prepare")}/catalogue.parquet' where events = 0) using (item_id)
    """).fetchone()
    assert listed > 0


def test_the_index_answers_as_exact_search_does(shop):
    _, run = shop
    recall = storage.read_json(f"{run.folder('index')}/index.json")["recall"]
    assert recall["recall@10"] > 0.98
