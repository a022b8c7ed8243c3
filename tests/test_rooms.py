"""The rules of the house, read from the syntax tree: who may import whom, and what no file does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("text", "music", "corpora", "utils")
SCRIPTS = (
    "prepare_data",
    "train_transformer",
    "train_postnet",
    "train_inpainter",
    "train_transcriber",
    "synthesis",
    "evaluate",
    "benchmark",
)
LIBRARY = ("module", "network", "diffusion", "sampling", "preprocess")
# Which floors a file of the top level must not reach, directly or through others.
FORBIDDEN = {
    "hyperparams": (*LIBRARY, *ROOMS),
    "module": ("network", "preprocess", "diffusion", "sampling"),
    "network": ("preprocess", "diffusion", "sampling"),
    "diffusion": ("sampling", "network", "preprocess"),
    "sampling": ("network", "preprocess"),
    "preprocess": ("network", "diffusion", "sampling"),
}
# Calls that only define something: they may stand at the top of a file.
DEFINING = re.compile(
    r"^(TypeVar|ParamSpec|NewType|namedtuple|field|replace|partial|frozenset|set|dict|tuple|list"
    r"|range|len|sorted|zip|enumerate|map|float|int|str|chr|ord|bool|min|max|sum|abs|round|cast"
    r"|timedelta|logging\.getLogger|re\.compile|re\.escape|math\.\w+|np\.\w+|str\.maketrans"
    r"|signal\.Signals|.+\.(join|split|items|keys|values|format|with_name|with_suffix|resolve|lower"
    r"|upper|union|splitlines|strip|replace|parts|encode|fromkeys))$"
)


def sources() -> list[Path]:
    """Every Python file of the project, tests included."""
    folders = [ROOT, *(ROOT / room for room in ROOMS), ROOT / "tests"]
    files = [path for folder in folders[:1] for path in folder.glob("*.py")]
    return sorted(files + [path for folder in folders[1:] for path in folder.rglob("*.py")])


def name_of(path: Path) -> str:
    """Dotted name of a file: utils/config.py → utils.config."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path), str(path))


LIBRARY_FILES = [
    path
    for path in sources()
    if name_of(path).split(".")[0] != "tests" and name_of(path) not in SCRIPTS
]


def is_script(path: Path) -> bool:
    """A file that runs from the shell: at the top level, with a __main__ guard."""
    return path.parent == ROOT and name_of(path) not in (*LIBRARY, "hyperparams")


def is_guard(node: ast.stmt, name: str) -> bool:
    """`if TYPE_CHECKING:` or `if __name__ == ...:`."""
    return isinstance(node, ast.If) and any(
        isinstance(part, (ast.Name, ast.Attribute))
        and (getattr(part, "id", None) or getattr(part, "attr", None)) == name
        for part in ast.walk(node.test)
    )


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_guard(child, "TYPE_CHECKING"):
            for alternative in child.orelse:
                yield from (alternative, *run_time_nodes(alternative))
            continue
        yield child
        yield from run_time_nodes(child)


