"""Weights of the legacy system, read safely, renamed one to one, and kept in our own format.

The legacy inpainter is our UNet1d with the preset `legacy`; a file of it is
{step, model, opt, version} with names that begin with `net.`. The transcriber's file is
{config, model_state_dict}, and its configuration says how large our TranscriberNet must be.
Renaming is a pure function of the names, so a round trip needs no original. Nothing in a file is
executed, and every size is checked before a tensor is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from legacy.archive import describe, read_archive
from utils import checkpoint, config

INPAINTER_PATH = Path(
    "checkpoints/inpainting/mackenzie_unet_diffusion_inpainter_audio/2024-05-31-11-27-56/model-39.pt"
)  # below the save folder, where the legacy project's README puts it
TRANSCRIBER_PATH = Path(
    "utils/evaluation/phoneme_informed_note_level_singing_transcription/checkpoints/model.pt"
)  # below the project's own folder
RUN = "published"  # of the converted weights: save/KIND/published/best.pt

# Our name → the legacy one, applied in this order to every name.
_INPAINTER_NAMES = (
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
    (r"^", "net."),
)
_TRANSCRIBER_NAMES = (
    (r"_stack\.conv1\.", "_stack.cnn.0."),
    (r"_stack\.norm1\.", "_stack.cnn.1."),
    (r"_stack\.conv2\.", "_stack.cnn.3."),
    (r"_stack\.norm2\.", "_stack.cnn.4."),
    (r"_stack\.conv3\.", "_stack.cnn.8."),
    (r"_stack\.norm3\.", "_stack.cnn.9."),
    (r"_stack\.linear\.", "_stack.fc.0."),
    (r"_rnn\.", "_rnn.rnn."),
    (r"^phoneme_stack\.", "lang_model.conv_stack."),
    (r"^phoneme_rnn\.", "lang_model.rnn."),
    (r"^phoneme_output\.", "lang_model.fc."),
    (r"^pitch_stack\.", "pitch_conv_stack."),
    (r"^logit_stack\.", "lang_conv_stack."),
    (r"^logit_rnn\.", "lang_rnn."),
    (r"^output\.", "combined_fc."),
)
_NAMES = {"inpainter": _INPAINTER_NAMES, "transcriber": _TRANSCRIBER_NAMES}

# Our knob of the transcriber ← key of the legacy configuration, and of its part on phonemes.
_TRANSCRIBER_KNOBS = {
    "hop_length": "hop_length",
    "win_length": "win_length",
    "n_mels": "n_mels",
    "fmin": "fmin",
    "fmax": "fmax",
    "width": "model_complexity",
    "onset_threshold": "onset_threshold",
    "offset_threshold": "offset_threshold",
    "pitch_summary": "pitch_sum",
}
_PHONEME_KNOBS = {
    "phoneme_win_length": "win_length",
    "phoneme_n_mels": "n_mels",
    "phoneme_fmin": "fmin",
    "phoneme_fmax": "fmax",
    "phoneme_width": "model_complexity",
    "num_phonemes": "num_lbl",
}
LARGEST = 65536  # of a whole number in a configuration: larger ones are no network of this kind


def legacy_name(name: str, kind: str = "inpainter") -> str:
    """Return the legacy name of a parameter of our UNet1d or TranscriberNet."""
    for pattern, replacement in _NAMES[kind]:
        name = re.sub(pattern, replacement, name)
    return name


def legacy_shape(name: str, shape: torch.Size) -> tuple[int, ...]:
    """Return the legacy shape of a parameter: position-wise layers were convolutions there."""
    if re.search(r"\.transformer\.norm[12]\.", name):
        return (1, *shape, 1)
    if re.search(r"\.transformer\.linear[12]\.", name):
        return (*shape, 1)
    return tuple(shape)


def to_legacy(weights: Mapping[str, Tensor], kind: str = "inpainter") -> dict[str, Tensor]:
    """Name and shape weights of ours as the legacy system's; the data are shared."""
    return {
        legacy_name(name, kind): tensor.reshape(legacy_shape(name, tensor.shape))
        for name, tensor in weights.items()
    }


