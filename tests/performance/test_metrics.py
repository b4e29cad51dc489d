"""The benchmarks of the metrics: both sides end with the same numbers, and what is counted holds anywhere."""

from pathlib import Path

import numpy as np
import pytest

from metrics.functional.diversity import sample_diversity
from metrics.judges import Judges
from performance import diversity, face_runs, metric_suite
from pocket.models.paths import CLIP, DET_SIZE, FACES_A, FACES_B


def test_diversity_and_the_pair_loop_agree() -> None:
    features, group = diversity.random_features(diversity.SAMPLES)
    assert float(sample_diversity(features, group)) == pytest.approx(diversity.pair_loop(features), rel=1e-5)


def test_one_pass_and_a_pass_per_metric_give_the_same_numbers_and_decode_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = Judges(str(FACES_B), str(CLIP), str(FACES_A), det_size=DET_SIZE)
    files = metric_suite.write_images(tmp_path, 4)
    decoded = []
    read = metric_suite.read_image
    monkeypatch.setattr(metric_suite, "read_image", lambda *a: decoded.append(a[1]) or read(*a))
    ours = metric_suite.one_pass(judges, files)
    assert sorted(decoded) == sorted(file.name for file in files), "one decode per image"
    reference = metric_suite.a_pass_per_metric(judges, files)
    assert reference.keys() == ours.keys()
    for name, values in reference.items():
        np.testing.assert_allclose(ours[name], values, atol=1e-5, err_msg=name)


def test_identity_takes_few_onnx_runs() -> None:
    result = face_runs.measure()
    assert result.holds, str(result)
    assert result.reference > 4
