"""Checkpoints: one file per state, written atomically, made of tensors and plain values only.

A run lives in save/KIND/RUN/ as last.pt (to resume), best.pt (lowest validation score, without
optimiser), step-00001000.pt (the last validated steps, without optimiser, and those kept for
good), hyperparams.yaml, stats.jsonl and TensorBoard events.
A state is {kind, version, step, model, ema, optimizer, discriminator, best, position, hyperparams,
data}.
"""

from __future__ import annotations

import errno
import pickle
import re
import reprlib
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from hyperparams import Hyperparams
from utils import config
from utils.files import UNREADABLE, atomic, reading
from utils.flags import POSTNETS, SAVE

REPOSITORY = Path(__file__).resolve().parents[1]

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


VERSION = 1
KINDS = ("transformer", "postnet", "inpainter", "transcriber")
LAST, BEST = "last.pt", "best.pt"
MOST_LISTED = 20  # checkpoints in an error message
MOST_RECORDS = 100_000  # of a file: tensors
ENTRIES: dict[str, type | UnionType] = {  # the types of a state's entries
    "kind": str,
    "version": int,
    "step": int,
    "model": dict,
    "ema": dict | None,
    "optimizer": dict | None,
    "discriminator": dict | None,
    "best": dict | None,
    "hyperparams": dict,
    "data": dict,
    "progress": dict,
}
FIRST_VOICE = "first"  # name of voice 0, which every transformer has
REQUIRED = ("kind", "version", "step", "model", "hyperparams", "data")


def run_directory(save_dir: Path, kind: str, run: str) -> Path:
    """Return save_dir/kind/run; a run name that would leave the folder raises ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", run):
        raise ValueError(
            f"--run {run!r}: a run name is made of letters, digits and . _ + -, and begins with a "
            "letter or digit"
        )
    return Path(save_dir) / kind / run


def numbered(step: int) -> str:
    """Return the file name of a checkpoint that stays."""
    return f"step-{step:08d}.pt"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path` so that a crash at any moment leaves the old file or the new one.

    Raises ValueError when something in it is neither a tensor nor a plain value.
    """
    import torch

    plain = _plain(state, "state")
    try:
        with atomic(path) as temporary, open(temporary, "wb") as file:
            torch.save(plain, file)
    except (OSError, RuntimeError) as error:  # of a full disk torch says "unexpected pos"
        number = getattr(error, "errno", None) or errno.ENOSPC
        raise OSError(number, f"cannot be written: {_first_line(error)}", str(path)) from error


def load(
    path: Path, kind: str | None = None, map_location: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint of the given kind with weights_only=True.

    Raises FileNotFoundError listing what exists below the save folder and the command that would
    train it; ValueError when the file is truncated, damaged by as little as a bit, foreign, of
    another kind or of a newer version.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(_missing(path, kind))
    try:
        _check_archive(path)
        state = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is not a checkpoint of this repository: it holds more than tensors and plain "
            f"values, or is damaged ({_first_line(error)})"
        ) from error
    except (*UNREADABLE, zipfile.BadZipFile, OSError, ValueError) as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) cannot be read: truncated or damaged "
            f"({_first_line(error)}). Delete it and use another one:\n{listing(_save_root(path))}"
        ) from error
    _check(state, path, kind)
    return state


