"""The project's metadata: pyproject.toml and the requirements files name the same packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("tomllib came with Python 3.11", allow_module_level=True)

import tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def listed(name: str) -> set[str]:
    """Packages of a requirements file, without its comments and the files that it includes."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    packages = {line.split("#")[0].strip() for line in lines}
    return {line for line in packages if line and not line.startswith("-")}


def test_pyproject_and_requirements_files_agree() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(PROJECT["dependencies"]) == listed("requirements.txt")
    for name in ("evaluation", "songbook", "web", "dev"):
        assert set(extras[name]) == listed(f"requirements-{name}.txt")


def test_a_fresh_machine_gets_one_pair_and_another_keeps_its_torch() -> None:
    """requirements.txt is constrained to a pair that its own ranges, pyproject's too, allow."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "-c constraints.txt" in lines
    pair = dict(line.split("==") for line in listed("constraints.txt"))
    assert set(pair) == {"torch", "torchaudio"}
    for name, version in pair.items():
        assert f"{name}>={'.'.join(version.split('.')[:2])}" in PROJECT["dependencies"]


def test_every_dependency_has_its_reason() -> None:
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                assert "#" in line, f"{path.name}: {line}: without its reason"