def from_legacy(
    tensors: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    source: Path | str,
    kind: str = "inpainter",
) -> dict[str, Tensor]:
    """Name and shape legacy weights as ours, float32, in memory of their own.

    expected: the state of our network, on any device (`meta` costs nothing). ValueError names what
    is missing, unexpected, of another shape or type, or not finite.
    """
    names = {legacy_name(name, kind): name for name in expected}
    problems = [f"missing {name}" for name in names if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in names]
    for name, ours in names.items():
        if name in tensors:
            problems += _differences(name, tensors[name], ours, expected[ours])
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{source} does not hold the legacy system's {kind}: {len(problems)} differences "
            f"from its {len(names)} tensors\n{shown}{more}"
        )
    weights = {
        ours: tensors[name].reshape(expected[ours].shape).to(expected[ours].dtype, copy=True)
        for name, ours in names.items()
    }
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"{source}: {len(broken)} tensors hold values that are not finite, the first "
            f"{legacy_name(broken[0], kind)}: download it again"
        )
    return weights


def _differences(name: str, found: Any, ours: str, expected: Tensor) -> list[str]:
    shape = legacy_shape(ours, expected.shape)
    of_kind = "a float" if expected.is_floating_point() else "an integer"
    if not isinstance(found, Tensor) or found.is_floating_point() != expected.is_floating_point():
        return [f"{name} is {describe(found)}, expected {of_kind} tensor"]
    if tuple(found.shape) != shape:
        return [f"{name} is {tuple(found.shape)}, expected {shape}"]
    return []


def read_inpainter(path: Path, network: nn.Module) -> tuple[dict[str, Tensor], int]:
    """Read {step, model, opt, version} → weights for `network`, and the step.

    network: a UNet1d of the preset `legacy`, possibly on `meta`. FileNotFoundError when there is
    no file; ValueError for one that is truncated, damaged, foreign or of another network.
    """
    content = read_archive(path, "the legacy system's inpainter")
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError(
            f"{path} is not the legacy system's inpainter: expected step, model, opt, version; "
            f"found {describe(content)}"
        )
    step = content.get("step")
    if type(step) is not int:
        raise ValueError(f"{path}: step is {describe(step)}, expected a whole number")
    return from_legacy(content["model"], network.state_dict(), path), step


def write_inpainter(path: Path, weights: Mapping[str, Tensor], step: int) -> None:
    """Write our weights as the legacy system would: {step, model, opt, version}."""
    content = {"step": step, "model": to_legacy(weights), "opt": {}, "version": "0.0.0"}
    torch.save(content, path)


def convert_inpainter(save_dir: Path, network: nn.Module, hyperparams: Any) -> Path:
    """Return save/inpainter/published/best.pt, converting the legacy file where it is missing.

    network: a UNet1d of the preset `legacy`, possibly on `meta`; hyperparams: that preset, which
    the checkpoint carries. Errors: see `read_inpainter`.
    """
    target = checkpoint.run_directory(save_dir, "inpainter", RUN) / checkpoint.BEST
    if target.is_file():
        return target
    weights, step = read_inpainter(Path(save_dir) / INPAINTER_PATH, network)
    _save(target, "inpainter", weights, step, hyperparams, INPAINTER_PATH)
    return target


