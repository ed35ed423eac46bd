"""How joins are told: in lines for the screen, before work and after it."""

from typing import NamedTuple

from topkin.config.reference import as_toml, bare_or_quoted
from topkin.config.sections import ItemsSettings, Settings, UsersSettings
from topkin.ingest.joins.measure import Join, id_text
from topkin.ingest.joins.spelling import Merging, Spelling
from topkin.ingest.sql import quoted_if_needed


class JoinWords(NamedTuple):
    """How a join is told: what left and right hold, and what it is to be in the other."""

    left: str
    rows: str
    in_right: str
    right: str
    in_left: str


SHOP = "shop"
"""Stands for the column of all items: those sold and those of the catalogue."""

FAILED = {
    ("purchases.item_id", "items.item_id"): ", so that every item would be listed twice",
    ("recommend.allow", SHOP): ", so that nothing could be recommended",
}
"""What comes of a join that fails, where that is a fault by itself."""

WORDS: dict[tuple[str, str], JoinWords] = {
    ("purchases.item_id", "items.item_id"): JoinWords(
        "items sold", "purchases", "in the catalogue", "the catalogue's items", "sold"
    ),
    ("purchases.user_id", "users.user_id"): JoinWords(
        "users who bought", "purchases", "in the users' table", "the users' table's users", "buyers"
    ),
    ("heldout.item_id", "purchases.item_id"): JoinWords(
        "items held out", "held-out purchases", "sold before", "the items sold", "held out"
    ),
    ("heldout.user_id", "purchases.user_id"): JoinWords(
        "users held out", "held-out purchases", "known by a purchase", "the users who bought", "held out"
    ),
    ("heldout.item_id", "items.item_id"): JoinWords(
        "items held out", "held-out purchases", "in the catalogue", "the catalogue's items", "held out"
    ),
    ("heldout.user_id", "users.user_id"): JoinWords(
        "users held out", "held-out purchases", "in the users' table", "the users' table's users", "held out"
    ),
    ("recommend.allow", SHOP): JoinWords(
        "ids of recommend.allow", "rows", "items of the shop", "the shop's items", "allowed"
    ),
    ("recommend.deny", SHOP): JoinWords(
        "ids of recommend.deny", "rows", "items of the shop", "the shop's items", "denied"
    ),
}


def words_of(join: Join, *, mixed: bool = False) -> JoinWords:
    """The words of a join; those of events are one for all types. mixed: whether the purchases are of several types."""
    section, _, role = join.right.rpartition(".")
    if section.startswith("events."):
        what = "users who bought" if role == "user_id" else "items sold"
        words = JoinWords(what, "purchases", f"in {section}", f"those of {section}", "in the purchases")
    else:
        words = WORDS[join.left, join.right]
    if mixed and join.left.startswith("purchases."):
        left = "users of the log" if role == "user_id" else "items of the log"
        return words._replace(left=left, rows="rows", in_left="in the log")
    return words


def percent(part: int, whole: int) -> str:
    """A share in per cent; never 0 % of something, nor 100 % of not all."""
    value = 100 * part / whole if whole else 0.0
    if part and value < 0.1:
        return "below 0.1 %"
    if part != whole and value > 99.9:
        return "above 99.9 %"
    return f"{value:.1f} %" if 0 < value < 100 else f"{value:.0f} %"


def left_line(join: Join, *, mixed: bool = False) -> str:
    """The shares of left's ids and rows in words."""
    words = words_of(join, mixed=mixed)
    line = f"{percent(join.shared_ids, join.left_ids)} of the {words.left} ({join.shared_ids:,} of {join.left_ids:,}"
    if join.left_rows != join.left_ids:
        line += f", {percent(join.shared_rows, join.left_rows)} of the {words.rows}"
    return f"{line}) are {words.in_right}"


def join_line(join: Join, *, mixed: bool = False) -> str:
    """A join in one line: the shares of left's ids and rows, and of right's ids where all of left was looked at."""
    words, line = words_of(join, mixed=mixed), left_line(join, mixed=mixed)
    if join.left_whole and join.right_whole:
        line += f"; {percent(join.shared_ids, join.right_ids)} of {words.right} ({join.shared_ids:,} of "
        line += f"{join.right_ids:,}) are {words.in_left}"
    sides = ((join.left, join.left_whole, join.left_rows), (join.right, join.right_whole, join.right_rows))
    sampled = [f"{rows:,} rows of {key.partition('.')[0]}" for key, whole, rows in sides if not whole]
    if not join.shared_ids and join.left == "recommend.deny" and join.left_ids:
        line += "; none is: are they written as in items.item_id?"
    return line + (f" (a sample: {' and '.join(sampled)})" if sampled else "")