def facts(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Read a checkpoint whose tensors nobody needs, without torch: each is an `Unread`.

    What cannot be read so is left to `load`, and its errors.
    """
    path = Path(path)
    try:
        _check_archive(path)
        state = read_without_tensors(path)
        _check(state, path, kind)
    except (*UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile, OSError, ValueError):
        return load(path, kind)
    return state


def weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights to use: the moving average when the state has one, else the model's."""
    return state["ema"] if state.get("ema") else state["model"]


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Copy `tensors` into `module` (half precision widens); ValueError names what does not fit."""
    expected = module.state_dict()
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"the weights of {source} do not fit {type(module).__name__}: {len(problems)} of "
            f"{len(expected)} tensors differ\n{shown}{more}\nbuild the network from the "
            "checkpoint's own hyperparameters and symbols, or train again"
        )
    module.load_state_dict(dict(tensors))


@contextmanager
def limited_to(tensors: Mapping[str, Tensor], source: Path | str) -> Iterator[None]:
    """Raise ValueError while a network is built that cannot be the one whose weights these are.

    Damaged or made-up hyperparameters may ask for a billion layers or channels. A parameter is
    looked at when it is registered: its memory is reserved by then, but not yet touched.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    most, count = 2 * len(tensors) + 100, 0
    largest = max((tensor.numel() for tensor in tensors.values()), default=0)

    def look(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal count
        count += 1
        size = 0 if parameter is None else parameter.numel()
        if count > most or size > largest:
            what = f"a tensor of {size}" if size > largest else f"more than {most} tensors"
            raise ValueError(
                f"{source}: its hyperparameters describe a network with {what}, but it holds "
                f"{len(tensors)} tensors of at most {largest} values; it is damaged"
            )

    handle = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        handle.remove()


def start_from(
    module: nn.Module,
    path: Path,
    kind: str,
    own_buffers: Sequence[str] = (),
    growing: Sequence[str] = (),
) -> list[str]:
    """Begin with the weights (moving average, if any) of another run; errors as `load`.

    What the other run has not, or has in another shape, stays as it was initialised; the lines
    returned say what. ValueError when those are over two thirds of all values. own_buffers
    describe the new run's corpus and stay as they are; growing tensors may have more rows than the
    other run's, which become the first ones.
    """
    path = resolve(path, kind)
    tensors, own = weights(load(path, kind)), module.state_dict()
    fitting = {
        name: tensor
        for name, tensor in tensors.items()
        if name in own and tensor.shape == own[name].shape and name not in own_buffers
    }
    for name in set(growing) & set(own) & set(tensors) - set(fitting):
        rows, tensor = own[name].clone(), tensors[name]
        if tensor.shape[1:] == rows.shape[1:] and len(tensor) < len(rows):
            rows[: len(tensor)] = tensor
            fitting[name] = rows
    new = [name for name in own if name not in fitting and name not in own_buffers]
    if 3 * sum(own[name].numel() for name in new) > 2 * sum(t.numel() for t in own.values()):
        load_weights(module, tensors, path)  # says what differs
    module.load_state_dict({**own, **fitting})
    parts = ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in new))
    line = f"{path} has no weights for {len(new)} tensors, which begin untrained: {parts}"
    return [line] if new else []


def resolve(
    reference: Path | str, kind: str, save_dir: Path = SAVE, step: int | None = None
) -> Path:
    """Find a checkpoint by its file, its run's folder or its run's name.

    The postnets that ship have the names of their kinds, cbhg and source.
    Of a run, the one with the best validation score, else the last one; with `step`, or as
    REFERENCE@STEP, the one of that step. Raises FileNotFoundError listing what exists and the
    command that would train it.
    """
    reference = Path(reference)
    name, mark, number = reference.name.rpartition("@")
    if mark and number.isdecimal() and not reference.exists():
        reference, step = reference.with_name(name), int(number)
    candidates = [reference, Path(save_dir) / kind / reference]
    if kind == "postnet" and str(reference) in POSTNETS:
        candidates.append(Path(save_dir) / "demo" / POSTNETS[str(reference)])
    for candidate in candidates:
        if candidate.is_file() and (step is None or stored_step(candidate) == step):
            return candidate
        folder = candidate.parent if candidate.is_file() else candidate
        if step is None:
            names = [BEST, LAST]
        else:
            names = [n for n in (numbered(step), BEST, LAST) if stored_step(folder / n) == step]
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(_missing(reference, kind, Path(save_dir), step))


def stored_step(path: Path) -> int | None:
    """Return the step of a checkpoint; None where there is none that can be read."""
    state = _glance(path)
    return None if state is None else state["step"]


