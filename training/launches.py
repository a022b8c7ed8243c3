"""Count the operations of a call: on a GPU each is a launch or more, whatever its size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# They reserve memory or look at it in another way; nothing is computed.
WITHOUT_WORK = {
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "set_"),
    *("_unsafe_view", "_reshape_alias", "alias", "detach", "lift_fresh"),
}


def is_work(operation: Any) -> bool:
    """Tell whether an operator writes values, as a view of others does not."""
    schema = operation._schema
    if schema.name.partition("::")[2] in WITHOUT_WORK:
        return False
    aliases = [result.alias_info for result in schema.returns]
    return not any(alias is not None and not alias.is_write for alias in aliases)


class Launches(TorchDispatchMode):
    """Counts operations by name, forward and backward, on devices of one type.

    An operator may launch several kernels (a sum, a layer norm's gradients): on an H200 a step of
    the transformer launched 1.1 kernels for each operation counted.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        made = func(*args, **(kwargs or {}))
        tensors = (x for x in torch.utils._pytree.tree_leaves(made) if isinstance(x, torch.Tensor))
        if is_work(func) and any(x.device.type == self.device.type for x in tensors):
            self.counts[func._schema.name] += 1
        return made


def count_launches(work: Callable[[], object], device: torch.device) -> int:
    """Return how many operations a call has on a device."""
    with Launches(device) as launches:
        work()
    return launches.counts.total()
