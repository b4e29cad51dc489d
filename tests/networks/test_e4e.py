"""The encoder against recorded features and codes of the public implementation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contracts.errors import LikenessError
from networks.e4e import E4E
from networks.stylegan2 import StyleGAN2
from tests.helpers import reference_weights as reference

STRIDES = {"c1": (16, 8), "c2": (32, 4), "c3": (64, 2), "p2": (64, 4), "p1": (64, 8)}
ROWS = {0: "c3", 2: "c3", 5: "p2", 17: "p1"}
"""Rows of each level whose heads the quick test fills; all of them are nine tenths of the weights."""


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return reference.normal(0, (1, 3, 256, 256), 0.5)


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    return reference.expected("encoder")


@pytest.fixture(scope="module")
def encoder() -> E4E:
    with torch.device("meta"):
        encoder = E4E(rows=18)
    heads = tuple(f"styles.{row}." for row in ROWS)
    reference.fill_encoder(encoder, ("input_layer.", "body.", "latlayer", *heads))
    return encoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(encoder: E4E, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return encoder.pyramid(images)


def tiny(rows: int = 10) -> E4E:
    torch.manual_seed(0)
    return E4E(rows, 8, 32, ((4, 1), (8, 1), (8, 2), (16, 1))).eval()


def test_input_and_weights_are_those_of_the_recording(
    encoder: E4E, images: torch.Tensor, outputs: dict[str, np.ndarray]
) -> None:
    np.testing.assert_allclose(images.numpy().ravel()[:8], outputs["input_head"], atol=1e-6)
    reference.check(encoder, "encoder")


def test_names_and_shapes_are_those_of_the_public_layout(encoder: E4E) -> None:
    assert {k: tuple(v.shape) for k, v in encoder.state_dict().items()} == reference.layout("encoder")


@pytest.mark.parametrize("name", STRIDES)
def test_features(name: str, features: dict[str, torch.Tensor], outputs: dict[str, np.ndarray]) -> None:
    feature = features[name].numpy()
    (channel, cell) = STRIDES[name]
    np.testing.assert_allclose(feature[:, ::channel, ::cell, ::cell], outputs[f"{name}_sample"], atol=5e-5)
    i = outputs["feature_names"].tolist().index(name)
    wide = feature.astype(np.float64)
    np.testing.assert_allclose([wide.mean(), wide.std()], outputs["feature_mean_std"][i], atol=2e-5)


def test_codes_of_some_rows(encoder: E4E, features: dict[str, torch.Tensor], outputs: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        w = encoder.styles[0](features["c3"])
        np.testing.assert_allclose(w, outputs["codes"][:, 0], atol=5e-5)
        for row, level in list(ROWS.items())[1:]:
            code = w + encoder.styles[row](features[level])
            np.testing.assert_allclose(code, outputs["codes"][:, row], atol=5e-5, err_msg=f"row {row}")


@pytest.mark.slow
def test_codes_and_the_whole_way_to_an_image(images: torch.Tensor, outputs: dict[str, np.ndarray]) -> None:
    with torch.device("meta"):
        encoder = E4E(rows=18)
        generator = StyleGAN2(1024)
    reference.fill_encoder(encoder)
    reference.fill_generator(generator)
    with torch.inference_mode():
        codes = encoder.eval()(images)
        image = F.adaptive_avg_pool2d(generator(codes + reference.keyed("latent_avg", (18, 512), 0, 1)), 256).numpy()
    np.testing.assert_allclose(codes, outputs["codes"], atol=5e-5)
    wanted = reference.expected("psp")
    np.testing.assert_allclose(image[:, :, ::8, ::8], wanted["sample"], atol=2e-4)
    np.testing.assert_allclose(image[:, :, 5::8, 5::8], wanted["sample_odd"], atol=2e-4)
    flat = image.astype(np.float64).reshape(3, -1)
    np.testing.assert_allclose(flat.mean(axis=1), wanted["channel_mean"].ravel(), atol=2e-5)
    np.testing.assert_allclose(flat.std(axis=1), wanted["channel_std"].ravel(), atol=2e-5)


def test_progressive_training_gives_deltas_to_the_first_rows_only() -> None:
    encoder = tiny()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    full = encoder(images)
    some = encoder(images, last_delta=4)
    none = encoder(images, last_delta=0)
    w = full[:, :1]
    torch.testing.assert_close(none, w.expand(-1, 10, -1))
    torch.testing.assert_close(some[:, :5], full[:, :5])
    torch.testing.assert_close(some[:, 5:], w.expand(-1, 5, -1))
    assert ((full[:, 1:] - w).flatten(2).norm(dim=-1) > 0).all()


def test_inputs_of_another_size_are_refused() -> None:
    with pytest.raises(LikenessError, match=r"\(64, 64\) pixels, it takes squares of 32"):
        tiny()(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("settings", [{"input_size": 48}, {"blocks": ((4, 1), (8, 1))}])
def test_shapes_that_do_not_reduce_to_one_cell_are_refused(settings: dict) -> None:
    with pytest.raises(LikenessError, match="four blocks and a power of two"):
        E4E(10, 8, **settings)
