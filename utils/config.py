"""Hyperparameters from the shell and from files: typed by the annotations of the dataclasses.

Values are read in this order, the later winning: preset, `--config FILE.yaml`,
`--set section.name=value`, and the two ordinary flags `--steps` and `--seed`. Nothing is
evaluated; a wrong key lists the right ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hyperparams import ADDED, PRESET_ALIASES, PRESETS, REMOVED, RENAMED, SUPERSEDED, Hyperparams
from utils.files import reading
from utils.flags import SAVE, command_line, device_option, feature_option, option, step_option

AddFlags = Callable[[argparse.ArgumentParser], None]
H = TypeVar("H")  # Hyperparams, or any dataclass whose fields are dataclasses

LARGEST_CONFIG = 1 << 20  # bytes
DEEPEST_CONFIG = 8  # sections, knobs, tuples of them
TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
NONE_WORDS = ("none", "null", "~")


@cache
def presets() -> dict[str, Hyperparams]:
    """Return the hyperparameters of every preset by name."""
    base = {"base": Hyperparams()}
    return {name: build("base", None, changes, base) for name, changes in PRESETS.items()}


def preset(name: str) -> Hyperparams:
    """Return the hyperparameters of a preset; ValueError listing them for an unknown name."""
    return build(name, None, (), presets())


def build(
    preset: str,
    config_file: Path | None,
    assignments: Iterable[str],
    presets: Mapping[str, H],
) -> H:
    """Return the named preset changed by a YAML file, then by `section.name=value` assignments.

    Raises ValueError for an unknown preset, section, knob or a value of the wrong type, listing
    what there is; FileNotFoundError for a missing file.
    """
    preset = PRESET_ALIASES.get(preset, preset)
    if preset not in presets:
        raise ValueError(
            f"unknown preset {preset!r}{_suggest(preset, presets)}: --preset is one of "
            f"{', '.join(presets)}"
        )
    base = presets[preset]
    changes: dict[str, dict[str, Any]] = {}
    if config_file is not None:
        _collect(changes, base, read_yaml(Path(config_file)), source=str(config_file))
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if not separator or not dot:
            raise ValueError(
                f"--set {assignment}: expected section.name=value, such as "
                f"{_example(base)}; sections: {', '.join(_sections(base))}"
            )
        _collect(changes, base, {section: {name: text.strip()}}, source=f"--set {assignment}")
    try:
        return _apply(base, changes)
    except ValueError as error:
        if config_file is None:
            raise
        raise ValueError(f"--config {config_file}: {error}") from error


def add_run_arguments(parser: argparse.ArgumentParser, presets: Iterable[str]) -> None:
    """Add the flags that every training script shares: how to run, and what to change."""
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--data",
        metavar="NAME[,NAME]",
        help="corpus below --feature-dir to train on; a transformer and a postnet take several "
        "(default: name in section data of hyperparams.py)",
    )
    how.add_argument(
        "--run",
        metavar="NAME",
        help="folder of this run (default: run in section data of hyperparams.py)",
    )
    device_option(how)
    how.add_argument("--fresh", action="store_true", help="start anew; refuse a run that exists")
    option(how, "--save-dir", SAVE, "folder of all runs", metavar="DIR")
    feature_option(how)
    how.add_argument(
        "--start-from",
        type=Path,
        metavar="CHECKPOINT",
        help="begin a new run with these weights: a file, a run's folder or its name, or NAME@STEP",
    )
    step_option(how, "--start-from")
    what = parser.add_argument_group("what to train")
    what.add_argument("--steps", type=int, help="steps of the whole run, resumed ones included")
    what.add_argument("--seed", type=int, help="origin of all randomness of the run")
    add_hyperparameter_arguments(what, presets)


def take_defaults(arguments: argparse.Namespace) -> list[str]:
    """Fill in --data and --run from section `data` of hyperparams.py; say what was taken."""
    data = Hyperparams().data
    taken = []
    for flag, value in (("data", data.name), ("run", data.run)):
        if getattr(arguments, flag) is None:
            setattr(arguments, flag, value)
            taken.append(f"--{flag} {value}")
    return [f"hyperparams.py, section data: {' '.join(taken)}"] if taken else []


def add_hyperparameter_arguments(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, presets: Iterable[str]
) -> None:
    """Add --preset, --config and --set, which any script that builds hyperparameters needs."""
    parser.add_argument("--preset", default="base", help=f"one of {', '.join(presets)}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.yaml", help="the same keys as --set, nested"
    )
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="change one knob of hyperparams.py; may be repeated",
    )


def from_arguments(
    arguments: argparse.Namespace, presets: Mapping[str, H], training: str | None = None
) -> H:
    """Build hyperparameters from parsed flags; `training` is the section of --steps and --seed."""
    assignments = list(arguments.assignments)
    if training is not None:
        for name in ("steps", "seed"):
            if getattr(arguments, name) is not None:
                assignments.append(f"{training}.{name}={getattr(arguments, name)}")
    return build(arguments.preset, arguments.config, assignments, presets)


def to_dict(hyperparams: Any) -> dict[str, Any]:
    """Return nested dicts of plain values (tuples become lists): what checkpoints and YAML hold."""
    return {
        name: to_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
        for name, value in _values(hyperparams).items()
    }


def from_dict(values: Mapping[str, Any], kind: type[H], needed: Iterable[str] | None = None) -> H:
    """Rebuild hyperparameters of class `kind` from nested dicts, as a checkpoint carries them.

    Knobs that are missing (the checkpoint is older) take their defaults; those renamed or removed
    since are translated (`current_names`). Unknown ones raise ValueError; with `needed`, only in
    these sections: what was since changed about another network is no reason to refuse this one.
    """
    base = kind()
    sections = {section: _values(getattr(base, section)) for section in _sections(base)}
    known = {f"{section}.{name}" for section, knobs in sections.items() for name in knobs}
    added = {key: value for key, value in ADDED.items() if key in known}  # of this class
    values = current_names(values, added=added)
    wanted = set(values) if needed is None else set(needed)
    unknown, understood = [], {}
    for section, knobs in values.items():
        if section not in sections or not isinstance(knobs, Mapping):
            unknown += [section] if section in wanted else []
            continue
        strange = [name for name in knobs if name not in sections[section]]
        unknown += [f"{section}.{name}" for name in strange if section in wanted]
        understood[section] = {name: knobs[name] for name in knobs if name in sections[section]}
    if unknown:
        raise ValueError(
            f"hyperparameters unknown to this version of the program: {', '.join(unknown)}. They "
            "come from another version: use the version that wrote them, or train again"
        )
    changes: dict[str, dict[str, Any]] = {}
    _collect(changes, base, understood, source="stored hyperparameters")
    return _apply(base, changes)


def current_names(
    values: Mapping[str, Any],
    renamed: Mapping[str, str] = RENAMED,
    removed: Mapping[str, Any] = REMOVED,
    superseded: Mapping[str, str] = SUPERSEDED,
    added: Mapping[str, Any] = ADDED,
) -> dict[str, Any]:
    """Translate stored hyperparameters of an older version to today's names.

    renamed maps `section.name` to its new `section.name`; removed maps `section.name` to the value
    at which the knob did nothing. Any other value of a removed knob stays, so that `from_dict`
    refuses it by name. superseded knobs touch no weight and are left out at any value: another does
    their work with a value of its own. added maps a knob that a version may not have known to what
    that version did.
    """
    result: dict[str, Any] = {}
    for section, knobs in values.items():
        if not isinstance(knobs, Mapping):
            result[section] = knobs
            continue
        result.setdefault(section, {})
        for name, value in knobs.items():
            key = f"{section}.{name}"
            if key in superseded:
                continue
            if key in removed and _plain(removed[key]) == _plain(value):
                continue
            new_section, _, new_name = renamed.get(key, key).partition(".")
            result.setdefault(new_section, {})[new_name] = value
    for key, value in added.items():
        section, _, name = key.partition(".")
        if isinstance(result.get(section), dict):
            result[section].setdefault(name, value)
    return result


def changed(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Map `section.name` to (value before, value after) for every knob that differs."""
    result = {}
    for section in _sections(before):
        old, new = _values(getattr(before, section)), _values(getattr(after, section))
        for name in old:
            if old[name] != new[name]:
                result[f"{section}.{name}"] = (old[name], new[name])
    return result