def missing_line(join: Join, rule: str, *, mixed: bool = False) -> str | None:
    """What becomes of items sold that the catalogue lacks, by ``items.missing``; None where it lacks none."""
    if not join.missing_ids or join.fails:
        return None
    such = f", such as {', '.join(join.examples)}," if join.examples else ""
    fate = {
        "list": 'may be recommended all the same (items.missing = "list"; "exclude" keeps them off the lists)',
        "exclude": 'are in histories and training, and not recommended (items.missing = "exclude")',
    }
    words = words_of(join, mixed=mixed)
    line = f"{join.missing_ids:,} of the {words.left}, {join.missing_rows:,} of {join.left_rows:,} {words.rows}{such}"
    return f"{line} are not in the catalogue: they {fate[rule]}"


def short_line(join: Join, rule: str) -> str:
    """A join in a few words, with what becomes of items that the catalogue lacks by ``items.missing``."""
    line = left_line(join)
    if (join.left, join.right) != ("purchases.item_id", "items.item_id") or not join.missing_ids:
        return line
    fate = {"list": "listed all the same", "exclude": "not recommended"}[rule]
    return f"{line}, {join.missing_ids:,} not ({join.missing_rows:,} purchases): {fate}"


def repeats_line(section: str, n: int, source: ItemsSettings | UsersSettings) -> str | None:
    """How many rows of items or users list an id again, and which of its rows counts; None where none does."""
    if not n:
        return None
    one = section[:-1]
    rows = f"1 row of {section} lists" if n == 1 else f"{n:,} rows of {section} list"
    kept = f"the {source.duplicates} row of each counts ({section}.duplicates)"
    if source.latest_by is not None:
        kept = f"the row of each with the greatest {source.latest_by} counts ({section}.latest_by)"
    return f"{rows} {'an' if one == 'item' else 'a'} {one} again: {kept}"


def lines_of_join(join: Join, settings: Settings) -> list[str]:
    """A join, what becomes of items that the catalogue lacks, and of rows that list an item or a user again."""
    mixed = bool(settings.purchases.event_weights)
    lines: list[str | None] = [join_line(join, mixed=mixed)]
    again = join.right_rows - join.right_ids
    if join.right == "items.item_id" and settings.items is not None:
        lines += [missing_line(join, settings.items.missing, mixed=mixed)] if settings.has_purchases else []
        lines.append(repeats_line("items", again, settings.items))
    if join.right == "users.user_id" and settings.users is not None:
        lines.append(repeats_line("users", again, settings.users))
    return [line for line in lines if line]


class NamedColumn(NamedTuple):
    """A column in messages: its section, the name in the file, and the expression that makes it now, if any does."""

    section: str
    column: str
    expression: str | None = None

    def setting(self, form: str) -> tuple[str, str]:
        """The key under ``normalise``, and the expression that a form makes of the column as it is."""
        inner = quoted_if_needed(self.column) if self.expression is None else self.expression
        return self.column, form.replace("{}", inner)

    def line(self, form: str) -> str:
        """The line to paste, and under which table."""
        column, expression = self.setting(form)
        again = "" if self.expression is None else " in place of the one there"
        return f"{bare_or_quoted(column)} = {as_toml(expression)} under [{self.section}.normalise]{again}"


def advice(join: Join, left: NamedColumn, right: NamedColumn, suggestion: Spelling | Merging | None) -> str:
    """What would make two columns of ids meet, to follow the line about their join; empty where nothing is known."""
    if suggestion is None:
        return ""
    if join.right == SHOP:
        return f"they differ in {suggestion.differs}: write the list with the ids as the purchases have them"
    if isinstance(suggestion, Merging):
        both = " and ".join(map(id_text, suggestion.ids))
        side = left if suggestion.side == "left" else right
        return (
            f"they differ in {suggestion.differs}, but no expression is proposed, for {both} of {side.section} would "
            "become one: give each its own id"
        )
    sides, words = {"left": left, "right": right}, words_of(join)
    lines = " and ".join(sides[side].line(form) for side, form in suggestion.changes.items())
    share = percent(int(suggestion.shared.sum()), len(suggestion.shared))
    return (
        f"they differ in {suggestion.differs}: write {lines}, by which {share} of the {words.left} are "
        f"{words.in_right}, and no two ids become one"
    )
