"""SpotDiff's directional claims on the pocket world.

python -m claims.spotdiff --run runs/spotdiff --without runs/spotdiff-none

D1 (S1 and S2): linear probes for pose, background and subject on f, z_p, z_b and z_s, on test subjects. S3: how far the
reference's background and pose show up in the images, with the orthogonality constraint (``--run``) and without
it (``--without``, the same configuration with ``--model.orthogonality none``), at equal identity. The two runs are
compared by a paired test over subjects. A claim is open where they cannot be told apart. Prints a table and exits 1
when a direction is wrong or open.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from claims.checks import Check, Less, less, report
from claims.leakage import FactorReader, LeakageMeasurements, TestSet, load_test_set, measure_leakage
from claims.measurements import Values
from claims.run_pair import check_pair
from contracts.errors import LikenessError
from lightning_modules.run import Run
from lightning_modules.spotdiff import SpotDiff
from networks.face_analysis import FacePack
from pocket.models import paths

FACTORS = ("pose", "background", "subject")
SCALES = (0.5, 0.75, 1.0)


def probe_accuracy(features: NDArray, labels: NDArray[np.int64], folds: int = 4) -> float:
    """Mean accuracy over the folds of logistic regression on standardised ``features`` (N, D), for ``labels`` (N,)."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(probe, features, labels, cv=split).mean())


def chance(labels: NDArray[np.int64]) -> float:
    """Accuracy of always guessing the most frequent label."""
    return float(np.bincount(labels).max() / len(labels))


def probe_table(run: SpotDiff, data: TestSet) -> dict[str, dict[str, float]]:
    """Probe accuracy by feature (f, z_p, z_b, z_s) and factor."""
    with torch.inference_mode():
        f = run.standardise(data.clip)
        factors = run.factor_features(f)
        features = {"f": f, "z_p": factors["pose"], "z_b": factors["background"], "z_s": run.subject_feature(f)}
    return {
        name: {factor: probe_accuracy(value.numpy(), data.labels[factor]) for factor in FACTORS}
        for name, value in features.items()
    }


def probe_checks(table: dict[str, dict[str, float]]) -> list[Check]:
    """S1: z_s forgets pose and background and keeps the subject; S2: each expert reads its own factor best."""
    f, z_p, z_b, z_s = (table[name] for name in ("f", "z_p", "z_b", "z_s"))
    return [
        _below("S1 pose is read worse from z_s than from f", z_s["pose"], f["pose"]),
        _below("S1 background is read worse from z_s than from f", z_s["background"], f["background"]),
        Check(
            "S1 the subject probe drops by less than 2 points from f to z_s",
            z_s["subject"],
            f["subject"],
            z_s["subject"] > f["subject"] - 0.02,
        ),
        Check("S2 pose from z_p is above 90 %", z_p["pose"], 0.9, z_p["pose"] > 0.9),
        Check("S2 background from z_b is above 90 %", z_b["background"], 0.9, z_b["background"] > 0.9),
        _below("S2 pose is read worse from z_b than from z_p", z_b["pose"], z_p["pose"]),
        _below("S2 background is read worse from z_p than from z_b", z_p["background"], z_b["background"]),
    ]


def leakage_checks(constrained: SpotDiff, free: SpotDiff, data: TestSet, samples: int) -> list[Less]:
    """S3: images of both runs at every scale, and their leakage compared."""
    faces = FacePack(paths.FACES_B, paths.DET_SIZE)
    reader = FactorReader(data.images, data.photos)
    on, off = (
        [measure_leakage(run, scale, data, reader, faces, samples) for scale in SCALES] for run in (constrained, free)
    )
    return compare_leakage(on, off)


def compare_leakage(constrained: list[LeakageMeasurements], free: list[LeakageMeasurements]) -> list[Less]:
    """S3 at equal identity: leakage is read off each run's scale sweep at the highest identity that both reach."""
    sweeps = (constrained, free)
    common = min(max(point.identity for point in sweep) for sweep in sweeps)
    checks = []
    for factor in ("background", "pose"):
        on, off = (_leakage_at(common, sweep, factor) for sweep in sweeps)
        checks.append(less(f"S3 {factor} leaks less with the constraint, at identity {common:.3f}", on, off))
    return checks


def _leakage_at(identity: float, sweep: list[LeakageMeasurements], factor: str) -> Values:
    """Each subject's leakage (S,), interpolated linearly between the two scales around an identity."""
    points = sorted(sweep, key=lambda point: point.identity)
    known = [point.identity for point in points]
    return np.array([np.interp(identity, known, row) for row in np.stack([p.leakage[factor] for p in points], axis=1)])


def _below(claim: str, left: float, right: float) -> Check:
    return Check(claim, left, right, left < right)


def load_spotdiff(folder: str) -> SpotDiff:
    run = Run(folder).load()
    if not isinstance(run, SpotDiff) or set(run.experts) != {"pose", "background"}:
        raise LikenessError(f"{folder!r} is no SpotDiff run with both experts: give a run with pose and background")
    return run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m claims.spotdiff", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="run trained with the constraint")
    parser.add_argument(
        "--without", type=Path, help="run trained with --model.orthogonality none; without it S3 is left out"
    )
    parser.add_argument("--samples", type=int, default=4, help="images per test subject, scale and run")
    arguments = parser.parse_args()
    try:
        run = load_spotdiff(arguments.run)
        if arguments.without:
            check_pair(Path(arguments.run), arguments.without, "orthogonality", "none")
        data = load_test_set(run.backbone.resolution)
        table = probe_table(run, data)
        checks = probe_checks(table)
        if arguments.without:
            checks += leakage_checks(run, load_spotdiff(str(arguments.without)), data, arguments.samples)
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("probe accuracy   " + "".join(f"{factor:>12}" for factor in FACTORS))
    for name, row in table.items():
        print(f"{name:<17}" + "".join(f"{row[factor]:12.3f}" for factor in FACTORS))
    print(f"{'chance':<17}" + "".join(f"{chance(data.labels[factor]):12.3f}" for factor in FACTORS))
    return report(checks, "" if arguments.without else "S3 (--without)")


if __name__ == "__main__":
    sys.exit(main())