def differences(before: Any, after: Any) -> list[str]:
    """Return one line `section.name: before -> after` for every knob that differs."""
    return [f"{key}: {old} -> {new}" for key, (old, new) in changed(before, after).items()]


def to_yaml(hyperparams: Any) -> str:
    """Return the text of a file that `--config` reads back."""
    return yaml.safe_dump(to_dict(hyperparams), sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, dict[str, Any]]:
    """Read a nested mapping of sections and knobs; ValueError when the file is anything else."""
    if not path.is_file():
        raise FileNotFoundError(f"--config {path}: no such file")
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"--config {path}: larger than {LARGEST_CONFIG} bytes")
    with reading(path):
        try:
            text = path.read_text(encoding="utf-8")
            _check_yaml(text, path)
            values = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"--config {path}: not readable as YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        found = reprlib.repr(values)
        raise ValueError(f"--config {path}: expected sections with knobs, found {found}")
    return values


def _check_yaml(text: str, path: Path) -> None:
    """Refuse aliases, which may stand for more than the memory holds, and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"--config {path}: an alias (*{event.anchor}); write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST_CONFIG:
            raise ValueError(f"--config {path}: nested deeper than {DEEPEST_CONFIG}")


def _collect(
    changes: dict[str, dict[str, Any]], base: Any, values: Mapping[str, Any], source: str
) -> None:
    """Check and convert `values` section by section and merge them into `changes`."""
    sections = _sections(base)
    for section, knobs in values.items():
        if section not in sections:
            raise ValueError(
                f"{source}: unknown section {section!r}{_suggest(section, sections)}; "
                f"sections: {', '.join(sections)}"
            )
        if not isinstance(knobs, Mapping):
            raise ValueError(
                f"{source}: section {section!r} holds {reprlib.repr(knobs)}, expected name: value"
            )
        current = _values(getattr(base, section))
        annotations = typing.get_type_hints(type(getattr(base, section)))
        for name, value in knobs.items():
            if name not in current:
                listing = "\n".join(f"  {section}.{key} = {now}" for key, now in current.items())
                raise ValueError(
                    f"{source}: section {section!r} has no {name!r}{_suggest(name, current)}; "
                    f"it has\n{listing}"
                )
            try:
                converted = parse_value(value, annotations[name])
            except ValueError as error:
                raise ValueError(f"{source}: {section}.{name} {error}") from None
            changes.setdefault(section, {})[name] = converted


def _apply(base: H, changes: Mapping[str, Mapping[str, Any]]) -> H:
    """Replace all changed knobs of a section at once, so cross-checks see only the final values."""
    sections = {}
    for section, knobs in changes.items():
        try:
            sections[section] = dataclasses.replace(getattr(base, section), **knobs)
        except ValueError as error:
            raise ValueError(f"section {section!r}: {error}") from error
    return dataclasses.replace(base, **sections)  # type: ignore[type-var]  # H is a dataclass


def parse_value(value: Any, annotation: Any) -> Any:
    """Convert `value` (text from the shell, or a YAML value) to the annotated type.

    Knows int (1e4 is an int, 1.5 is not), float, bool, str, tuple[X, ...], tuple[X, Y] and
    X | None. Raises ValueError.
    """
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in NONE_WORDS):
            return None
        return parse_value(value, next(p for p in parameters if p is not type(None)))
    if origin is tuple:
        return _convert_tuple(value, parameters)
    converters = {bool: _convert_bool, int: _convert_int, float: _convert_float, str: _convert_str}
    if annotation not in converters:
        raise ValueError(f"has type {annotation}, which cannot be set from the shell")
    return converters[annotation](value)


def _convert_bool(value: Any) -> bool:
    word = str(value).lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError(f"= {reprlib.repr(value)}: expected true or false (yes/no, on/off, 1/0)")


def _convert_int(value: Any) -> int:
    if not isinstance(value, bool):
        try:
            return int(value) if isinstance(value, str) else _integral(value)
        except (TypeError, ValueError, OverflowError):
            pass
        try:
            return _integral(float(value))
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError(f"= {reprlib.repr(value)}: expected a whole number")


def _integral(value: float) -> int:
    if value != int(value):
        raise ValueError(value)
    return int(value)


def _convert_float(value: Any) -> float:
    if not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError(f"= {reprlib.repr(value)}: expected a number")


def _convert_str(value: Any) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"= {reprlib.repr(value)}: expected text")


def _convert_tuple(value: Any, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        inner = value.strip().removeprefix("(").removeprefix("[")
        inner = inner.removesuffix(")").removesuffix("]")
        value = [part.strip() for part in inner.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"= {reprlib.repr(value)}: expected a list such as 1,2,4")
    if len(parameters) == 2 and parameters[1] is Ellipsis:
        parameters = (parameters[0],) * len(value)
    if len(parameters) != len(value):
        raise ValueError(
            f"= {reprlib.repr(value)}: expected {len(parameters)} values, found {len(value)}"
        )
    return tuple(parse_value(part, kind) for part, kind in zip(value, parameters, strict=True))


def _values(section: Any) -> dict[str, Any]:
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}


def _sections(hyperparams: Any) -> list[str]:
    return [n for n, value in _values(hyperparams).items() if dataclasses.is_dataclass(value)]


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def _suggest(word: Any, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(choices), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _example(base: Any) -> str:
    section = _sections(base)[0]
    name, value = next(iter(_values(getattr(base, section)).items()))
    return f"{section}.{name}={value}"


def run_parser(description: str, add_flags: AddFlags | None = None) -> argparse.ArgumentParser:
    """Build the command line of a training script.

    description: the script's docstring, of which `--help` shows the first two paragraphs.
    add_flags: adds what only this script has.
    """
    parser = command_line("\n\n".join(description.split("\n\n")[:2]))
    add_run_arguments(parser, presets())
    if add_flags is not None:
        add_flags(parser)
    return parser


def answer_early(description: str | None, add_flags: AddFlags | None = None) -> None:
    """Answer --help and wrong flags of this process' command line, which end it, as `train` does.

    A script calls it before torch is loaded.
    """
    run_parser(description or "", add_flags).parse_args(sys.argv[1:])
