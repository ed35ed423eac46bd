"""Processes that share no memory with that of the tests.

A fork of a process in which Beam or TensorFlow have run holds half of their threads' objects, and may die of them. What
is forked here comes of a server that imported the tests of this folder and ran nothing.
"""

import multiprocessing
from collections.abc import Callable
from typing import Any

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload([f"tests.artifacts.test_{name}" for name in ("lock", "runs", "storage")])


def started(work: Callable[..., object], *given: object) -> multiprocessing.process.BaseProcess:
    """A function at work in a process of its own."""
    process = forks.Process(target=work, args=given)
    process.start()
    return process


def at_once(works: list[tuple[Any, ...]]) -> list[int | None]:
    """The exit codes of functions with their values, each in a process of its own."""
    processes = [started(*work) for work in works]
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]
