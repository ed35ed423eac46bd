"""What is wrong with the files of an input, each fault told once."""

from collections.abc import Sequence

from topkin.errors import ConfigError, InputError, TopkinError

FILES_NAMED = 4  # files named after the first that share its fault


def merge_alike(faults: Sequence[tuple[str, TopkinError]]) -> tuple[TopkinError, ...]:
    """Each fault of (file, error) once, with the files that share it: some by name, the others by number.

    What is wrong with the configuration names no file, and comes last.
    """
    by_text: dict[str, list[tuple[str, TopkinError]]] = {}
    for path, error in sorted(faults, key=lambda fault: isinstance(fault[1], ConfigError)):
        by_text.setdefault(str(error).replace(path, "", 1), []).append((path, error))
    merged = []
    for (_, error), *others in by_text.values():
        if others and isinstance(error, InputError):
            more = f", and {len(others) - FILES_NAMED:,} more" if len(others) > FILES_NAMED else ""
            error = InputError(f"{error}; likewise {', '.join(path for path, _ in others[:FILES_NAMED])}{more}")
        merged.append(error)
    return tuple(merged)
