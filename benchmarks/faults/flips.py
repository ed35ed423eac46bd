"""A published version whose files were damaged, read by every command: flips, truncations, swaps.

Each fault is in one file of the version, the pointer and ``run.json`` among them, or swaps two files or the folders of
two runs. Every reader then either gives what it gave before, or ends with an error of topkin's own that names the file.
A reader is a fork, so that a crash is seen as the signal that it is.

``--root`` names a published version with the configuration of its shop; without it one is made, with another before it.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from topkin.api.runs import open_run
from topkin.artifacts import lookup, manifest, runs, storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError, TopkinError
from topkin.exports.sink import export
from topkin.exports.tables import chosen
from topkin.pipelines import publish
from topkin.pipelines.cli.read import runs as read
from topkin.pipelines.cli.read.explain import explain
from topkin.pipelines.cli.read.query import query
from topkin.pipelines.upkeep.diff import diff
from topkin.search.hnsw.files import load_index
from topkin.synthetic.shop import Shop

SHOP = Shop(users=300, items=100, purchases=6_000)
MOST_SECONDS = 60
Reader = Callable[[str], Any]


def readers(root: str, settings: Settings) -> dict[str, Reader]:
    """What the commands read of a version: name to a function of the output folder, whose answer can be compared."""
    run = open_run(root)
    other = next((name for name in runs.run_ids(root) if name != run.run_id), run.run_id)
    user, item = _first(run, "recommendations", "user_id"), _first(run, "similar_items", "item_id")

    def tables(root: str) -> Any:
        opened = open_run(root)
        return opened.run_id, opened.metrics, {name: digest(opened.table(name)) for name in opened.tables}

    def index(root: str) -> Any:
        loaded = load_index(runs.published(root).folder("index"))  # type: ignore[union-attr]
        return [digest(pa.array(values.reshape(-1))) for values in loaded.search(loaded.vectors[:5], 5)]

    def published_again(root: str) -> Any:
        publish.publish(runs.read_run(root, run.run_id), settings)
        return runs.published(root).run_id  # type: ignore[union-attr]

    def models(root: str) -> Any:
        folder = runs.published(root).folder("train")  # type: ignore[union-attr]
        return {
            name: digest_of(storage.read_bytes(storage.join(folder, name)))
            for name in (manifest.read(folder) or {})["files"]
        }

    def verified(root: str) -> Any:
        folders = runs.read_run(root, run.run_id).folders
        return {name: len(manifest.verify(folder)["files"]) for name, folder in folders.items()}

    def asked(root: str) -> Any:
        sql = "SELECT * FROM recommendations JOIN catalogue USING (item_id) ORDER BY user_id, rank"
        return digest_of(json.dumps(list(query(read.shown_run(root, None), sql)[1]), default=str).encode())

    def exported(root: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            done = [one.rows for one in export(chosen(read.shown_run(root, "live")), f"csv:{folder}")]
            return done, [digest_of(path.read_bytes()) for path in sorted(Path(folder).rglob("*.csv"))]

    return {
        "show user": lambda root: repr(lookup.user(read.shown_run(root, None), user)),
        "show item": lambda root: repr(lookup.item(read.shown_run(root, None), item)),
        "show words": lambda root: repr(lookup.find(read.shown_run(root, None), "large gift")),
        "query": asked,
        "explain": lambda root: repr(explain(read.shown_run(root, None), str(user), str(item))),
        "export": exported,
        "open_run": tables,
        "index": index,
        "models": models,
        "publish": published_again,
        "runs verify": verified,
        "runs diff": lambda root: diff(runs.read_run(root, other), runs.read_run(root, run.run_id)),
        "rollback": lambda root: publish.rollback(root)[0].run_id,
    }


def _first(run: Any, table: str, column: str) -> lookup.Id:
    value: lookup.Id = run.table(table, [column])[column][0].as_py()
    return value


def digest_of(data: bytes) -> str:
    """A digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(values: pa.Table | pa.Array) -> str:
    """A digest of what a table or an array holds."""
    sink = pa.BufferOutputStream()
    table = values if isinstance(values, pa.Table) else pa.table({"x": values})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return digest_of(sink.getvalue())


