import pytest
import torch

from networks.precision import full_precision


def rounding() -> tuple[bool, bool, str, bool]:
    """Whether convolutions and products may be rounded, by which name, and whether cuDNN may choose as it likes."""
    backends = torch.backends
    return (
        backends.cudnn.allow_tf32,
        backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision(),
        backends.cudnn.deterministic,
    )


@pytest.mark.parametrize("chosen", ["highest", "high", "medium"])
def test_nothing_is_rounded_inside_and_all_is_as_before_after_it(chosen: str) -> None:
    kept = torch.get_float32_matmul_precision()
    enabled = torch.backends.cudnn.enabled
    torch.set_float32_matmul_precision(chosen)
    try:
        before = rounding()
        assert before == (True, chosen != "highest", chosen, False)
        with full_precision():
            assert rounding() == (False, False, "highest", True)
            assert torch.backends.cudnn.enabled is enabled
        assert rounding() == before
        with pytest.raises(RuntimeError), full_precision():
            raise RuntimeError
        assert rounding() == before
    finally:
        torch.set_float32_matmul_precision(kept)
