"""Run a function in several gloo processes and collect what each of them returns."""

import os
import pickle
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import torch.distributed
from lightning.fabric import Fabric

from contracts.method_modules import named_methods


def run_ranks(function: Callable[..., Any], *arguments: Any, ranks: int = 2, timeout: float = 60.0) -> list[Any]:
    """``[function(rank 0's process), ...]``: call ``function(*arguments)`` once in each of ``ranks`` processes.

    The processes are forked, so ``function`` may be a closure, and they share one gloo group, which
    ``torch.distributed.get_rank()`` reads. Results travel as pickles.

    Raises:
        AssertionError: a process raised (its traceback is in the message), died, or was not done after ``timeout``
            seconds. The other processes are ended first, so nothing hangs.
    """
    context = get_context("fork")
    results: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        readers = []
        processes = []
        for rank in range(ranks):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(
                target=_work, args=(writer, rank, ranks, Path(folder, "store"), timeout, function, arguments)
            )
            process.start()
            writer.close()  # the child's copy is then the only one, and its death closes the pipe
            readers.append(reader)
            processes.append(process)
        try:
            _collect(results, readers, time.monotonic() + timeout)
            missing = sorted(set(range(ranks)) - set(results))
            assert not missing, f"ranks {missing} of {ranks} did not finish in {timeout:.0f} s"
        finally:
            for process in processes:
                if len(results) < ranks:
                    process.kill()
                process.join()
    return [results[rank] for rank in range(ranks)]


def _collect(results: dict[int, Any], readers: list[connection.Connection], deadline: float) -> None:
    """Fill ``results`` by rank until every rank has answered or the deadline passed."""
    ranks = {reader: rank for rank, reader in enumerate(readers)}
    while ranks and (rest := deadline - time.monotonic()) > 0:
        for reader in connection.wait(list(ranks), rest):
            rank = ranks.pop(reader)  # type: ignore[call-overload]
            try:
                error, value = pickle.loads(reader.recv_bytes())  # type: ignore[union-attr]
            except EOFError:
                raise AssertionError(f"rank {rank} died without a word") from None
            assert error is None, f"rank {rank} failed:\n{error}"
            results[rank] = value


def _work(
    writer: connection.Connection,
    rank: int,
    ranks: int,
    store: Path,
    timeout: float,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    try:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=ranks, timeout=timedelta(seconds=timeout)
        )
        # Pickled here and not by the pipe: torch would hand tensors over through memory that this process still owns.
        answer = pickle.dumps((None, function(*arguments)))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    except BaseException:
        answer = pickle.dumps((traceback.format_exc(), None))
    writer.send_bytes(answer)
    writer.close()
    # Skip the interpreter's shutdown: inherited thread pools of the parent cannot be joined here.
    os._exit(0)


def count_who_know_methods(fabric: Fabric) -> int:
    """In how many of the processes the user has named methods."""
    return int(fabric.all_reduce(torch.tensor(float(bool(named_methods()))), reduce_op="sum"))  # type: ignore[arg-type]
