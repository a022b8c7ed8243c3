"""The legacy project's training audio: {train,test}_norm.pt, pairs of tensors in one file each.

A file is a list of two lists of one-dimensional float tensors, [[vocal, ...], [guitar, ...]], at
16 kHz and pairwise of equal length. It is opened without running code and mapped, not read: a
song's samples come into memory when its turn comes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from corpora.records import ArrayPair, Rejection
from legacy.archive import describe, read_archive

FILES = {"train": "train_norm.pt", "test": "test_norm.pt"}  # prefix of the ids: file
TEST_PREFIX = "test-"  # ids that begin so are the test split
SAMPLE_RATE = 16000  # Hz, of these files; they do not say it
CONTENT = "the legacy project's audio"
ROLES = ("vocal", "guitar")  # the two lists of a file
FLOATS = (torch.float16, torch.float32, torch.float64)


def read_published(directory: Path) -> tuple[list[ArrayPair], list[Rejection]]:
    """Open both files of a folder: its pairs, and those whose tensors are not usable, by index.

    FileNotFoundError when a file is missing; ValueError for one that is truncated, damaged,
    foreign or holds lists of different lengths. Samples are looked at later, song by song.
    """
    pairs: list[ArrayPair] = []
    rejections: list[Rejection] = []
    for prefix, name in FILES.items():
        path = Path(directory) / name
        for index, tensors in enumerate(zip(*_lists(path), strict=True)):
            id = f"{prefix}-{index:04d}"
            fault = _pair_fault(name, index, tensors)
            if fault:
                rejections.append(Rejection(id, fault))
            else:
                pairs.append(_pair(id, name, index, tensors))
    return pairs, rejections


def _lists(path: Path) -> tuple[list[Any], list[Any]]:
    """Read both lists of a file, of one length; ValueError otherwise."""
    content = read_archive(path, CONTENT)
    expected = (
        f"{path} is not {CONTENT}: expected two lists of tensors, [[vocal, ...], [guitar, ...]]"
    )
    if not isinstance(content, list) or len(content) != 2:
        size = f" of {len(content)}" if isinstance(content, list) else f", {describe(content)}"
        raise ValueError(f"{expected}; found a {type(content).__name__}{size}")
    vocals, guitars = content
    for number, part in enumerate(content):
        if not isinstance(part, list):
            raise ValueError(f"{expected}; [{number}] is {describe(part)}")
    if len(vocals) != len(guitars):
        raise ValueError(
            f"{path}: {len(vocals)} vocals and {len(guitars)} guitars; expected as many of each, "
            "for they belong together by index"
        )
    if not vocals:
        raise ValueError(f"{path}: both lists are empty; expected at least one song")
    return vocals, guitars


def _pair_fault(file: str, index: int, tensors: tuple[Any, Any]) -> str | None:
    """Say what is wrong with a pair as it stands in the file, or None; no sample is read."""
    for number, (role, tensor) in enumerate(zip(ROLES, tensors, strict=True)):
        if fault := _tensor_fault(tensor):
            return f"{role} {file}[{number}][{index}] {fault}"
    lengths = [len(tensor) for tensor in tensors]
    if lengths[0] != lengths[1]:
        return (
            f"{file}[0][{index}] has {lengths[0]} samples, {file}[1][{index}] has {lengths[1]}: "
            "expected the same number, for they are aligned"
        )
    return None


def _tensor_fault(tensor: Any) -> str | None:
    if not isinstance(tensor, Tensor):
        return f"is {describe(tensor)}, expected a float tensor of one dimension"
    is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not is_plain or tensor.dtype not in FLOATS or tensor.dim() != 1:
        return f"is {describe(tensor)}, expected a float tensor of one dimension"
    if not len(tensor):
        return "is empty"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"claims {len(tensor)} samples, more than it stores"
    return None


def _pair(id: str, file: str, index: int, tensors: tuple[Tensor, Tensor]) -> ArrayPair:
    vocal, guitar = (tensor.detach().numpy() for tensor in tensors)
    names = (f"{file}[0][{index}]", f"{file}[1][{index}]")
    return ArrayPair(id, vocal, guitar, names, SAMPLE_RATE)
