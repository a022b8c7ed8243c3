"""Command lines: options that name their defaults, the device, errors that become an exit code.

torch is imported where a device is chosen: --help does not wait for it.
"""

from __future__ import annotations

import argparse
import errno
import logging
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SAVE = Path("save")  # runs, save/KIND/RUN
DEMO = SAVE / "demo"  # weights that come with the repository
POSTNETS = {"cbhg": "postnet.pt", "source": "source.pt"}  # that ship, by kind: of speech, of songs
SPOKEN_POSTNET, SUNG_POSTNET = DEMO / POSTNETS["cbhg"], DEMO / POSTNETS["source"]
MEL_INPAINTER = DEMO / "mel_inpainter.pt"  # finds its own notes; not for words (synthesis.restore)
LEGACY_AUDIO = Path("feature/inpainting/mackenzie_unet_diffusion_inpainter_audio")  # if put there
FULL = ("ENOSPC", "EFBIG", "EDQUOT")  # disk, file, quota


def command_line(description: str) -> argparse.ArgumentParser:
    """Return a parser whose --help prints `description`, its examples included, as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def subcommands(
    parser: argparse.ArgumentParser, script: str, examples: dict[str, tuple[str, str]], **more: str
) -> dict[str, argparse.ArgumentParser]:
    """Add a command for each of `examples`: name → (what it does, options of an example)."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", **more)
    return {
        name: commands.add_parser(
            name,
            help=text,
            description=f"python {script} {name} {example}\n\n{text}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, (text, example) in examples.items()
    }


def option(
    parser: argparse._ActionsContainer,
    flag: str,
    default: str | int | Path,
    text: str,
    **more: Any,
) -> None:
    """Add an option of the type of its default, which its help names."""
    kind = Path if isinstance(default, Path) else type(default)
    parser.add_argument(
        flag, type=kind, default=default, help=f"{text} (default: %(default)s)", **more
    )


def finite_number(text: str) -> float:
    """Read the finite number of a flag."""
    with suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number")


def at_least_zero(text: str) -> float:
    """Read a number of a flag that is 0 or more."""
    if (value := finite_number(text)) < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 up")
    return value


def network_option(
    parser: argparse.ArgumentParser, kind: str, flag: str = "", shipped: Path | None = None
) -> None:
    """Add `--KIND`, a network whose weights ship, in a file of its kind's name or another."""
    text = "a run's name, its folder or a file"
    option(parser, flag or f"--{kind}", shipped or DEMO / f"{kind}.pt", text, metavar="RUN")


def step_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup, flag: str) -> None:
    """Add `--step`, which picks one of the kept steps of the run that `flag` names."""
    parser.add_argument(
        "--step",
        type=int,
        metavar="N",
        help=f"take the weights of this step of {flag}'s run (default: the best validated one)",
    )


def take_step(arguments: argparse.Namespace, flag: str) -> None:
    """Write `--step` into the reference of `flag`: RUN@STEP, as utils.checkpoint.resolve reads it.

    Raises ValueError where the flag was not given.
    """
    if arguments.step is None:
        return
    name = flag.removeprefix("--").replace("-", "_")
    reference = getattr(arguments, name)
    if reference is None:
        raise ValueError(f"--step {arguments.step} picks a step of {flag}: give {flag} RUN, too")
    setattr(arguments, name, reference.with_name(f"{reference.name}@{arguments.step}"))


def corpus_options(parser: argparse.ArgumentParser, split: str = "test") -> None:
    """Add the options that say which items are read."""
    parser.add_argument("--data", required=True, metavar="NAME", help="corpus below --feature-dir")
    splits = ("train", "validation", "test")
    option(parser, "--split", split, "part of the corpus", choices=splits)
    feature_option(parser)


def feature_option(parser: argparse._ActionsContainer) -> None:
    """Add `--feature-dir`."""
    option(parser, "--feature-dir", Path("feature"), "prepared corpora", metavar="DIR")


def device_option(parser: argparse._ActionsContainer) -> None:
    """Add `--device`."""
    text = "auto (cuda, else mps, else cpu), cpu, cuda, cuda:1 or mps"
    option(parser, "--device", "auto", text)


# ---------------------------------------------------------------------------- device


def start_on(name: str = "auto", local_rank: int = 0, is_main: bool = True) -> torch.device:
    """Return the device of a script, ready for use, and set up logging."""
    import torch

    device = choose_device(name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32: eight times as fast, 10 bits of mantissa
        # cuDNN's attention plans anew for each shape, and hardly two batches have one.
        torch.backends.cuda.enable_cudnn_sdp(False)
    level = logging.INFO if is_main else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    return device


def choose_device(name: str = "auto", local_rank: int = 0) -> torch.device:
    """Return the device called `name`: auto takes cuda, else mps, else cpu.

    Raises ValueError when the device is not on this machine, listing those that are.
    """
    import torch

    if name == "auto":
        name = available_devices()[0]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available_devices():
        found = ", ".join(available_devices())
        raise ValueError(f"--device {name}: not on this machine; available: auto, {found}")
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ValueError(
                f"--device cuda:{index}: this machine has {torch.cuda.device_count()} CUDA devices"
            )
        device = torch.device("cuda", index)
    return device


def available_devices() -> list[str]:
    """Return the device types of this machine, the preferred one first."""
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    return found + (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]


def describe_device(device: torch.device) -> str:
    """Return a device in words: what a run says at its start and a README quotes."""
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.0f} GiB)"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


# ---------------------------------------------------------------------------- end


class Terminated(BaseException):
    """SIGTERM, as an exception: what is half made is cleaned up on the way out."""


def exit_code(script: str, work: Callable[[], object]) -> int:
    """Run a script's work; print an expected error and return 2, else return 0."""
    return guarded(script, lambda: (work(), 0)[1])


def guarded(
    name: str, work: Callable[[], int], fault: int = 2, again: str = "nothing was half written"
) -> int:
    """Return the exit code of `work`; say in one line what ended it.

    Bad input, a full disk, too little memory: `fault`. Ctrl-C: 130, SIGTERM: 143, each with `again`
    as the word on what was made so far. Any other exception is a fault of the program and keeps
    its traceback; readers turn what damaged files raise into ValueError (utils.files.reading).
    """
    try:
        with _sigterm_raised():
            return work()
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"{name}: {sentence(error)}", file=sys.stderr)
        return fault
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; {again}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print(f"{name}: stopped by SIGTERM; {again}", file=sys.stderr)
        return 128 + signal.SIGTERM


def sentence(error: BaseException) -> str:
    """Word an error for the user."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'no size given'}); use shorter or smaller input"
    if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in FULL:
        place = f" for {error.filename}" if error.filename else ""
        return f"no room on the disk{place} ({error.strerror}); what was there before is kept"
    return str(error)


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM; only the main thread may install handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