def transcriber_knobs(configuration: Any, source: Path | str) -> dict[str, Any]:
    """Translate the legacy transcriber's configuration to knobs of `transcriber`.

    `sample_rate` comes along, for it belongs to another section. ValueError for a missing or
    impossible value, and where both mels do not share one hop and rate.
    """
    if not isinstance(configuration, dict):
        raise ValueError(f"{source}: config is {describe(configuration)}, expected a dict")
    phonemes = configuration.get("lang_model_config")
    if not isinstance(phonemes, dict):
        raise ValueError(f"{source}: config.lang_model_config is {describe(phonemes)}, not a dict")
    knobs = {
        ours: _number(configuration, theirs, source) for ours, theirs in _TRANSCRIBER_KNOBS.items()
    }
    knobs |= {ours: _number(phonemes, theirs, source) for ours, theirs in _PHONEME_KNOBS.items()}
    knobs["sample_rate"] = _number(configuration, "sample_rate", source)
    for key in ("sample_rate", "hop_length"):
        if phonemes.get(key) != configuration[key]:
            raise ValueError(
                f"{source}: config.{key} = {configuration[key]}, but the phoneme recogniser's is "
                f"{phonemes.get(key)}: their frames would not meet"
            )
    knobs["width"] *= 16
    knobs["phoneme_width"] *= 16
    knobs["num_phonemes"] -= 1  # the earlier count includes a blank that the network does not have
    return knobs


def _number(configuration: Mapping[str, Any], key: str, source: Path | str) -> Any:
    """Return a knob: a word for the summary of the pitch, else a number within LARGEST."""
    value: Any = configuration.get(key)
    if key == "pitch_sum":
        if isinstance(value, str):
            return value
        raise ValueError(f"{source}: config.{key} is {describe(value)}, expected a word")
    if type(value) not in (int, float) or not 0 <= value <= LARGEST:
        raise ValueError(f"{source}: config.{key} is {describe(value)}, expected 0 to {LARGEST}")
    if key in ("fmin", "fmax", "onset_threshold", "offset_threshold"):
        return float(value)
    if type(value) is not int or value < 1:
        raise ValueError(
            f"{source}: config.{key} is {describe(value)}, expected a whole number > 0"
        )
    return value


def convert_transcriber(
    source: Path, save_dir: Path, build: Callable[[dict[str, Any]], tuple[nn.Module, Any]]
) -> Path:
    """Return save/transcriber/published/best.pt, converting `source` when it is not there.

    build: knobs (see `transcriber_knobs`) → a TranscriberNet of that size (on `meta`, so that
    nothing is allocated before the sizes are compared) and the hyperparameters that say so. The
    features' own tensors in the file are not read: our network computes them. Errors: see
    `read_archive` and `from_legacy`.
    """
    target = checkpoint.run_directory(save_dir, "transcriber", RUN) / checkpoint.BEST
    if target.is_file():
        return target
    weights, hyperparams = read_transcriber(source, build)
    _save(target, "transcriber", weights, 0, hyperparams, source)
    return target


def read_transcriber(
    path: Path, build: Callable[[dict[str, Any]], tuple[nn.Module, Any]]
) -> tuple[dict[str, Tensor], Any]:
    """Read {config, model_state_dict}: weights and hyperparameters of a transcriber.

    The weights are those of the network that `build` makes; arguments and errors as for
    `convert_transcriber`.
    """
    content = read_archive(path, "the legacy system's transcriber")
    if not isinstance(content, dict) or not isinstance(content.get("model_state_dict"), dict):
        raise ValueError(
            f"{path} is not the legacy system's transcriber: expected config, model_state_dict; "
            f"found {describe(content)}"
        )
    network, hyperparams = build(transcriber_knobs(content.get("config"), path))
    tensors = content["model_state_dict"]
    weights = {name: tensor for name, tensor in tensors.items() if ".feat." not in str(name)}
    return from_legacy(weights, network.state_dict(), path, "transcriber"), hyperparams


def _save(
    target: Path,
    kind: str,
    weights: Mapping[str, Tensor],
    step: int,
    hyperparams: Any,
    source: Path,
) -> None:
    """Write weights as a checkpoint of ours that can be used but not trained on."""
    state = {
        "kind": kind,
        "version": checkpoint.VERSION,
        "step": step,
        "model": weights,
        "ema": None,
        "optimizer": None,
        "best": None,
        "position": None,
        "hyperparams": config.to_dict(hyperparams),
        "data": {"source": source.name, "symbols": [], "statistics": {}},
    }
    checkpoint.save(target, state)
