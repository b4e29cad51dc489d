"""The tests' own helpers: processes that fail loudly, and the network guard."""

import os
import socket
import time

import pytest
import torch
import torch.distributed

from tests.helpers.distributed import run_ranks


def test_every_rank_returns_its_own_result_in_order() -> None:
    def total(start: int) -> tuple[int, torch.Tensor]:
        value = torch.tensor([start + torch.distributed.get_rank()])
        torch.distributed.all_reduce(value)
        return torch.distributed.get_rank(), value

    results = run_ranks(total, 10, ranks=2)
    assert [rank for rank, _ in results] == [0, 1]
    assert all(value.tolist() == [21] for _, value in results)


def test_the_failing_rank_is_named_while_the_other_one_waits() -> None:
    def fail_on_one() -> None:
        if torch.distributed.get_rank() == 1:
            raise ValueError("no such subject")
        torch.distributed.barrier()

    with pytest.raises(AssertionError, match=r"(?s)rank 1 failed.*no such subject"):
        run_ranks(fail_on_one, timeout=20)


def test_a_rank_that_dies_is_named() -> None:
    def die_on_zero() -> None:
        if torch.distributed.get_rank() == 0:
            os._exit(9)
        time.sleep(30)

    with pytest.raises(AssertionError, match="rank 0 died"):
        run_ranks(die_on_zero, timeout=20)


def test_a_hanging_rank_ends_at_the_timeout() -> None:
    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"did not finish in 1 s"):
        run_ranks(time.sleep, 60, timeout=1)
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.invalid", 443)])
def test_a_test_cannot_reach_another_machine(address: tuple[str, int]) -> None:
    with pytest.raises(pytest.fail.Exception, match="tests run without network"):
        socket.create_connection(address, timeout=1)


def test_loopback_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
