"""Peak memory of a process that scores 1,000 images against one that scores 100: ours / reference.

Each count of images has a process of its own, with all networks of the pocket judges in it: a process keeps memory that
it has freed. The images are one set of files under many names.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from performance.timing import Result

FEW = 100
MANY = 1000
GOAL = 1.05
SUBJECTS = 5
SAMPLES = 2
PHOTOS = 3
BATCH = 16
SIDE = 256  # pixels: 1,000 such images that were kept by mistake would be a fifth of the process


def measure(few: int = FEW, many: int = MANY) -> Result:
    """MB of the process. A peak needs no rounds; two runs of the reference must agree."""
    reference, ours, again = (peak_bytes(count) for count in (few, many, few))
    return Result(
        f"memory to score {many:,} images",
        ours / 1e6,
        reference / 1e6,
        ours / reference,
        GOAL,
        "lower",
        "MB",
        again / reference,
    )


def peak_bytes(images: int) -> int:
    """Peak resident bytes of a new process that scores so many images."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "performance.scoring_memory", folder, str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def score_images(root: Path, images: int) -> int:
    """Score ``images`` images of a new results folder and return how many records there are."""
    from lightning.fabric import Fabric

    from contracts.settings import JudgeSettings
    from leaderboard.results.entry import Entry
    from leaderboard.results.folder import Results
    from leaderboard.results.image_files import write_image
    from leaderboard.score.scoring import load_judges, score
    from metrics.card import versions
    from metrics.gallery import save_galleries
    from metrics.judges import make_galleries
    from metrics.registry import list_cards
    from performance.protocol import made_up_protocol
    from pocket.models.paths import CLIP, DET_SIZE, FACES_A, FACES_B

    settings = JudgeSettings(str(FACES_B), str(CLIP), str(FACES_A), det_size=DET_SIZE)
    subjects = render_subjects()
    protocol = made_up_protocol(
        subjects={subject.id: subject.noun for subject in subjects},
        prompts=[f"a photo of a <subject>, number {i}" for i in range(images // (SUBJECTS * SAMPLES))],
        samples=SAMPLES,
        resolution=SIDE,
        metrics=versions(list_cards(settings, SAMPLES, images, kinds={"people"})),
    )
    results = Results(root)
    entry = Entry("method", "method", "0" * 64, protocol=protocol.hash)
    judges = load_judges(settings)
    results.write_protocol(protocol)
    seen = {subject.id: judges.observe_photos(subject) for subject in subjects}
    save_galleries(results.galleries, make_galleries(subjects, seen), protocol.hash)
    folder = results.entry(entry.label)
    folder.claim(entry)
    files: dict[tuple[str, int], Path] = {}
    for i, request in enumerate(protocol.requests):
        path = folder.image(request.id)
        path.parent.mkdir(exist_ok=True)
        shown = (request.subject, i % (1 + PHOTOS))
        if shown in files:
            path.hardlink_to(files[shown])
        else:
            subject = next(s for s in subjects if s.id == request.subject)
            write_image(path, subject.photos[shown[1]], {})
            files[shown] = path
    fabric = Fabric(accelerator="auto", devices=1)
    score(fabric, results, entry, judges, BATCH)
    return len(folder.records())


def render_subjects() -> list:
    """Subjects with a reference and ``PHOTOS`` held-out photos each, the pocket world's enlarged to ``SIDE``."""
    import numpy as np

    from metrics.gallery import SubjectPhotos
    from pocket.models.bank import collect, render_bank

    bank = collect(render_bank("memory", SUBJECTS, 1 + PHOTOS, plain=True))
    found = []
    for i in range(SUBJECTS):
        rows = slice(i * (1 + PHOTOS), (i + 1) * (1 + PHOTOS))
        larger = SIDE // bank.images.shape[1]
        reference, *held_out = bank.images[rows].repeat(larger, axis=1).repeat(larger, axis=2)
        texts = tuple(f"place {b}" for b in bank.background[rows])
        found.append(
            SubjectPhotos(
                f"s{i}", "person", reference, np.stack(held_out), bank.pose[rows], bank.background[rows], texts
            )
        )
    return found


def own_peak() -> int:
    """Peak resident bytes of this process since it began.

    Linux passes ``ru_maxrss`` on from the parent to a program that it starts, so it would tell of the parent.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(folder: str, images: str) -> None:
    """Score and print the peak."""
    scored = score_images(Path(folder), int(images))
    assert scored == int(images), f"{scored} records of {images}"
    print(own_peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
