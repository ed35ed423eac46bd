"""What ``import topkin`` gives, and what it does not load."""

import subprocess
import sys

import pytest

import topkin

HEAVY = ("apache_beam", "tensorflow", "keras", "pyarrow", "numpy", "duckdb", "pydantic")


def loaded_after(code: str) -> set[str]:
    """The modules that a new process has loaded after some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert topkin.__all__ == [
        "BASELINES", "Encoder", "Interactions", "Recommender", "__version__", "cosine_similarity", "errors", "evaluate",
        "load_settings", "open_run", "run", "top_k",
    ]  # fmt: skip
    assert all(getattr(topkin, name) is getattr(topkin, name) for name in topkin.__all__)
    assert set(topkin.__all__) <= set(dir(topkin))
    assert topkin.cosine_similarity([[2.0, 0.0]]).tolist() == [[1.0]]


def test_a_name_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Recomender': it has BASELINES, .*Recommender"):
        topkin.Recomender  # noqa: B018


def test_importing_topkin_loads_nothing_else() -> None:
    bare = loaded_after("pass")
    more = loaded_after("import topkin") - bare
    assert more <= {"topkin", "importlib", "importlib._abc", "typing"} | {
        m for m in more if m.split(".")[0] not in HEAVY
    }
    assert not {m.split(".")[0] for m in more} & set(HEAVY)
    assert {m for m in more if m.startswith("topkin")} == {"topkin"}


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("top_k", {"apache_beam", "tensorflow", "keras", "pyarrow"}),
        ("Recommender", {"apache_beam", "tensorflow", "keras"}),
        ("open_run", {"apache_beam", "tensorflow", "keras"}),
        ("evaluate", {"apache_beam", "tensorflow", "keras"}),
        ("Encoder", {"apache_beam"}),
    ],
)
def test_a_name_loads_no_more_than_it_needs(name: str, without: set[str]) -> None:
    assert not without & loaded_after(f"import topkin\ntopkin.{name}")
