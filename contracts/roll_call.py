"""Who is silent, when processes that work together have waited in vain for one of them."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import torch.distributed

from contracts.errors import LikenessError

PATIENCE = 5.0
"""Seconds for the others to find out too that one does not answer."""
_KEEPER = 0
_names: list[tuple[str, int]] = []
"""Host and process by rank."""
_WAITED = re.compile(r"timed? ?out|connection (closed|reset) by peer|broken pipe|socket closed", re.IGNORECASE)


class SilentRank(LikenessError):
    """A process did not answer in time, and the others end."""


def say_who_i_am(count: int) -> None:
    """Collective. Let every process know the others by name. Call it once they are connected."""
    if count > 1 and _is_group():
        _names[:] = [("", 0)] * count
        torch.distributed.all_gather_object(_names, (socket.gethostname(), os.getpid()))


@contextmanager
def names_the_silent(rank: int, count: int, patience: float) -> Iterator[None]:
    """Around what ``count`` processes do together.

    Raises:
        SilentRank: they waited for one that did not answer, which the message names.
    """
    try:
        yield
    except RuntimeError as error:  # all that torch raises for the network
        if count == 1 or not _is_group() or not _WAITED.search(str(error)):
            raise
        raise SilentRank(who_is_silent(rank, count, patience)) from error


def who_is_silent(rank: int, count: int, patience: float) -> str:
    """Call the roll, and one line about those who are missing."""
    there, answers = {rank}, Event()
    # In a thread, as one that asks for what a silent process keeps waits too.
    caller = Thread(target=_call, args=(rank, count, there, answers), daemon=True)
    caller.start()
    caller.join(2 * PATIENCE)
    silent = sorted(set(range(count)) - there) if answers.is_set() else [_KEEPER]
    if not silent:
        return f"a process of this run was slower than the others by more than {patience:g} s, and they ended"
    told = []
    for other in silent:
        host, process = _names[other] if other < len(_names) else ("", 0)
        told.append(f"rank {other}" + (f" (process {process} on {host})" if process else ""))
    return (
        f"{' and '.join(told)} did not answer for {patience:g} s, so the others end: look there for the cause; "
        "the same command goes on from what is saved"
    )


def _call(rank: int, count: int, there: set[int], answers: Event) -> None:
    """Answer, and note who else does. The first process keeps the list, unless a launcher does."""
    store = torch.distributed.distributed_c10d._get_default_store()
    others, until = set(range(count)) - {rank}, time.monotonic() + PATIENCE
    with suppress(RuntimeError):  # whoever keeps the list is gone
        store.set(f"here/{rank}", "")
        if not store.check([f"here/{rank}"]):
            return
        answers.set()
        while others - there and time.monotonic() < until:
            there |= {other for other in others - there if store.check([f"here/{other}"])}
            time.sleep(0.1)


def _is_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
