"""Which column of a stranger's table is which, inferred from names, types and a sample of the values.

Every answer comes with its reason; nothing is inferred that neither name nor content speaks for.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import canonical_type, decoded, value_kind
from topkin.errors import ConfigError, InputError
from topkin.ingest.inference.available import NEGATIVE_WORDS, availability
from topkin.ingest.readers import ROLES
from topkin.ingest.sql import MAX_DIGITS, literal, nearest, number_form, query, quoted_if_needed
from topkin.ingest.values.inference import id_content, id_normalising, number_content, time_content, time_normalising
from topkin.ingest.values.text_numbers import text_numbers

KEY_WORDS: dict[str, tuple[str, ...]] = {
    "user_id": ("user", "customer", "cust", "client", "member", "account", "visitor", "buyer", "shopper", "household",
                "person", "profile", "reviewer", "subscriber", "uid", "guest", "patient", "loyalty", "card", "patron",
                "listener", "viewer", "reader", "borrower", "consumer", "contact", "email", "mail", "hshd", "kunde",
                "kunden", "kundennr", "klant", "cliente", "usuario", "utente", "utilisateur", "acheteur", "klient"),
    "item_id": ("item", "product", "sku", "stock", "article", "asin", "isbn", "upc", "ean", "gtin", "movie", "track",
                "song", "book", "game", "course", "business", "listing", "material", "variant", "venue", "goods",
                "artist", "offer", "prod", "iid", "pid", "plu", "barcode", "episode", "show", "video",
                "content", "catalog", "artikel", "artikelnr", "produkt", "produit", "producto", "prodotto", "produto",
                "articulo", "articolo", "artigo", "materialnr"),
    "timestamp": ("timestamp", "datetime", "time", "date", "ts", "when", "at", "day", "dt", "datum",
                  "zeit", "zeitpunkt", "bestelldatum", "kaufdatum", "rechnungsdatum", "belegdatum", "verkaufsdatum",
                  "fecha", "data", "tag", "jour", "month", "week", "quarter", "period", "monat", "woche"),
    "quantity": ("quantity", "qty", "units", "pieces", "count", "num", "pcs", "copies", "packs", "menge", "anzahl",
                 "stueck", "stuck", "stuckzahl", "stueckzahl", "cantidad", "quantite", "quantita", "quantidade",
                 "aantal", "ilosc"),
    "price": ("price", "cost", "amount", "amt", "value", "paid", "revenue", "sales", "rrp", "msrp", "preis",
              "einzelpreis", "stuckpreis", "stueckpreis", "listenpreis", "verkaufspreis", "prix", "precio", "prezzo",
              "preco", "prijs", "cena", "betrag", "montant", "importe"),
    "segment": ("segment", "country", "region", "market", "nation", "territory", "state", "city", "channel", "tier",
                "land", "pays", "pais", "paese"),
    "title": ("title", "name", "description", "label", "desc", "text", "bezeichnung", "artikelbezeichnung",
              "titel", "titre", "titulo", "titolo", "produktname", "artikelname", "nom", "nombre", "nome", "naam"),
    "category": ("category", "department", "dept", "section", "aisle", "genre", "genres", "class", "group", "type",
                 "family", "cat", "collection", "shelf", "subject", "subcategory", "division", "warengruppe",
                 "artikelgruppe", "produktgruppe", "kategorie", "categorie", "categoria", "rayon", "famille",
                 "brand", "vendor"),
    "available": ("available", "availability", "stock", "active", "enabled", "sellable", "buyable", "listed",
                  "visible", "published", "inventory", "print", "status", "state", "product",
                  "lagerbestand", "bestand", "verfugbar", "verfuegbar", "aktiv", "disponible", "voorraad"),
}  # fmt: skip
CONTRARY_WORDS: dict[str, tuple[str, ...]] = {
    "user_id": ("invoice", "order", "session", "basket", "transaction", "line", "row", "receipt", "name", "segment",
                "group", "agent", "country", "type", "is", "kundenname", "kundengruppe"),
    "item_id": ("invoice", "order", "session", "basket", "transaction", "line", "row", "receipt", "name", "title",
                "description", "category", "price", "quantity", "type", "group", "brand", "vendor", "parent", "quote",
                "status", "state", "condition"),
    "timestamp": ("birth", "birthday", "updated", "modified", "expiry", "expires", "cancelled", "canceled",
                  "refunded", "returned", "loaded", "synced", "ingested", "extracted", "inserted", "estimated", "due",
                  "first", "previous", "last", "zone", "limit", "signup", "geburtsdatum", "anderungsdatum",
                  "nascimento", "nacimiento", "naissance"),
    "quantity": ("id", "rating", "canceled", "cancelled", "refunded", "returned", "invoiced", "shipped", "backordered"),
    "price": ("id", "rating", "total", "discount", "tax", "compare", "shipping", "freight", "refunded"),
    "segment": ("id", "fulfillment", "fulfilment", "shipment", "payment"),
    "title": ("id", "user", "customer", "category", "brand"),
    "category": ("count",),
    "available": ("out", "id", "name", "type"),
}  # fmt: skip
LATER_WORDS = {"delivery", "shipped", "shipping", "delivered", "fulfilled", "approved", "lieferdatum", "versanddatum",
               "livraison", "entrega"}  # fmt: skip
"""Words of times that are near a purchase, and are taken where there is no better."""
NOBODY = {"0", "-1", "guest", "anonymous", "none", "null", "nan", "n/a", "na", "unknown", "undefined", "(not set)", "-"}
"""Texts that stand for no id."""
ID_WORDS = {"id", "key", "code", "no", "nr", "number", "sk", "pk", "uuid"}
"""Words of a name that do not make it longer."""
PURCHASE_KEYS, ITEM_KEYS, USER_KEYS = (
    tuple(role for role in ROLES[name] if role not in ("vector", "latest_by", "order"))
    for name in ("purchases", "items", "users")
)
_OWN_ID = {"items": "item_id", "users": "user_id"}
"""The key that a column called id alone is, by section."""
REQUIRED_KEYS = ("user_id", "item_id", "timestamp")


_TIME_NAMES = {"timestamp", "datetime", "date", "time"}
_PARTS_OF_DAY = 24


@dataclass(frozen=True)
class InferredColumn:
    """A key, the column inferred for it, why, and how sure that is: said, sure, likely or a guess."""

    key: str
    column: str
    why: str
    sure: str = "sure"


@dataclass(frozen=True)
class ColumnProfile:
    """A column of a sample: its values without nulls, and how many were different or null."""

    name: str
    type: pa.DataType
    values: pa.ChunkedArray
    rows: int
    distinct: int

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return self.rows - len(self.values)

    @cached_property
    def as_time(self) -> tuple[float, str]:
        """How much the values speak for times, and why; several ask, and texts take long to read."""
        return time_content(self.values)


def profile_columns(sample: pa.Table) -> list[ColumnProfile]:
    """The profile of each column of a kind that can be read; nested columns are left out."""
    profiles = []
    for name, column in zip(sample.column_names, map(decoded, sample.columns), strict=True):
        if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
            column = column.cast(canonical_type(column.type))
        if not pa.types.is_nested(column.type):
            values = column.drop_null()
            distinct = pc.count_distinct(values).as_py() if len(values) else 0
            profiles.append(ColumnProfile(name, column.type, values, len(column), distinct))
    return profiles


def name_words(name: str) -> list[str]:
    """A column's name in lower-case words: ``CustomerID``, ``customer_id`` and ``customer id`` are the same.

    Accents are left out. The words of a field of a list's elements are the field's; ``basket[]`` is of items.
    """
    _, brackets, field = name.partition("[]")
    if brackets:
        name = f"item {field}" if set(name_words(field)) <= ID_WORDS else field
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", plain)
    return [w for w in re.split(r"[\W_]+", split.lower()) if w]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def name_score(key: str, name: str) -> float:
    """How much a name speaks for a key: 1 for the key itself, 0 for nothing, below 0 against it."""
    parts = name_words(name)
    if parts == key.split("_"):
        return 1.0
    score = 0.0
    known = {*parts, *map(_singular, parts)}
    for place, word in enumerate(KEY_WORDS[key]):
        if word in known:
            score = max(score, 0.9 - 0.01 * place - 0.05 * (len(set(parts) - ID_WORDS) - 1))
        elif any(len(word) > 3 and p.startswith(word) for p in parts) or "".join(parts) in (word + "id", word + "s"):
            score = max(score, 0.7 - 0.01 * place)
    if key == "available" and NEGATIVE_WORDS & set(parts):
        return 0.3
    if key == "category" and ID_WORDS & set(parts):
        score -= 0.2  # its name, where there is one, says more
    if any(word in parts for word in CONTRARY_WORDS[key]):
        return score - 0.8
    return score - 0.7 if key == "timestamp" and LATER_WORDS & set(parts) else score


def content_score(key: str, column: ColumnProfile, partner: pa.ChunkedArray | None = None) -> tuple[float, str]:
    """How much type and values speak for a key, 0 to 1, and why; 0 where they rule it out.

    partner: values of the same id in another table.
    """
    kind = value_kind(column.type)
    if not len(column.values):
        return 0.0, ""
    if key in ("user_id", "item_id"):
        return id_content(column.values, column.distinct, column.rows, partner)
    if key == "timestamp":
        return column.as_time
    if key in ("quantity", "price"):
        if kind != "text":
            return number_content(column.values, whole=key == "quantity")
        numbers = text_numbers(column.values)
        return (0.5, f"text, {numbers.why}") if numbers else (0.0, "")
    if key == "available":
        return availability(name_words(column.name), column.type, column.values)[:2]
    if kind != "text" and not (key in ("category", "segment") and kind == "integer"):
        return 0.0, ""
    why = f"{kind}, {column.distinct:,} different in {column.rows:,} rows"
    if key == "title":
        return (0.8 if column.distinct > 1 else 0.2), why
    is_group = 1 < column.distinct <= min(0.5 * len(column.values), 5000)  # a group has members
    return (0.8 if kind == "text" else 0.4, why) if is_group else (0.0, "")


def infer_columns(
    table: Sequence[ColumnProfile],
    wanted: Sequence[str],
    *,
    chosen: Mapping[str, str] | None = None,
    partner: pa.ChunkedArray | None = None,
    nested: Collection[str] = (),
    section: str = "purchases",
) -> list[InferredColumn]:
    """The column of each wanted key, each column at most once, best first; keys without one are left out.

    Args:
        table: the columns of a sample.
        wanted: the keys to find columns for.
        chosen: columns that the user named, by key.
        partner: values of ``item_id`` (or of ``user_id``) in another table.
        nested: further columns that the user may name, whose cure ``check`` tells.
        section: what messages call the table.

    Raises:
        ConfigError: where a chosen column is not there.
        InputError: where a required key has no column.
    """
    profiles = {column.name: column for column in table}
    prefix = "" if section == "purchases" else f"{section}."
    inferred: dict[str, InferredColumn] = {}
    for key, name in (chosen or {}).items():
        if name not in profiles and not (key in REQUIRED_KEYS and name in nested):
            raise ConfigError(
                f"--column {prefix}{key}={name}: there is no column {name!r}{nearest(name, profiles)}, the columns are "
                f"{_listed(table)}"
            )
        inferred[key] = InferredColumn(key, name, "you said so", "said")
    scored = []
    for key in wanted:
        for position, column in enumerate(table):
            by_content, why = content_score(key, column, partner if key in ("item_id", "user_id") else None)
            by_name = name_score(key, column.name)
            if not by_name and key == _OWN_ID.get(section) and set(name_words(column.name)) <= ID_WORDS:
                by_name = 0.75
            against = _against(key, column, wanted)
            if by_content > 0 and (by_name > 0 or (key == "timestamp" and by_content >= 0.8 > -by_name)):
                why = f"by its name; {why}" if by_name > 0 else why
                scored.append((2 * by_name + by_content - against, -position, key, column.name, why))
            elif by_content > 0.85 and key == "item_id":  # its values are the other table's
                scored.append((by_content, -position, key, column.name, why))
    for score, _, key, name, why in sorted(scored, reverse=True):
        used = {c.column for c in inferred.values()}
        if key not in inferred and name not in used:
            next_best = max((s for s, _, k, n, _ in scored if k == key and n not in used | {name}), default=0.0)
            inferred[key] = InferredColumn(key, name, why, _sureness(score, score - next_best))
    for key in ("user_id", "item_id"):
        if key in wanted and key not in inferred:
            used = {c.column for c in inferred.values()}
            rest = [c for c in table if c.name not in used and value_kind(c.type) != "float" and c.distinct > 20]
            rest = [c for c in rest if content_score(key, c)[0] >= 0.6 and name_score(key, c.name) >= 0]
            rest = [c for c in rest if not content_score("timestamp", c)[0]]
            if len(rest) == 1:
                why = f"{content_score(key, rest[0])[1]}; the only other column that looks like an id"
                inferred[key] = InferredColumn(key, rest[0].name, why, "a guess")
    if "timestamp" in wanted and "timestamp" not in inferred and (named := unread_time(table)):
        inferred["timestamp"] = InferredColumn("timestamp", named, "by its name; no value is read as a time", "a guess")
    missing = [key for key in wanted if key in REQUIRED_KEYS and key not in inferred]
    if missing:
        raise InputError(
            f"no column looks like {' or '.join(missing)}; say which with --column {prefix}{missing[0]}=NAME; "
            f"the columns are {_listed(table)}"
        )
    for key in REQUIRED_KEYS:  # rows without them need no rule
        named = inferred[key].column if key in inferred else None
        if named in profiles and (nulls := profiles[named].nulls):
            share = nulls / profiles[named].rows
            inferred[key] = replace(inferred[key], why=f"{inferred[key].why}; {share:.1%} null, rejected as such")
    return [inferred[key] for key in wanted if key in inferred]


def unread_time(table: Sequence[ColumnProfile]) -> str | None:
    """The column that its name calls a time, of texts or times of day that are not read as such; None for none."""
    for column in table:
        of_day, text = pa.types.is_time(column.type), value_kind(column.type) in ("text", "binary")
        if is_time_name(column.name) and (of_day or (text and column.distinct > _PARTS_OF_DAY)):
            return column.name
    return None


def is_time_name(name: str) -> bool:
    """Whether a name says that the column is the time of the purchase."""
    return bool(_TIME_NAMES & set(name_words(name))) and name_score("timestamp", name) > 0


def _against(key: str, column: ColumnProfile, wanted: Sequence[str]) -> float:
    """What speaks against a column that name and values speak for: rows without it, an item of its own in each row."""
    against = 1.5 * column.nulls / column.rows if key in REQUIRED_KEYS else 0.0
    if key == "item_id" and "user_id" in wanted and column.rows > 100 and column.distinct > 0.98 * len(column.values):
        against += 1.0  # numbers the rows
    if key == "item_id" and "user_id" not in wanted and column.distinct < 0.5 * len(column.values):
        against += 1.0  # a catalogue lists an item once
    return against


def _sureness(score: float, margin: float) -> str:
    """In words, from a score of at most 3 and what it is above the second best."""
    if score >= 2 and margin >= 0.1:
        return "sure"
    return "likely" if score >= 1.5 else "a guess"


def _listed(table: Sequence[ColumnProfile]) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in table)


@dataclass(frozen=True)
class SuggestedRule:
    """An SQL expression that the sample asks for: a rule (``key`` its reason) or what replaces a column.

    ``form`` is the expression with ``{}`` for the column, where it is about one alone.
    """

    key: str
    expression: str
    why: str
    form: str = ""

    @classmethod
    def of(cls, column: str, form: str, why: str) -> "SuggestedRule":
        """What replaces a column, from its form."""
        return cls(column, form.replace("{}", quoted_if_needed(column)), why, form)


def chained(rules: Sequence[SuggestedRule]) -> list[SuggestedRule]:
    """Expressions of which none is for the same column: a later one is of what the earlier makes, in its place."""
    by_key: dict[str, SuggestedRule] = {}
    for rule in rules:
        before = by_key.pop(rule.key, None)
        if before is not None:
            expression = rule.form.replace("{}", before.expression) if rule.form else rule.expression
            form = rule.form.replace("{}", before.form) if rule.form and before.form else ""
            rule = SuggestedRule(rule.key, expression, f"{before.why}; {rule.why}", form)
        by_key[rule.key] = rule
    return list(by_key.values())


def suggest_rules(sample: pa.Table, inferred: Sequence[InferredColumn]) -> list[SuggestedRule]:
    """Rules that reject rows of the sample that are no purchases: blank ids, nobody's, nothing sold, no price.

    sample: as ``normalise`` makes it.
    """
    names = {c.key: c.column for c in inferred}
    columns = {key: quoted_if_needed(name) for key, name in names.items()}
    kinds = {key: value_kind(sample.schema.field(name).type) for key, name in names.items()}
    tests = []  # null ids and quantities are rejected without a rule, and a purchase may have no price
    for key in ("user_id", "item_id"):
        if kinds.get(key) == "text":
            tests.append((f"blank {key[:4]}", f"trim({columns[key]}) <> ''", f"have a blank {key[:4]}"))
        if (nobody := _nobody(sample[next(c.column for c in inferred if c.key == key)])) if key in columns else ():
            rule = (
                f"{columns[key]} NOT IN ({', '.join(nobody)})" if len(nobody) > 1 else f"{columns[key]} <> {nobody[0]}"
            )
            tests.append((f"no {key[:4]}", rule, f"are of {key[:4]} {' or '.join(nobody)}, which is none"))
    for key, reason, why in (
        ("quantity", "returned or nothing sold", "have a quantity of 0 or below"),
        ("price", "no price", "have a price of 0 or below"),
    ):
        if key in columns:
            tests.append((reason, f"{columns[key]} > 0", why))
    rules: list[SuggestedRule] = []
    for reason, rule, why in tests:
        sold = f" AND {columns['quantity']} > 0" if reason == "no price" and "quantity" in columns else ""
        n_broken = _count(sample, f"({rule}) IS FALSE{sold}")
        if n_broken:
            if reason == "no price" and sample[names["price"]].null_count:
                rule = f"coalesce({rule}, true)"
            rules.append(SuggestedRule(reason, rule, f"{n_broken / len(sample):.1%} of the rows looked at {why}"))
    return rules


def _nobody(values: pa.ChunkedArray) -> list[str]:
    """The ids, as SQL, that stand for none: 0, -1, guest and the like, with far more rows than any other has."""
    kind = value_kind(values.type)
    if kind not in ("integer", "text") or not len(values):
        return []
    counts = pc.value_counts(decoded(values).drop_null().combine_chunks())
    named = [(c["values"], c["counts"]) for c in counts.take(_most(counts.field("counts"))).to_pylist()]
    none = [(v, n) for v, n in named if (v in (0, -1) if kind == "integer" else v.strip().lower() in NOBODY)]
    others = max((n for v, n in named if (v, n) not in none), default=0)
    ids = sorted(v for v, n in none if n > max(0.01 * len(values), 3 * others))
    return [literal(v) if kind == "text" else str(v) for v in ids]


def _most(counts: pa.Array) -> np.ndarray:
    """Where the greatest of some counts are."""
    return np.argsort(-np.asarray(counts), kind="stable")[: len(NOBODY) + 1]


def suggest_normalising(sample: pa.Table, inferred: Sequence[InferredColumn]) -> list[SuggestedRule]:
    """Expressions that make equal what the sample writes in several ways: case, spaces, whole floats."""
    rules = []
    for c in inferred:
        kind, column = value_kind(sample.schema.field(c.column).type), quoted_if_needed(c.column)
        is_id = c.key in ("user_id", "item_id")
        if is_id or c.key == "timestamp":
            form, why = (id_normalising if is_id else time_normalising)(sample[c.column])
            if form:
                rules.append(SuggestedRule.of(c.column, form, why))
        if c.key in ("quantity", "price"):
            rules += _suggest_number(sample[c.column], c)
        if kind != "text" or not (is_id or c.key == "title"):
            continue
        written, trimmed, upper = (_distinct(sample, e) for e in (column, f"trim({column})", f"upper(trim({column}))"))
        if is_id and 0.8 * trimmed < upper < trimmed:
            why = f"{written - upper:,} of {written:,} ids differ from another in case or spaces only"
            rules.append(SuggestedRule.of(c.column, "upper(trim({}))", why))
        elif _count(sample, f"{column} <> trim({column})"):
            why = f"some {'ids' if is_id else 'titles'} have spaces around them"
            rules.append(SuggestedRule.of(c.column, "trim({})", why))
    return rules


def _suggest_number(values: pa.ChunkedArray, inferred: InferredColumn) -> list[SuggestedRule]:
    """What makes numbers of texts, and one piece of a quantity that is null."""
    rules, values = [], decoded(values)
    if value_kind(values.type) == "text" and (numbers := text_numbers(values.drop_null())):
        rules.append(SuggestedRule.of(inferred.column, numbers.form, numbers.why))
    if pa.types.is_decimal256(values.type) and values.type.precision > MAX_DIGITS:
        why = f"a decimal of more than {MAX_DIGITS} digits, which an expression would have as text"
        rules.append(SuggestedRule.of(inferred.column, "TRY_CAST({} AS DOUBLE)", why))
    if inferred.key == "quantity" and values.null_count:
        share = values.null_count / len(values)
        form = f"coalesce({number_form(values.type)}, 1)"
        rules.append(SuggestedRule.of(inferred.column, form, f"{share:.1%} null: one piece, by this"))
    return rules


def _count(sample: pa.Table, condition: str) -> int:
    return int(query(f"SELECT count(*) AS n FROM rows WHERE {condition}", sample)["n"][0].as_py())


def _distinct(sample: pa.Table, expression: str) -> int:
    return int(query(f"SELECT count(DISTINCT {expression}) AS n FROM rows", sample)["n"][0].as_py())
