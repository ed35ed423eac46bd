"""``python -m benchmarks.faults.mistakes [WORD …]``: mistakes that readers of the pages make, each made for real.

``mistakes.toml`` lists them by page: what is done to a small shop that has a published run, and what the answer must
say. A mistake comes out right where topkin refuses it, or tells of it, in the words listed and without a traceback.
Words choose the pages and mistakes whose names have them; ``--show`` prints each answer, ``--write`` the table
``docs/contributing/mistakes.md``.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTED = Path(__file__).with_suffix(".toml")
PAGE = ROOT / "docs" / "contributing" / "mistakes.md"
RIGHT, LONGEST = 3, 360
"""The rating of an answer with the rule, what came and the cure; characters of an answer in the table."""
HEAD = """# Mistakes, and what topkin says

Mistakes that a reader of a page makes, each made for real in a small shop with a run, by `python -m
benchmarks.faults.mistakes --write`. An answer is rated 3 where it says the rule, what came and the cure in one screen,
2 where one of them was missing, 1 where it was about something else, 0 for an unknown failure or where the mistake was
taken without a word. What was rated lower has been mended, with its kind; the command fails where an answer no longer
has the words that `mistakes.toml` lists.
"""

SHELL = """
topkin() { "$PYTHON" -m topkin "$@"; }
program() { "$PYTHON" program.py; }
set -- purchases.parquet items.parquet
"""
PROGRAM = """
import sys, traceback, topkin, pyarrow as pa, pyarrow.parquet as pq
purchases, items = pq.read_table("purchases.parquet"), pq.read_table("items.parquet")
bought = purchases.rename_columns(["user_id", "item_id", "timestamp", "quantity"])
bought = bought.filter(pa.compute.greater(bought["quantity"], 0))
goods = items.rename_columns(["item_id", "title", "category"])
try:
    exec(compile(sys.stdin.read(), "snippet", "exec"))
except Exception as e:
    frames = traceback.extract_tb(e.__traceback__)
    if "/topkin/" not in frames[-1].filename:
        raise
    sys.exit(f"{type(e).__name__}: {e}")
"""


@dataclass(frozen=True)
class Mistake:
    """One of the list: the page, what is done wrong, how, and what the answer says."""

    page: str
    mistake: str
    run: str
    says: str
    was: int


def mistakes() -> Iterator[Mistake]:
    """All of them, by page."""
    for page, listed in tomllib.loads(LISTED.read_text(encoding="utf-8")).items():
        for row in listed:
            yield Mistake(page, row["mistake"], row["run"], row.get("says", ""), row.get("was", RIGHT))


def shop(folder: Path) -> None:
    """The tutorial's shop with its run, in a folder."""
    tutorial = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", tutorial, re.DOTALL)
    assert snippet, "the tutorial begins with its data"
    (folder / "program.py").write_text(PROGRAM)
    subprocess.run([sys.executable, "-c", snippet[1]], cwd=folder, check=True)
    commands = "topkin init $1 --items $2 && topkin run --as-of 2024-04-10 --quiet --set train.epochs=0"
    done, text = answer(commands, folder)
    if done:
        raise RuntimeError(text)


def answer(run: str, folder: Path) -> tuple[int, str]:
    """The status and the words of a command line in a folder, on a terminal's width."""
    python = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": python, "COLUMNS": "80", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        ["bash", "-c", SHELL + run], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def wrong(mistake: Mistake, text: str) -> str:
    """What is wrong with an answer; nothing where it says what is listed."""
    if "Traceback" in text or "not a failure that topkin knows" in text:
        return "an unknown failure"
    if mistake.says not in " ".join(text.split()):
        return f"does not say {mistake.says!r}"
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Make the mistakes; returns 1 where one does not come out right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--shop", type=Path, help="a folder for the shop, made where it is not there")
    args = parser.parse_args(arguments)
    chosen = [m for m in mistakes() if all(w in f"{m.page} {m.mistake}" for w in args.words)]
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as scratch:
        good = args.shop or Path(scratch, "shop")
        if not good.exists():
            good.mkdir()
            shop(good)
        for n, mistake in enumerate(chosen):
            folder = Path(scratch, str(n))
            shutil.copytree(good, folder, symlinks=True)
            status, text = answer(mistake.run, folder)
            text = text.replace(f"{folder}/", "").replace(str(folder), ".")
            shutil.rmtree(folder)
            fault = wrong(mistake, text)
            failed += bool(fault)
            rows.append((mistake, text))
            print(f"{'WRONG' if fault else 'ok   '} {status:3} {mistake.page}: {mistake.mistake}  {fault}", flush=True)
            if args.show:
                print("      | " + text.strip().replace("\n", "\n      | "), flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} come out right")
    if args.write:
        PAGE.write_text(table(rows), encoding="utf-8")
    return 1 if failed else 0


def table(rows: Sequence[tuple[Mistake, str]]) -> str:
    """The page of all mistakes: what was done, what topkin says, its rating, and that before it was mended."""
    pages: dict[str, list[str]] = {}
    for mistake, text in rows:
        rated = "3" if mistake.was == RIGHT else f"3, was {mistake.was}"
        pages.setdefault(mistake.page, []).append(f"| {mistake.mistake} | {cell(text)} | {rated} |")
    parts = [
        f"\n## {page}\n\n| mistake | what topkin says | rated |\n|---|---|---|\n" + "\n".join(lines) + "\n"
        for page, lines in pages.items()
    ]
    return HEAD + "".join(parts)


def cell(text: str) -> str:
    """The message of an answer, that is its last lines, as a cell of a table."""
    message = re.split(r"^(?=topkin: |Error: |\w+Error: |\{\"error\")", text.strip(), flags=re.MULTILINE)[-1]
    words = " ".join(message.split())
    return "`` " + (words if len(words) <= LONGEST else words[: LONGEST - 1] + "…").replace("|", "/") + " ``"


if __name__ == "__main__":
    sys.exit(main())
