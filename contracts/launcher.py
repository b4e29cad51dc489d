"""The group of processes that torchrun, SLURM or Lightning started, as the environment says.

A rank alone is no group: shells and schedulers leave ``RANK`` or ``SLURM_PROCID`` behind. A group has a size.
"""

import os
from dataclasses import dataclass

from contracts.errors import LikenessError

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where Lightning looks for a rank, whether or not there is a group."""
_INTERACTIVE = ("bash", "interactive")
"""Names of SLURM jobs in whose shell commands are started by hand."""


@dataclass(frozen=True)
class LaunchedGroup:
    """``size`` processes on ``nodes`` machines, of which this one has ``rank``. ``by`` names what started them."""

    by: str
    size: int
    rank: int
    nodes: int

    @property
    def devices(self) -> int:
        """Processes on each machine."""
        return self.size // self.nodes


def launched_group() -> LaunchedGroup | None:
    """The group that torchrun or ``srun`` started, and this process is one of; ``None`` for a process on its own.

    Raises:
        LikenessError: the variables contradict one another, or say too little.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        size, local = _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE")
        return _group("torchrun", size, _number("RANK"), local) if size > 1 else None
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        size = _number("SLURM_NTASKS")
        if size == 1:
            return None
        if "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise LikenessError(
                f"SLURM started {size} tasks and does not say how many on each machine: give the job "
                "--ntasks-per-node in place of --ntasks"
            )
        return _group("SLURM", size, _number("SLURM_PROCID"), _number("SLURM_NTASKS_PER_NODE"))
    return None


def is_first_process() -> bool:
    """Whether this is the only process, or the one of a group that speaks."""
    try:
        group = launched_group()
    except LikenessError:  # every process says so
        return True
    if group is not None:
        return group.rank == 0
    if (os.environ.get("WORLD_SIZE") or "1") == "1":
        return True
    ranks = ("RANK", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")  # Lightning gives its processes no rank over all machines
    return all(_number(rank, "0") == 0 for rank in ranks)


def forget_stray_ranks() -> None:
    """Take the rank of a process that is in no group out of the environment.

    Lightning would believe it: a process with ``RANK=1`` writes no logs. Call this before Lightning is imported.
    """
    if launched_group() is None and (os.environ.get("WORLD_SIZE") or "1") == "1":
        for name in _RANKS:
            os.environ.pop(name, None)


def _group(by: str, size: int, rank: int, local: int) -> LaunchedGroup:
    if local < 1 or size % local or not 0 <= rank < size:
        raise LikenessError(
            f"{by}: {size} processes with {local} on each machine, of which this is number {rank}, are no group: give "
            "every machine the same number of processes"
        )
    return LaunchedGroup(by, size, rank, size // local)


def _number(name: str, default: str = "") -> int:
    text = os.environ.get(name) or default
    try:
        return int(text)
    except ValueError:
        raise LikenessError(f"the environment variable {name} is {text!r}, it must be a number") from None
