"""What the training scripts of the pocket models share: a cosine schedule, weight averaging, resumable state."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from contracts.files import atomic_path
from pocket.models.computing import device, drawing_processes

Shown = Mapping[str, Tensor | float]
"""Numbers for the progress bar, read from the device only when they are shown."""
_LOOK_EVERY = 50  # steps


def cosine_rate(peak: float, steps: int, warmup: int = 100) -> Callable[[int], float]:
    """Learning rate by step: linear warm-up, then a cosine down to one hundredth of the peak."""

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))

    return rate


class Averaged:
    """Exponential moving average of a module's parameters (decay ramps up as (1 + n) / (10 + n))."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def update(self, module: nn.Module) -> None:
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        now = module.state_dict()
        names = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.shadow[n] for n in names], [now[n].detach() for n in names], 1 - keep)

    def state_dict(self) -> dict:
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        self.shadow = state["shadow"]


def fit(
    module: nn.Module,
    loss: Callable[..., tuple[Tensor, Shown]],
    steps: int,
    peak_rate: float,
    state_file: Path,
    name: str,
    decay: float = 0.999,
    weight_decay: float = 0.01,
    save_seconds: float = 120.0,
    until: int | None = None,
    views: Callable[[int], Any] | None = None,
) -> dict[str, Tensor]:
    """Train ``module`` on :func:`pocket.models.computing.device` and return its averaged state, on the CPU.

    ``loss(step)`` computes one step's loss and the numbers to show; everything random in it must be keyed by
    ``step``, so that a run that was stopped goes on from ``state_file`` as if it had not been. ``until`` ends
    the training early, on the schedule of ``steps``. With ``views`` it is ``loss(step, views(step))``; beside a GPU
    other processes draw them ahead, so they must stay on the CPU.
    """
    module.to(device())
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=peak_rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True)
    average = Averaged(module, decay)
    rate = cosine_rate(peak_rate, steps)
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True, map_location=device())
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        average.load_state_dict(state["average"])
        first = state["step"]
    saved = time.monotonic()
    module.train()
    last = steps if until is None else until
    bar = tqdm(_drawn(views, first, last), initial=first, total=last, desc=name, mininterval=10)
    for step, drawn in bar:
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        value, shown = loss(step) if views is None else loss(step, drawn)
        saves = time.monotonic() - saved > save_seconds or step + 1 == last
        # A look at a number makes the processor wait for the GPU, so not every step has one there.
        looks = step % _LOOK_EVERY == 0 or saves
        if (looks or value.device.type == "cpu") and not math.isfinite(value.item()):
            raise RuntimeError(f"{name}: the loss is not finite at step {step}")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.update(module)
        if looks:
            bar.set_postfix({k: f"{float(v):.4g}" for k, v in shown.items()}, refresh=False)
        if saves:
            saved = time.monotonic()
            state = {
                "module": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
            }
            with atomic_path(state_file) as temporary:
                torch.save(state, temporary)
    module.to("cpu")
    return {name: value.cpu() for name, value in average.shadow.items()}


class _Steps(Dataset):
    """The views of each step, by its number."""

    def __init__(self, views: Callable[[int], Any]) -> None:
        self.views = views

    def __getitem__(self, step: int) -> tuple[int, Any]:
        return step, self.views(step)


def _drawn(views: Callable[[int], Any] | None, first: int, last: int) -> Iterator[tuple[int, Any]]:
    """Steps and their views, in order."""
    if views is None or not drawing_processes():
        return ((step, views and views(step)) for step in range(first, last))
    return iter(
        DataLoader(
            _Steps(views),
            batch_size=None,
            sampler=range(first, last),
            num_workers=drawing_processes(),
            collate_fn=_as_it_is,
            worker_init_fn=_draws_alone,
            multiprocessing_context="fork",
            prefetch_factor=4,
        )
    )


def _as_it_is(drawn: Any) -> Any:
    return drawn


def _draws_alone(_: int) -> None:
    # OpenCV's threads do not survive a fork: whoever waits for them waits for ever.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def generator(*key: int) -> torch.Generator:
    """A CPU generator keyed by whole numbers."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 25)
    return torch.Generator().manual_seed(seed)
