"""The generator against recorded outputs of the public implementation, and what its controls do."""

import numpy as np
import pytest
import torch

from contracts.errors import LikenessError
from networks.stylegan2 import StyleGAN2, mix_rows, published_channels, row_count, truncate
from tests.helpers import reference_weights as reference

SMALL_CHANNELS = (512, 512, 512, 512, 256)


@pytest.fixture(scope="module")
def small() -> StyleGAN2:
    with torch.device("meta"):
        generator = StyleGAN2(64, 64, 2, SMALL_CHANNELS)
    reference.fill_generator(generator)
    return generator.requires_grad_(False)


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    return reference.expected("generator_small")


@pytest.fixture(scope="module")
def w(small: StyleGAN2) -> torch.Tensor:
    return small.map(reference.normal(2, (2, 64)))


def test_weights_are_those_of_the_recording(small: StyleGAN2) -> None:
    reference.check(small, "generator_small")


@pytest.mark.parametrize(
    "name, make",
    [("generator_small", lambda: StyleGAN2(64, 64, 2, SMALL_CHANNELS)), ("generator_1024", lambda: StyleGAN2(1024))],
)
def test_names_and_shapes_are_those_of_the_public_layout(name: str, make: type[StyleGAN2]) -> None:
    with torch.device("meta"):
        entries = {key: tuple(value.shape) for key, value in make().state_dict().items()}
    assert entries == reference.layout(name)


def test_images_from_wplus_codes(small: StyleGAN2, outputs: dict[str, np.ndarray]) -> None:
    image = small(reference.normal(1, (2, 10, 64)))
    np.testing.assert_allclose(image, outputs["image_wplus"], atol=2e-4)


def test_mapping(w: torch.Tensor, outputs: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(w, outputs["w_from_z"], atol=5e-5)


def test_one_code_on_all_rows(small: StyleGAN2, w: torch.Tensor, outputs: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(small(small.repeated(w)), outputs["image_z"], atol=2e-4)


def test_truncation(small: StyleGAN2, w: torch.Tensor, outputs: dict[str, np.ndarray]) -> None:
    centre = reference.normal(3, (1, 64), 0.5)
    np.testing.assert_allclose(small(truncate(small.repeated(w), centre, 0.7)), outputs["image_trunc"], atol=2e-4)
    assert truncate(w, centre, 1.0) is w


def test_style_mixing(small: StyleGAN2, w: torch.Tensor, outputs: dict[str, np.ndarray]) -> None:
    other = small.map(reference.normal(4, (2, 64)))
    mixed = mix_rows(small.repeated(w), small.repeated(other), 4)
    np.testing.assert_allclose(small(mixed), outputs["image_mix"], atol=2e-4)


@pytest.mark.slow
def test_the_published_size() -> None:
    """Mapping and an image of 1024 pixels."""
    with torch.device("meta"):
        generator = StyleGAN2(1024)
    reference.fill_generator(generator)
    reference.check(generator, "generator_1024")
    with torch.inference_mode():
        w = generator.map(reference.normal(2, (4, 512)))
        image = generator(reference.normal(1, (1, 18, 512))).numpy()
    np.testing.assert_allclose(w, reference.expected("mapping")["w"], atol=5e-5)
    wanted = reference.expected("generator_1024")
    for name, part in {
        "grid": image[:, :, ::32, ::32],
        "grid_odd": image[:, :, 17::32, 17::32],
        "crop_centre": image[:, :, 504:520, 504:520],
        "corner_tl": image[:, :, :8, :8],
        "corner_br": image[:, :, -8:, -8:],
    }.items():
        np.testing.assert_allclose(part, wanted[name], atol=2e-4, err_msg=name)
    flat = image.astype(np.float64).reshape(3, -1)
    np.testing.assert_allclose(flat.mean(axis=1), wanted["channel_mean"].ravel(), atol=2e-5)
    np.testing.assert_allclose(flat.std(axis=1), wanted["channel_std"].ravel(), atol=2e-5)


def test_noise_is_registered_or_given(small: StyleGAN2) -> None:
    codes = reference.normal(5, (2, 10, 64))
    with torch.inference_mode():
        registered = small(codes)
        same = small(codes, small.registered_noise())
        first, again, other = (small(codes, small.draw_noise(2, torch.Generator().manual_seed(s))) for s in (0, 0, 1))
    torch.testing.assert_close(registered, same, atol=0, rtol=0)
    torch.testing.assert_close(first, again, atol=0, rtol=0)
    assert (first - other).abs().mean() > 1e-3 and (first - registered).abs().mean() > 1e-3


@pytest.mark.parametrize("size", [8, 32, 128])
def test_any_power_of_two(size: int) -> None:
    scales = row_count(size) // 2
    generator = StyleGAN2(size, 16, 1, (8,) * scales)
    assert generator(torch.zeros(1, generator.rows, 16)).shape == (1, 3, size, size)
    assert len(published_channels(size)) == scales


@pytest.mark.parametrize("size", [0, 4, 48, 100])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(LikenessError, match=f"size is {size}: it must be a power of two"):
        StyleGAN2(size)


def test_codes_of_another_size_are_refused(small: StyleGAN2) -> None:
    with pytest.raises(LikenessError, match=r"codes are \(18, 64\).*size 64 takes \(10, 64\)"):
        small(torch.zeros(1, 18, 64))


def test_channels_must_fit_the_size() -> None:
    with pytest.raises(LikenessError, match="3 given, size 64 has 5 scales"):
        StyleGAN2(64, channels=(8, 8, 8))


def test_every_weight_learns() -> None:
    generator = StyleGAN2(16, 8, 2, (8, 8, 8))
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    generator(generator.repeated(generator.map(z))).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())