@contextmanager
def fault(root: Path, draw: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Damage a version while inside; gives what was done, and the paths of which one must be named."""
    current = json.loads((root / "current.json").read_text())
    run = root / "runs" / current["run_id"]
    files = [root / "current.json", *(path for path in sorted(run.rglob("*")) if path.is_file())]
    others = [path for path in sorted((root / "runs").iterdir()) if path != run and (path / "run.json").is_file()]
    kind = draw.choice(["flip"] * 6 + ["cut", "cut", "grown", "zeros", "swap", "swap", "gone", "folder", "old"])
    path = draw.choice(files)
    if kind in ("folder", "old") and others:
        with _swapped_folder(run, draw.choice(others), draw, whole=kind == "old") as (what, named):
            yield what, named
        return
    data, other = path.read_bytes(), draw.choice([f for f in files if f != path])
    held, named = other.read_bytes(), [str(path)]
    at = draw.randrange(max(len(data), 1))
    if kind == "swap":
        path.write_bytes(held)
        other.write_bytes(data)
        named.append(str(other))
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "flip": data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)] if data else b"") + data[at + 1 :],
                "cut": data[:at],
                "grown": data + bytes(1 + draw.randrange(100)),
            }.get(kind, data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :])
        )
    try:
        yield f"{kind} at {at} of {', '.join(str(Path(p).relative_to(root)) for p in named)}", named
    finally:
        path.write_bytes(data)
        other.write_bytes(held)


@contextmanager
def _swapped_folder(run: Path, other: Path, draw: random.Random, *, whole: bool) -> Iterator[tuple[str, list[str]]]:
    """The folder of another run, or of a stage of it, in the place of this one's."""
    names = [path.name for path in sorted(run.iterdir()) if path.is_dir() and (other / path.name).is_dir()]
    here, there = (run, other) if whole or not names else (run / (name := draw.choice(names)), other / name)
    aside = run.parent / "aside"

    def swap() -> None:
        here.rename(aside)
        there.rename(here)
        aside.rename(there)

    swap()
    try:
        yield f"{here.relative_to(run.parent)} and {there.relative_to(run.parent)} swapped", [str(here), str(there)]
    finally:
        swap()


def ask(reader: Reader, root: str) -> tuple[str, str]:
    """What a reader says in a process of its own: the kind of its end, and its answer, message or signal."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(MOST_SECONDS)
        try:
            answer = ["answer", json.dumps(reader(root), sort_keys=True, default=str)]
        except TopkinError as e:
            answer = ["error", str(e)]
        except Exception as e:  # noqa: BLE001 - whatever it is, it is none of ours
            answer = ["exception", f"{type(e).__name__}: {e}"]
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) or not text:
        return "signal", str(os.WTERMSIG(status))
    kind, value = json.loads(text)
    return kind, value


def judged(answer: tuple[str, str], right: str, named: Sequence[str], root: Path) -> str:
    """What an end is worth: ``same`` and ``told`` are well, all else is not."""
    kind, text = answer
    if kind == "answer":
        return "same" if text == right else "SILENT DIFFERENCE"
    if kind == "error":
        known = [part for path in named for part in _names(Path(path), root)]
        return "told" if any(part in text for part in known) else "OTHER FILE NAMED"
    return kind.upper()


def _names(path: Path, root: Path) -> list[str]:
    """By what a message may name a file: its path, or the folder of its stage, or its run."""
    parts = path.relative_to(root).parts
    return [str(path), *([str(root.joinpath(*parts[:3]))] if len(parts) > 2 else [])]


def run_faults(root: Path, settings: Settings, faults: int, seed: int = 0) -> Counter[str]:
    """Damage a version so often, ask every reader each time; prints what is not well, returns the counts."""
    asked, draw, counts = readers(str(root), settings), random.Random(seed), Counter[str]()
    pointer = (root / "current.json").read_bytes()
    right: dict[str, str] = {}
    for name, reader in asked.items():
        kind, right[name] = ask(reader, str(root))
        (root / "current.json").write_bytes(pointer)
        if kind != "answer" and not (name == "rollback" and "no earlier" in right[name]):
            raise ConfigError(f"{name} must read the version before it is damaged, got {kind} {right[name]}")
    for _ in range(faults):
        with fault(root, draw) as (what, named):
            damaged = (root / "current.json").read_bytes() if (root / "current.json").exists() else None
            for name, reader in asked.items():
                word = judged(answer := ask(reader, str(root)), right[name], named, root)
                if answer[1] == right[name]:
                    word = "same"
                counts[word] += 1
                if word not in ("same", "told"):
                    print(f"{word}: {name} with {what}: {answer[1][:300]}", flush=True)
                if damaged is None:
                    (root / "current.json").unlink(missing_ok=True)
                else:
                    (root / "current.json").write_bytes(damaged)
        (root / "current.json").write_bytes(pointer)
    return counts


def make(folder: Path) -> tuple[Path, Settings]:
    """Two published versions of a shop."""
    from topkin.pipelines.run import run_all

    SHOP.write(str(folder / "shop"))
    (folder / "topkin.toml").write_text(SHOP.config_toml("shop", more="\n[train]\nepochs = 1\nsvd_dim = 16\n"))
    settings = load_settings(folder / "topkin.toml", env={})
    for days in (7, 0):
        run_all(settings, as_of=SHOP.as_of - timedelta(days=days))
    return Path(settings.run.output), settings


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; returns 1 where a reader crashed, or gave another answer without a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=500, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--config", type=Path, help="the configuration of a published version, which is copied")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="topkin-flips-") as folder:
        config = options.config
        if config is None:
            config = Path(folder, "topkin.toml")
            pid = os.fork()  # TensorFlow stays out of the process that forks
            if pid == 0:
                make(Path(folder))
                os._exit(0)
            if os.waitpid(pid, 0)[1]:
                return 1
        settings = load_settings(config)
        root = Path(folder, "damaged")
        shutil.copytree(settings.run.output, root)
        counts = run_faults(root, settings, options.faults, options.seed)
    bad = sum(counts.values()) - counts["same"] - counts["told"]
    print(f"{options.faults} faults, {sum(counts.values())} reads: {dict(counts)}; {bad} of them not well")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