def imported(path: Path) -> set[str]:
    """Dotted names of modules that a file imports when it runs, inside functions too."""
    names: set[str] = set()
    for node in run_time_nodes(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = name_of(path).split(".")
                kept = parent[: len(parent) - node.level + (path.name == "__init__.py")]
                base = ".".join([*kept, *([base] if base else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def first_party(path: Path) -> set[str]:
    """Files of this project that a file imports when it runs."""
    return imported(path) & {name_of(other) for other in LIBRARY_FILES}


def report(faults: list[tuple[Path, int, str]]) -> str:
    """One line per fault, as an editor jumps to it."""
    return "\n" + "\n".join(
        f"{path.relative_to(ROOT)}:{line}: {what}" for path, line, what in faults
    )


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def test_no_star_imports() -> None:
    faults = [
        (path, node.lineno, "import *")
        for path in sources()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not faults, report(faults)


def test_devices_are_chosen_and_not_written_down() -> None:
    faults = [
        (path, line, ".cuda(): use .to(device)")
        for path in sources()
        for line, name in calls(tree_of(path))
        if name.endswith(".cuda")
    ]
    assert not faults, report(faults)


def test_only_scripts_read_hyperparameters() -> None:
    """A room takes a section or plain numbers; annotations import it below TYPE_CHECKING."""
    faults = [
        (path, 1, "imports hyperparams")
        for path in LIBRARY_FILES
        if not is_script(path) and "hyperparams" in imported(path)
    ]
    assert not faults, report(faults)


def test_only_scripts_print() -> None:
    faults = [
        (path, line, "print: use logging")
        for path in LIBRARY_FILES
        if not is_script(path)
        for line, name in calls(tree_of(path))
        if name == "print"
    ]
    assert not faults, report(faults)


def test_importing_a_file_does_no_work() -> None:
    faults = []
    for path in (path for path in sources() if "tests" not in path.parts):
        tree = tree_of(path)
        for statement in tree.body:
            if is_guard(statement, "__name__") or is_guard(statement, "TYPE_CHECKING"):
                continue
            if isinstance(statement, (ast.For, ast.While, ast.With)):
                faults.append((path, statement.lineno, "a statement that works at import time"))
            faults += [
                (path, call.lineno, f"{ast.unparse(call.func)}(...) runs at import time")
                for call in calls_at_import(statement)
                if not may_stand_at_the_top(call, tree)
            ]
    assert not faults, report(faults)


def calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Calls that run when a file is imported: not those in functions, lambdas and decorators."""
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
    """See DEFINING; also classes (capital letters) and the file's own functions that do no more."""
    name = ast.unparse(call.func)
    if DEFINING.search(name) or name.split(".")[-1][:1].isupper():
        return True
    bodies = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    inner = [part for body in bodies for part in ast.walk(body) if isinstance(part, ast.Call)]
    return bool(bodies) and all(may_stand_at_the_top(part, tree) for part in inner)


def reachable(start: str) -> set[str]:
    """Every file of this project that importing `start` imports."""
    files = {name_of(path): path for path in LIBRARY_FILES}
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in first_party(files[waiting.pop()]) - found:
            found.add(name)
            waiting.append(name)
    return found


def test_no_circles_between_files() -> None:
    faults = [
        (path, 1, "imports itself through others")
        for path in LIBRARY_FILES
        if name_of(path) in reachable(name_of(path))
    ]
    assert not faults, report(faults)


def test_no_circles_between_rooms() -> None:
    """A room is a folder, or a file of the top level; one that uses another is not used by it."""
    uses: dict[str, set[str]] = {}
    for path in LIBRARY_FILES:
        room = name_of(path).split(".")[0]
        others = {name.split(".")[0] for name in first_party(path)} - {room}
        uses.setdefault(room, set()).update(others)

    def below(room: str, seen: tuple[str, ...] = ()) -> None:
        assert room not in seen, f"circle: {' → '.join((*seen, room))}"
        for other in sorted(uses.get(room, ())):
            below(other, (*seen, room))

    for room in uses:
        below(room)


@pytest.mark.parametrize("name", [n for n in FORBIDDEN if (ROOT / f"{n}.py").exists()])
def test_floors(name: str) -> None:
    rooms = {other.split(".")[0] for other in reachable(name)}
    assert not rooms & set(FORBIDDEN[name]), f"{name} stands below {rooms & set(FORBIDDEN[name])}"


def test_scripts_are_imported_by_nobody() -> None:
    faults = [
        (path, 1, f"imports {name}")
        for path in LIBRARY_FILES
        for name in sorted(imported(path) & set(SCRIPTS))
    ]
    assert not faults, report(faults)


@pytest.mark.parametrize("name", [n for n in SCRIPTS if (ROOT / f"{n}.py").exists()])
def test_scripts_have_a_main_that_never_runs_on_import(name: str) -> None:
    body = tree_of(ROOT / f"{name}.py").body
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in body)
    assert any(is_guard(node, "__name__") for node in body)


def test_every_knob_has_its_reason_on_the_same_line() -> None:
    path = ROOT / "hyperparams.py"
    lines = text_of(path).splitlines()
    faults = [
        (path, knob.lineno, f"{section.name}.{knob.target.id} without `# unit, why`")
        for section in tree_of(path).body
        if isinstance(section, ast.ClassDef) and section.name != "Hyperparams"
        for knob in section.body
        if isinstance(knob, ast.AnnAssign) and isinstance(knob.target, ast.Name)
        if not re.search(r"  # \S", lines[(knob.end_lineno or knob.lineno) - 1])
    ]
    assert not faults, report(faults)


def test_the_rules_see_what_they_forbid() -> None:
    """The reader of syntax trees is itself tested, on text that breaks the rules."""
    text = "X = os.listdir('.')\ndef f(x=open('a')):\n    os.remove('b')\nY = g(f())\nZ = dict(a=1)"
    tree = ast.parse(text)
    found = [
        ast.unparse(call.func)
        for node in tree.body
        for call in calls_at_import(node)
        if not may_stand_at_the_top(call, tree)
    ]
    assert found == ["os.listdir", "open", "g", "f"]
    guarded = ast.parse("if TYPE_CHECKING:\n    import hyperparams\nelse:\n    import json\n")
    imports = [n for n in run_time_nodes(guarded) if isinstance(n, ast.Import)]
    assert [alias.name for node in imports for alias in node.names] == ["json"]