def listing(save_dir: Path, kind: str | None = None) -> str:
    """Return one line per checkpoint (of a kind) below `save_dir`, newest first: step, age, size.

    Where there is none, say so.
    """
    paths = sorted(Path(save_dir).rglob("*.pt"), key=lambda p: p.stat().st_mtime, reverse=True)
    states = ((path, _glance(path)) for path in paths)
    found = [(p, s) for p, s in states if s is None or kind is None or s["kind"] == kind]
    if kind is not None:  # what cannot be read may be meant only where nothing else is there
        found = [entry for entry in found if entry[1] is not None] or found
    if not found:
        return f"  no {kind or ''} checkpoints below {save_dir}/".replace("no  ", "no ")
    lines = []
    for path, state in found[:MOST_LISTED]:
        what = "unreadable" if state is None else f"{state['kind']}, step {state['step']}"
        size = path.stat().st_size / 2**20
        lines.append(f"  {path}: {what}, {_age(path)} old, {size:.1f} MiB")
    more = len(found) - MOST_LISTED
    return "\n".join(lines + ([f"  and {more} more"] if more > 0 else []))


def _glance(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint without its tensors (they stay on the disk); None where it is none."""
    if not path.is_file():
        return None
    try:
        state = read_without_tensors(path)
    except (*UNREADABLE, pickle.UnpicklingError, zipfile.BadZipFile, OSError, ValueError):
        return None
    return state if isinstance(state, dict) and not _wrong_entries(state) else None


def _age(path: Path) -> str:
    seconds = max(0.0, time.time() - path.stat().st_mtime)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def training_command(kind: str, run: str = "RUN") -> str:
    """Return the command that trains a network of this kind."""
    return f"python train_{kind}.py --data NAME --run {run}"


def export_half(path_in: Path, path_out: Path) -> int:
    """Write the weights to use in float16, without optimiser, and return the bytes of the new file.

    A tensor that float16 cannot hold (a value beyond 65504) stays as it is.
    """
    state = load(path_in)
    halved = {name: _half(tensor) for name, tensor in weights(state).items()}
    left_out = dict.fromkeys(("ema", "optimizer", "discriminator", "position"))
    save(path_out, {**state, **left_out, "model": halved})
    return Path(path_out).stat().st_size


def _half(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    import torch

    half = tensor.to(torch.float16)
    return half if torch.isfinite(half).all() or not torch.isfinite(tensor).all() else tensor


def _plain(value: Any, where: str) -> Any:
    """Return `value` with plain containers and detached tensors; ValueError names anything else."""
    if _is_tensor(value):
        return value.detach()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise ValueError(f"{where}: a key is {key!r}; a checkpoint's keys are str or int")
        return {key: _plain(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_plain(part, f"{where}[{index}]") for index, part in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    raise ValueError(
        f"{where} is a {type(value).__module__}.{type(value).__name__}; a checkpoint holds only "
        "tensors, str, int, float, bool, None, lists, tuples and dicts"
    )


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor; without torch nothing is."""
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor)


def _check_archive(path: Path) -> None:
    """Verify the checksum of every record; ValueError or BadZipFile for a damaged file.

    torch.load reads the records without looking at their checksums: a flipped bit would be another
    weight. Records are stored, never compressed: a file needs no more memory than its size. Files
    that are no archives are left to torch.load, which refuses them.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if len(records) > MOST_RECORDS or len({r.filename for r in records}) != len(records):
            raise ValueError(f"{len(records)} records; expected at most {MOST_RECORDS}, each once")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("compressed records, which torch.save does not write")
        if broken := archive.testzip():
            raise ValueError(f"the checksum of {broken} is wrong")


def _wrong_entries(state: Mapping[str, Any]) -> list[str]:
    """Name the entries that are missing, or that have another type than a checkpoint's."""
    wrong = [f"{key} is missing" for key in REQUIRED if key not in state]
    for key, value in state.items():
        kinds = ENTRIES.get(key, object)
        if not isinstance(value, kinds) or isinstance(value, bool):
            wrong.append(f"{key} is {reprlib.repr(value)}")
    for key in ("model", "ema"):
        tensors = state.get(key)
        if isinstance(tensors, dict) and not all(
            isinstance(name, str) and (isinstance(tensor, Unread) or _is_tensor(tensor))
            for name, tensor in tensors.items()
        ):
            wrong.append(f"{key} holds more than named tensors")
    return wrong


