"""The documentation: every command parses; knobs, files, headings and pictures exist."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from utils import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "save/README")),
    *sorted(ROOT.glob("docs/*.md")),
]
OF_THEIR_TIME = ("model_card.md",)  # commands of earlier commits, with the knobs of then
FOREIGN_FLAGS = {"--index-url", "--logdir", "--nproc-per-node", "--standalone", "--run", "--check"}
FOREIGN_FLAGS |= {  # of job scripts: sbatch, srun, torchrun over machines
    *("--array", "--cpus-per-task", "--gpus-per-node", "--job-name", "--mem", "--nodes"),
    *("--ntasks-per-node", "--requeue", "--signal", "--time", "--nnodes", "--rdzv-backend"),
    *("--rdzv-endpoint", "--rdzv-id", "--dependency", "--wrap"),
}
TALLEST, LONGEST_README, LONGEST_CONTRIBUTING = 700, 200, 100


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield script and arguments of every `python X.py …` and `torchrun … X.py …` of a page.

    Those that leave something out, with an ellipsis, are not complete commands.
    """
    text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in (*lines, *re.findall(r"`([^`]+)`", outside)):
        words = shlex.split(line.replace("\n", " "), comments=True) if "'" not in line else []
        if words and words[0] in ("python", "torchrun"):
            for place, word in enumerate(words):
                if word.endswith(".py") and "…" not in words:
                    yield word, [w for w in words[place + 1 :] if w != "--"]
                    break


class Caught(BaseException):
    """Stops a script when it is about to parse its command line."""


@cache
def parser_of(script: str) -> argparse.ArgumentParser:
    """Return the parser that a script's main builds."""
    parsers = []

    def catch(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        parsers.append(self)
        raise Caught

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        with pytest.raises(Caught):
            importlib.import_module(Path(script).stem).main([])
    return parsers[0]


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """All long flags of a parser and its subcommands."""
    found = {flag for action in parser._actions for flag in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {flag for part in action.choices.values() for flag in flags_of(part)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    for script, arguments in commands(page):
        assert (ROOT / script).is_file(), f"{page.name} runs {script}"
        if not arguments:
            continue  # bare commands: tests/test_bare_commands.py runs them
        if not arguments:  # what the section `data` says: tests/test_bare_commands.py
            continue
        numbers = ["2" if word == "N" else word for word in arguments]
        try:
            parser_of(script).parse_args(numbers)
        except SystemExit:
            pytest.fail(f"{name_of(page)}: {script} does not know: {' '.join(arguments)}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_knobs_exist(page: Path) -> None:
    if page.name in OF_THEIR_TIME:
        pytest.skip("commands of earlier commits")
    text = page.read_text(encoding="utf-8").replace("\n", " ")
    for knob, value in re.findall(r"--set\s+([a-z_]+\.[a-z_]+)=([^\s`,…]+)", text):
        if knob != "section.name":  # how it is written, not a knob
            config.build("base", None, [f"{knob}={value}"], config.presets())
    presets = {*config.presets(), *config.PRESET_ALIASES}
    for preset in re.findall(r"--preset\s+(\w+)", text):
        assert preset in presets, f"{page.name}: --preset {preset}"


def test_the_reader_of_commands_finds_them() -> None:
    readme = list(commands(ROOT / "README.md"))
    assert ("transcribe.py", "out/song/vocal.wav") in {(script, a[0]) for script, a in readme}
    assert {"synthesis.py", "prepare_data.py", "train_inpainter.py"} <= {s for s, _ in readme}
    training = list(commands(ROOT / "docs" / "training.md"))
    assert "torchrun" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert len(training) >= 8


def test_every_flag_is_known_to_a_script() -> None:
    known = set(FOREIGN_FLAGS).union(*(flags_of(parser_of(path.name)) for path in scripts()))
    for page in PAGES:
        spans = re.findall(r"`([^`]+)`", page.read_text(encoding="utf-8"))
        named = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
        assert named <= known, f"{name_of(page)}: {sorted(named - known)}"


def scripts() -> list[Path]:
    """The files at the top that are run from the shell."""
    return [p for p in sorted(ROOT.glob("*.py")) if "\ndef main(" in p.read_text(encoding="utf-8")]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{name_of(page)}: {target}"


def test_the_tree_names_what_there_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = readme.split("## File description")[1].split("```")[1]
    named = set(re.findall(r"(?<![\w/])(\w+\.py|\w+/)(?= |$)", tree, re.MULTILINE))
    there = {path.name for path in ROOT.glob("*.py")}
    there |= {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")}
    assert there - {"tests/", "out/"} <= named
    assert all((ROOT / name).exists() for name in named)


def test_readme_and_contributing_are_short() -> None:
    for name, limit in (("README", LONGEST_README), ("CONTRIBUTING", LONGEST_CONTRIBUTING)):
        lines = (ROOT / f"{name}.md").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= limit, f"{name}.md: {len(lines)} lines"


def test_pictures_fit_a_screen() -> None:
    for path in sorted(ROOT.glob("png/*.png")):
        height = struct.unpack(">I", path.read_bytes()[20:24])[0]  # of the IHDR chunk
        assert height <= TALLEST, f"{path.name} is {height} px tall"
    used = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    unused = [path.name for path in ROOT.glob("png/*.png") if path.name not in used]
    assert not unused, f"no page shows {unused}"
