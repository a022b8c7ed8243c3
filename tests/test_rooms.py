"""The structure of the project: floors, no circles, no room that swallows the others.

Imports are read from the syntax tree, those for type checkers and inside functions included: a type
that is named is a file that a reader must know.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # a file imports from its own floor and from those above it in this list
    ("text", "hyperparams"),
    ("utils",),
    ("music", "module"),
    (
        *("network", "source_filter", "inpainter", "composer"),
        *("transcription.network", "transcription.labels", "legacy.patches"),
    ),
    ("utils.loading",),
    ("corpora", "singing", "legacy"),
    ("training", "transcription"),
    ("preprocess", "synthesis", "prepare_data"),
    ("evaluation", "web"),
    ("train_transformer", "train_postnet", "train_inpainter", "train_transcriber"),
    ("evaluate", "transcribe", "plot", "benchmark", "app"),
)
SCRIPTS = (*FLOORS[-1], *FLOORS[-2], "prepare_data", "synthesis")
OF_EVERY_SCRIPT = ("main", "parse_arguments", "add_flags")  # names that several files may define
LARGEST_SHARE = 0.15  # of the code that one room may hold
# Calls that only define something: they may stand at the top of a file.
DEFINING = re.compile(
    r"^(staticmethod|TypeVar|ParamSpec|NewType|namedtuple|field|replace|partial|frozenset|set|dict|tuple|list"
    r"|range|len|sorted|zip|enumerate|map|float|int|str|chr|ord|bool|min|max|sum|abs|round|cast"
    r"|timedelta|logging\.getLogger|re\.compile|re\.escape|math\.\w+|np\.\w+|str\.maketrans"
    r"|signal\.Signals|.+\.(join|split|items|keys|values|format|with_name|with_suffix|resolve|lower"
    r"|upper|union|splitlines|strip|replace|parts|encode|fromkeys))$"
)


def sources() -> dict[str, Path]:
    """Map the dotted name of every file of the project, tests excluded, to its path."""
    rooms = [path.parent for path in ROOT.glob("*/__init__.py")] + [ROOT / "text"]
    files = [*ROOT.glob("*.py"), *(path for room in rooms for path in room.glob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(files)
    }


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> set[str]:
    """Dotted names of the project's files that a file imports, in any place."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name in sources() and sources()[name].name != "__init__.py"}


def floor(name: str) -> int:
    """Number of the floor of a file: that of its own entry, else that of its room."""
    for entry in (name, name.split(".")[0]):
        for number, floor in enumerate(FLOORS):
            if entry in floor:
                return number
    raise AssertionError(f"{name} has no floor: add it to FLOORS")


def is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


@pytest.mark.parametrize("name", [n for n, p in sources().items() if p.name != "__init__.py"])
def test_imports_go_downwards(name: str) -> None:
    above = [other for other in imported(sources()[name]) if floor(other) > floor(name)]
    assert not above, f"{name} imports from a floor above it: {above}"


def test_no_circles_between_files() -> None:
    uses = {name: imported(path) for name, path in sources().items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path, f"circle: {' → '.join((*path, name))}"
        if name not in done:
            for other in sorted(uses[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in uses:
        visit(name)


def test_scripts_are_imported_by_nobody() -> None:
    for name, path in sources().items():
        assert not imported(path) & set(SCRIPTS), f"{name} imports a script"


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name in sources()])
def test_scripts_have_a_main(name: str) -> None:
    body = tree_of(sources()[name]).body
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)
    assert any(is_main_guard(node) for node in body)


def test_no_room_holds_a_large_share_of_the_code() -> None:
    lines: Counter[str] = Counter()
    for name, path in sources().items():
        lines[name.split(".")[0]] += len(path.read_text(encoding="utf-8").splitlines())
    room, size = lines.most_common(1)[0]
    assert size <= LARGEST_SHARE * lines.total(), f"{room}: {size} of {lines.total()} lines"


def test_a_public_name_means_one_thing() -> None:
    places: dict[str, set[str]] = {}
    for name, path in sources().items():
        for node in tree_of(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(name)
    twice = {
        name: sorted(found)
        for name, found in places.items()
        if len(found) > 1 and name not in OF_EVERY_SCRIPT
    }
    assert not twice, f"defined in several files: {twice}"


def calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Yield calls that run when a file is imported: not those in functions and decorators."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                yield from calls_at_import(default)
        return
    if isinstance(node, ast.ClassDef):
        for statement in node.body:
            yield from calls_at_import(statement)
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from calls_at_import(child)


def may_stand_at_the_top(call: ast.Call, tree: ast.Module) -> bool:
    """Tell calls that only define (DEFINING, classes, own functions of such) from work."""
    name = ast.unparse(call.func)
    if DEFINING.search(name) or name.split(".")[-1][:1].isupper():
        return True
    bodies = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    inner = [part for body in bodies for part in ast.walk(body) if isinstance(part, ast.Call)]
    return bool(bodies) and all(may_stand_at_the_top(part, tree) for part in inner)


def test_importing_a_file_does_no_work() -> None:
    faults = []
    for path in sources().values():
        tree = tree_of(path)
        for statement in (node for node in tree.body if not is_main_guard(node)):
            if isinstance(statement, (ast.For, ast.While, ast.With)):
                faults.append(f"{path}:{statement.lineno}: a statement that works at import")
            faults += [
                f"{path}:{call.lineno}: {ast.unparse(call.func)}(...) runs at import"
                for call in calls_at_import(statement)
                if not may_stand_at_the_top(call, tree)
            ]
    assert not faults, "\n" + "\n".join(faults)


def test_every_knob_has_its_reason_on_the_same_line() -> None:
    path = ROOT / "hyperparams.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    faults = [
        f"{path}:{knob.lineno}: {section.name}.{knob.target.id} without `# unit, why`"
        for section in tree_of(path).body
        if isinstance(section, ast.ClassDef) and section.name != "Hyperparams"
        for knob in section.body
        if isinstance(knob, ast.AnnAssign) and isinstance(knob.target, ast.Name)
        if not re.search(r"  # \S", lines[(knob.end_lineno or knob.lineno) - 1])
    ]
    assert not faults, "\n" + "\n".join(faults)


def test_the_reader_of_calls_sees_what_it_forbids() -> None:
    text = "X = os.listdir('.')\ndef f(x=open('a')):\n    os.remove('b')\nY = g(f())\nZ = dict(a=1)"
    tree = ast.parse(text)
    found = [
        ast.unparse(call.func)
        for node in tree.body
        for call in calls_at_import(node)
        if not may_stand_at_the_top(call, tree)
    ]
    assert found == ["os.listdir", "open", "g", "f"]
