"""Weights of the earlier system, read safely, renamed one to one, and kept in our own format.

The earlier inpainter is our UNet1d with the preset `published`; a file of it is
{step, model, opt, version} with names that begin with `net.`. Renaming is a pure function of the
names, so a round trip needs no original. Nothing in a file is executed, and every size is checked
before a tensor is copied.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils import checkpoint, config

INPAINTER_PATH = Path(
    "checkpoints/inpainting/mackenzie_unet_diffusion_inpainter_audio/2024-05-31-11-27-56/model-39.pt"
)  # below the save folder, where the earlier project's README puts it
RUN = "published"  # of the converted weights: save/inpainter/published/best.pt
MAX_PICKLE = 64 * 2**20  # bytes of a file's structure without its tensors; the real one has 0.2 MiB

# Our name → the earlier one, applied in this order to every name.
_NAMES = (
    (r"^noise_embedding\.frequencies$", "to_time.0.0.weights"),
    (r"^noise_embedding\.project\.", "to_time.0.1."),
    (r"^noise_embedding\.mapping\.", "to_mapping."),
    (r"^patches\.", "to_in.module_list."),
    (r"^downs\.", "downsamples."),
    (r"^bottleneck\.before\.", "bottleneck.pre_block."),
    (r"^bottleneck\.after\.", "bottleneck.post_block."),
    (r"^ups\.", "upsamples."),
    (r"^unpatches\.", "to_out.module_list."),
    (r"\.transformer\.norm1\.weight$", ".transformer.feed_forward.0.g"),
    (r"\.transformer\.linear1\.", ".transformer.feed_forward.1."),
    (r"\.transformer\.norm2\.weight$", ".transformer.feed_forward.3.g"),
    (r"\.transformer\.linear2\.", ".transformer.feed_forward.4."),
    (r"\.attention\.norm\.weight$", ".attention.fn.norm.g"),
    (r"\.attention\.to_query\.", ".attention.fn.to_q."),
    (r"\.attention\.to_key_value\.", ".attention.fn.to_kv."),
    (r"\.attention\.project\.", ".attention.fn.attention.to_out.0."),
    (r"\.attention\.project_norm\.weight$", ".attention.fn.attention.to_out.1.g"),
    (r"\.norm([12])\.", r".block\1.groupnorm."),
    (r"\.conv([12])\.", r".block\1.project."),
    (r"\.scale_shift\.", ".to_scale_shift.to_scale_shift.1."),
    (r"\.shortcut\.", ".to_out."),
)


def published_name(name: str) -> str:
    """The earlier system's name of a parameter of our UNet1d."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return f"net.{name}"


def published_shape(name: str, shape: torch.Size) -> tuple[int, ...]:
    """The earlier shape of a parameter of ours: position-wise layers were convolutions there."""
    if re.search(r"\.transformer\.norm[12]\.", name):
        return (1, *shape, 1)
    if re.search(r"\.transformer\.linear[12]\.", name):
        return (*shape, 1)
    return tuple(shape)


def to_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of our UNet1d, named and shaped as the earlier system's; the data are shared."""
    return {
        published_name(name): tensor.reshape(published_shape(name, tensor.shape))
        for name, tensor in weights.items()
    }


def from_published(
    tensors: Mapping[str, Any], expected: Mapping[str, Tensor], source: Path | str
) -> dict[str, Tensor]:
    """The earlier system's weights, named and shaped as ours; the data are shared.

    expected: the state of our network, on any device (`meta` costs nothing). ValueError names what
    is missing, unexpected, of another shape or not a float tensor.
    """
    names = {published_name(name): name for name in expected}
    problems = [f"missing {name}" for name in names if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in names]
    for name, ours in names.items():
        if name not in tensors:
            continue
        found, shape = tensors[name], published_shape(ours, expected[ours].shape)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            problems.append(f"{name} is {_kind(found)}, expected a float tensor")
        elif tuple(found.shape) != shape:
            problems.append(f"{name} is {tuple(found.shape)}, expected {shape}")
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{source} does not hold the earlier system's inpainter: {len(problems)} differences "
            f"from its {len(names)} tensors\n{shown}{more}"
        )
    return {ours: tensors[name].reshape(expected[ours].shape) for name, ours in names.items()}


