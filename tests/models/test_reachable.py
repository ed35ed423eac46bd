"""Every function, class and method of ``models/`` is reached from a job or from a public name.

Read off the source: names, imports and attributes, from the files of the jobs and the names of ``topkin.models``. A
method is reached where its class is and some reached code names it, or Keras calls it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "topkin.models"
JOBS = ("pipelines", "transforms", "topkin")
NAMED_IN = ROOT / "topkin" / "config" / "metric_parts.py"
"""Losses, miners, samplers and distances are taken by the names of their classes, which stand here."""
BY_KERAS = {
    *("call", "build", "get_config", "from_config", "compute_output_shape", "compute_output_spec", "compute_mask"),
    *("compile", "train_step", "test_step", "predict_step", "compute_loss", "metrics", "update_step"),
    *("update_state", "result", "reset_state", "on_epoch_begin", "on_epoch_end", "on_train_begin", "on_train_end"),
    *("on_train_batch_end", "get_build_config", "build_from_config", "get_compile_config", "compile_from_config"),
    *("save_own_variables", "load_own_variables"),
}


@dataclass
class Def:
    """A function, a class or a method, or the statements of a module: what it names, and how many lines it has."""

    module: str
    name: str
    lines: int = 0
    names: set[str] = field(default_factory=set)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    owner: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.name


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "models").with_suffix("").parts
    return ".".join((PACKAGE, *(p for p in parts if p != "__init__")))


def references(definition: Def, nodes: Iterator[ast.AST]) -> None:
    """Note what nodes name, but for the bodies of functions and classes within a module or a class."""
    for node in nodes:
        if isinstance(node, ast.Name):
            definition.names.add(node.id)
        elif isinstance(node, ast.Attribute):
            definition.names.add(f".{node.attr}")
            if isinstance(node.value, ast.Name):
                definition.pairs.add((node.value.id, node.attr))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            definition.names.add(f".{node.value}")  # getattr, and methods kept by name


def own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """All nodes of statements; of functions and classes their decorators, bases and defaults alone."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*statement.decorator_list, statement.args):
                yield from ast.walk(part)
        elif isinstance(statement, ast.ClassDef):
            for part in (*statement.decorator_list, *statement.bases, *statement.keywords):
                yield from ast.walk(part)
        else:
            yield from ast.walk(statement)


class Source:
    """A module's definitions and what its imports mean: name -> (module, name), the name empty for a module."""

    def __init__(self, module: str, tree: ast.Module, modules: set[str]) -> None:
        self.imports: dict[str, tuple[str, str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    meant = (whole, "") if whole in modules else (node.module, alias.name)
                    self.imports[alias.asname or alias.name] = meant
        top = Def(module, "")
        references(top, own_nodes(tree.body))
        self.defs = [top]
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef):
                self._add(module, statement.name, statement, ast.walk(statement))
            elif isinstance(statement, ast.ClassDef):
                self._add(module, statement.name, statement, own_nodes([statement, *statement.body]))
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        name = f"{statement.name}.{method.name}"
                        self._add(module, name, method, ast.walk(method), owner=statement.name)

    def _add(self, module: str, name: str, node: ast.stmt, nodes: Iterator[ast.AST], owner: str = "") -> None:
        definition = Def(module, name, (node.end_lineno or 0) - node.lineno + 1, owner=owner)
        references(definition, nodes)
        self.defs.append(definition)


def unreached() -> list[Def]:
    """The definitions of ``models/`` that nothing reaches."""
    paths = sorted((ROOT / "models").rglob("*.py"))
    modules = {module_of(path) for path in paths}
    sources = {module_of(p): Source(module_of(p), ast.parse(p.read_text(encoding="utf-8")), modules) for p in paths}
    defs = {d.key: d for source in sources.values() for d in source.defs}
    methods: dict[tuple[str, str], list[Def]] = {}
    for definition in defs.values():
        if definition.owner:
            methods.setdefault((definition.module, definition.owner), []).append(definition)
    reached: set[tuple[str, str]] = set()
    attributes: set[str] = set(BY_KERAS)
    waiting: list[tuple[str, str]] = []

    def reach(module: str, name: str) -> None:
        if (module, name) in defs:
            waiting.append((module, name))
        elif module in sources and name in sources[module].imports:  # given on by a package
            reach(*sources[module].imports[name])
        elif (module, "") in defs:
            waiting.append((module, ""))

    def follow(definition: Def, source: Source) -> None:
        attributes.update(n[1:] for n in definition.names if n.startswith("."))
        for name in definition.names:
            if (definition.module, name) in defs:
                reach(definition.module, name)
            elif name in source.imports:
                reach(*source.imports[name])
        for base, name in definition.pairs:
            if base in source.imports and not source.imports[base][1]:
                reach(source.imports[base][0], name)

    for folder in JOBS:
        for path in (ROOT / folder).rglob("*.py"):
            if not path.is_symlink() and "models" not in path.relative_to(ROOT).parts:
                outside = Source(str(path), ast.parse(path.read_text(encoding="utf-8")), modules)
                for definition in outside.defs:
                    follow(definition, outside)
    public = sources[PACKAGE]
    named = {n.value for n in ast.walk(ast.parse(NAMED_IN.read_text(encoding="utf-8"))) if isinstance(n, ast.Constant)}
    for module, name in public.imports.values():
        for definition in list(defs.values()):
            theirs = definition.module == module or definition.module.startswith(f"{module}.")
            whole = not name and theirs and not definition.name.rpartition(".")[2].startswith("_")  # a public module
            if definition.key == (module, name) or whole:
                waiting.append(definition.key)
            if (
                definition.module == module
                and definition.owner == name
                and not definition.name.partition(".")[2].startswith("_")
            ):
                waiting.append(definition.key)
    waiting += [d.key for d in defs.values() if d.name in named]
    while True:
        while waiting:
            key = waiting.pop()
            if key in reached:
                continue
            reached.add(key)
            definition = defs[key]
            follow(definition, sources[definition.module])
            if definition.name:
                reach(definition.module, "")
            if definition.owner:
                reach(definition.module, definition.owner)
        for key, own in methods.items():
            for method in own if key in reached else ():
                name = method.name.partition(".")[2]
                if method.key not in reached and (
                    name in attributes or (name.startswith("__") and name.endswith("__"))
                ):
                    waiting.append(method.key)
        if not waiting:
            left = [d for d in defs.values() if d.name and d.key not in reached]
            return [d for d in left if not d.name.startswith("__")]  # of a module, called by Python


def test_no_line_of_models_is_without_a_job_or_a_public_name() -> None:
    dead = unreached()
    assert [f"{d.module}.{d.name}: {d.lines} lines" for d in dead] == []