def _check(state: Any, path: Path, kind: str | None) -> None:
    if not isinstance(state, dict) or any(key not in state for key in REQUIRED):
        found = ", ".join(map(str, list(state)[:8])) if isinstance(state, dict) else type(state)
        raise ValueError(
            f"{path} is not a checkpoint of this repository: expected {', '.join(REQUIRED)}; "
            f"found {found}"
        )
    if wrong := _wrong_entries(state):
        raise ValueError(f"{path} is not a checkpoint of this program: {'; '.join(wrong)}")
    if state["version"] > VERSION:
        raise ValueError(
            f"{path} is of version {state['version']}, newer than this program's {VERSION}: update "
            "the program"
        )
    if kind is not None and state["kind"] != kind:
        raise ValueError(
            f"{path} holds a {state['kind']}, expected a {kind}. "
            f"{_choices(_save_root(path), kind, [training_command(kind)])}"
        )


def _missing(
    path: Path, kind: str | None, save_dir: Path | None = None, step: int | None = None
) -> str:
    root = save_dir if save_dir is not None else _save_root(path)
    name = path.parent.name if path.suffix == ".pt" else path.name
    commands = [training_command(k, name or "RUN") for k in ((kind,) if kind else KINDS)]
    what = f"{kind} checkpoint" if kind else "checkpoint"
    of_step = "" if step is None else f" of step {step}"
    return f"no {what}{of_step} at {path}. {_choices(root, kind, commands)}"


def _choices(save_dir: Path, kind: str | None, commands: Sequence[str]) -> str:
    """Return the listing and what to do: name one of it, or train one where there is none."""
    shown = listing(save_dir, kind)
    if ".pt: " in shown:
        return f"There are\n{shown}\ngive one of these, by its path or its run's name"
    ships = REPOSITORY / "save" / "demo" / f"{kind}.pt"
    if ships.exists() and Path.cwd() != REPOSITORY:  # called from another folder
        return f"There are\n{shown}\nthose that ship are below {REPOSITORY}: cd there first"
    return f"There are\n{shown}\ntrain one: {' or '.join(commands)}"


def _save_root(path: Path) -> Path:
    """Return the folder above kind/run of a checkpoint path, else the folder beside it."""
    for parent in path.parents:
        if parent.name in KINDS:
            return parent.parent
    return path.parent if path.parent.is_dir() and path.parent != Path(".") else SAVE


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# ---------------------------------------------------------------------------- without torch
# torch.save writes a zip archive: one pickle, and a record for the storage of each tensor. Here the
# pickle alone is read, by an unpickler that knows plain values and how a tensor is announced.

PICKLE = "/data.pkl"  # the end of its name in the archive


class Unread:
    """A tensor, or its storage, that stayed in the file."""


def _unread(*_: Any) -> Unread:
    return Unread()


class _Unpickler(pickle.Unpickler):
    """Make plain values and `Unread`s; anything else raises UnpicklingError, nothing is called."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a global of the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _unread
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return Unread
        raise pickle.UnpicklingError(f"{module}.{name} in a checkpoint")

    def persistent_load(self, pid: Any) -> Unread:
        """Return a placeholder of a tensor's storage."""
        return Unread()


def read_without_tensors(path: Path) -> Any:
    """Return the state that `torch.save` wrote, an `Unread` for every tensor.

    Raises UnpicklingError for what is no plain value, and what zipfile and pickle raise for files
    that are damaged or no archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(PICKLE)]
        if len(names) != 1:
            raise pickle.UnpicklingError(f"{len(names)} records {PICKLE}, expected one")
        with archive.open(names[0]) as file:
            return _Unpickler(file).load()


SECTIONS = {  # of the hyperparameters that a network of each kind is used with
    "transformer": ("audio", "transformer", "synthesis"),
    "postnet": ("audio", "postnet", "synthesis"),
    "inpainter": ("audio", "unet", "diffusion", "inpainting", "mel_inpainting"),
}


@dataclass(frozen=True)
class Stored:
    """What a checkpoint says of its network, the network left out."""

    hyperparams: Hyperparams
    data: dict[str, Any]  # symbols, statistics, corpus
    path: Path
    step: int


def load_facts(reference: Path, kind: str) -> Stored:
    """Read what a checkpoint says of its network; errors as utils.loading.load."""
    path = resolve(reference, kind)
    state = facts(path, kind)
    with reading(path):
        hyperparams = config.from_dict(state["hyperparams"], Hyperparams, SECTIONS[kind])
    return Stored(hyperparams, state["data"], path, state["step"])