def read_inpainter(path: Path, network: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Read {step, model, opt, version} → weights for `network` (float32, own memory) and the step.

    network: a UNet1d of the preset `published`, possibly on `meta`. FileNotFoundError when there is
    no file; ValueError for one that is truncated, damaged, foreign or of another network.
    """
    content = read_archive(path, "the earlier system's inpainter")
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(
            f"{path} is not the earlier system's inpainter: expected step, model, opt, version; "
            f"found {_kind(content)}"
        )
    step = content.get("step")
    if type(step) is not int:
        raise ValueError(f"{path}: step is {_kind(step)}, expected a whole number")
    shared = from_published(content["model"], network.state_dict(), path)
    weights = {name: tensor.to(torch.float32, copy=True) for name, tensor in shared.items()}
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"{path}: {len(broken)} tensors hold values that are not finite, the first "
            f"{published_name(broken[0])}: download it again"
        )
    return weights, step


def write_inpainter(path: Path, weights: Mapping[str, Tensor], step: int) -> None:
    """Write our weights as the earlier system would: {step, model, opt, version}."""
    content = {"step": step, "model": to_published(weights), "opt": {}, "version": "0.0.0"}
    torch.save(content, path)


def convert_inpainter(save_dir: Path, network: nn.Module, hyperparams: Any) -> Path:
    """Return save/inpainter/published/best.pt, converting the earlier file when it is not there.

    network: a UNet1d of the preset `published`, possibly on `meta`; hyperparams: that preset, which
    the checkpoint carries. Errors: see `read_inpainter`.
    """
    target = checkpoint.run_directory(save_dir, "inpainter", RUN) / checkpoint.BEST
    if target.is_file():
        return target
    weights, step = read_inpainter(Path(save_dir) / INPAINTER_PATH, network)
    state = {
        "kind": "inpainter",
        "version": checkpoint.VERSION,
        "step": step,
        "model": weights,
        "ema": None,
        "optimizer": None,
        "best": None,
        "position": None,
        "hyperparams": config.to_dict(hyperparams),
        "data": {"source": INPAINTER_PATH.name, "symbols": [], "statistics": {}},
    }
    checkpoint.save(target, state)
    return target


def read_archive(path: Path, content: str) -> Any:
    """Read a file of torch.save without running code, its tensors mapped rather than allocated.

    content: what the file should hold, for messages. FileNotFoundError when it is missing,
    ValueError when it is anything else than a whole and sound archive of plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file at {path}, where {content} is expected: the earlier project's README links "
            "the download; put it there under this name"
        )
    _check_archive(path, content)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors and plain values, so it is not {content} and is not "
            f"opened ({str(error).splitlines()[0][:200]})"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} ({_size(path)}) cannot be read as {content}: {str(error)[:200]}"
        ) from error


def _check_archive(path: Path, content: str) -> None:
    """ValueError unless the file is a whole zip of stored records whose checksums hold."""
    again = f"expected {content}; download it again to {path}"
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty: {again}")
    if not start.startswith(b"PK"):
        looks = "a web page" if start.lstrip()[:1] == b"<" else f"a file that begins {start[:8]!r}"
        raise ValueError(f"{path} ({_size(path)}) is {looks}, not an archive of PyTorch: {again}")
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            foreign = [
                record.filename
                for record in records
                if record.compress_type != zipfile.ZIP_STORED
                or (record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE)
            ]
            pickles = [r.filename for r in records if r.filename.endswith("data.pkl")]
            if foreign or len(pickles) != 1:
                raise ValueError(
                    f"{path} is a zip of {len(records)} files, but none that PyTorch wrote "
                    f"({(foreign or [r.filename for r in records])[:3]}): {again}"
                )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"{path} ({_size(path)}) is cut off or half-downloaded ({error}): {again}"
        ) from error
    if damaged is not None:
        raise ValueError(
            f"{path} ({_size(path)}) is damaged: {damaged} fails its checksum: {again}"
        )


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _kind(value: Any) -> str:
    """A few words on a value that was not expected."""
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, list(value)[:6])) or 'nothing'}"
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor {tuple(value.shape)}"
    return f"{type(value).__name__} {str(value)[:40]}"
