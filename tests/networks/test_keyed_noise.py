import hashlib

import pytest
import torch

from networks.keyed_noise import key_seed, keyed_generator, keyed_normal


def test_a_seed_is_a_hash_of_the_text_of_the_parts() -> None:
    digest = hashlib.sha256(b"request\x1f0\x1fs0001.beach.00").digest()
    assert key_seed("request", 0, "s0001.beach.00") == int.from_bytes(digest[:8], "little") // 2


@pytest.mark.parametrize("other", [("ab", "c"), ("a", "b", "c"), ("a", "c", "b"), ("abc",), ("a", "bc", "")])
def test_parts_are_kept_apart_and_in_order(other: tuple[str, ...]) -> None:
    assert key_seed(*other) != key_seed("a", "bc")


def test_seeds_fit_a_signed_integer() -> None:
    assert all(0 <= key_seed(i) < 2**63 for i in range(500))


def test_noise_is_a_function_of_its_key_alone() -> None:
    first = keyed_normal((4, 16, 16), "request", 7)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(keyed_normal((4, 16, 16), "request", 7), first)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    assert not torch.equal(keyed_normal((4, 16, 16), "request", 8), first)


def test_noise_is_standard_normal_in_float32_on_the_cpu() -> None:
    noise = keyed_normal((200, 100), "statistics")
    assert (noise.dtype, noise.device.type, noise.shape) == (torch.float32, "cpu", (200, 100))
    assert abs(noise.mean().item()) < 0.03 and abs(noise.std().item() - 1) < 0.02


def test_a_generator_goes_on_where_it_stopped() -> None:
    generator = keyed_generator("sample", 1)
    assert not torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=generator))
    assert torch.equal(
        torch.rand(3, generator=keyed_generator("sample", 1)), torch.rand(3, generator=keyed_generator("sample", 1))
    )
