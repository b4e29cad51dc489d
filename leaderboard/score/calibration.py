"""What the judges make of photos whose faces were spoilt on purpose. It says how much the numbers of a board mean.

A detector may take any head for a face, and a recogniser may know a person by the hair. So the ceiling's photos are
judged untouched, with eyes or inner face painted over, blurred, and with the face in another subject's colour.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from contracts.files import write_json
from contracts.protocol import Protocol
from contracts.records import Request
from leaderboard.results.anchors import CEILING
from leaderboard.results.calibration import read_calibration
from leaderboard.results.folder import Results
from leaderboard.results.image_files import image_bytes, read_image
from metrics.base import Metric
from metrics.functional import spoilt_photos
from metrics.gallery import Gallery, left_out_photo, load_galleries
from metrics.judges import JudgedImages, Judges
from metrics.registry import METRICS

PHOTOS = 4
"""Of each subject."""
COLUMNS = ("detection_rate", "face_complete", "identity_misses_zero", "identity_second_opinion")
"""What is told, where it is measured. A face that is not found is worth 0 in each."""

Image = NDArray[np.uint8]
Spoil = Callable[[Image, NDArray[np.float32], NDArray[np.floating]], Image]
SPOILS: dict[str, Spoil] = {
    "eyes painted over": lambda image, points, _: spoilt_photos.eyes_painted_over(image, points),
    "inner face painted over": lambda image, points, _: spoilt_photos.inner_face_painted_over(image, points),
    "inner face blurred": lambda image, points, _: spoilt_photos.inner_face_blurred(image, points),
    "face in another's colour": spoilt_photos.recoloured,
}


def calibrate(results: Results, judges: Judges, batch_size: int) -> None:
    """Judge spoilt photos and write ``calibration.json``, unless it is there for these judges and photos."""
    protocol = results.protocol()
    has_ceiling = any(entry.kind == CEILING.kind for entry in results.entries())
    if protocol.of_pairs or not has_ceiling or read_calibration(results):
        return
    galleries = load_galleries(results.galleries, tuple(protocol.subjects))
    requests = list(_chosen(protocol, galleries))
    if not requests:
        return
    images = [_photo(results, protocol, request) for request in requests]
    metrics = [METRICS[name] for name in COLUMNS if name in protocol.metrics]
    whole = _judge(judges, protocol, galleries, requests, images, batch_size)
    points = np.concatenate([judged.seen.judged.landmarks for judged in whole])
    found = np.concatenate([judged.found.numpy() for judged in whole])
    rows = [{"photos": "untouched", **_means(whole, metrics)}]
    kept = np.flatnonzero(found)
    requests, images, points = [requests[i] for i in kept], [images[i] for i in kept], points[kept]
    colours = _others_colours(requests, images, points)
    for name, spoil in tqdm(SPOILS.items(), desc="judges on spoilt photos", unit="kind"):
        spoilt = [spoil(*given) for given in zip(images, points, colours, strict=True)]
        rows.append(
            {"photos": name, **_means(_judge(judges, protocol, galleries, requests, spoilt, batch_size), metrics)}
        )
    write_json(results.calibration, {"of": results.judged_by(), "photos": len(found), "rows": rows})


def _chosen(protocol: Protocol, galleries: dict[str, Gallery]) -> Iterator[Request]:
    """For each subject with a face the first requests whose ceiling shows another of its photos."""
    seen: set[tuple[str, int]] = set()
    for request in protocol.requests:
        gallery = galleries[request.subject]
        if not gallery.has_face or len(gallery.usable) < 2:
            continue
        key = request.subject, left_out_photo(protocol, galleries, request)
        if key not in seen and sum(subject == request.subject for subject, _ in seen) < PHOTOS:
            seen.add(key)
            yield request


def _photo(results: Results, protocol: Protocol, request: Request) -> Image:
    path: Path = results.entry(CEILING.label).image(request.id)
    return read_image(image_bytes(path), str(path), protocol.resolution)


def _judge(
    judges: Judges,
    protocol: Protocol,
    galleries: dict[str, Gallery],
    requests: Sequence[Request],
    images: Sequence[Image],
    batch_size: int,
) -> list[JudgedImages]:
    """The images as the ceiling's: each against the other photos of its subject, and of its faces the subject's."""
    judged = []
    for first in range(0, len(requests), batch_size):
        some = requests[first : first + batch_size]
        photos = [left_out_photo(protocol, galleries, request) for request in some]
        mine = [galleries[request.subject] for request in some]
        boxes = np.stack([gallery.boxes[1 + photo] for gallery, photo in zip(mine, photos, strict=True)])
        mine = [gallery.without(photo) for gallery, photo in zip(mine, photos, strict=True)]
        batch = np.stack(images[first : first + batch_size])
        judged.append(JudgedImages.judge(judges, batch, some, mine, protocol.subjects, boxes))
    return judged


def _means(judged: Sequence[JudgedImages], metrics: Sequence[Metric]) -> dict[str, Any]:
    scores = {metric.name: np.concatenate([metric.rows(one) for one in judged]) for metric in metrics}
    return {name: round(float(np.nan_to_num(values).mean()), 6) for name, values in scores.items()}


def _others_colours(
    requests: Sequence[Request], images: Sequence[Image], points: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """For each photo the colour of the cheeks in the first photo of the next subject."""
    first = {
        request.subject: spoilt_photos.cheek_colour(image, landmarks)
        for request, image, landmarks in reversed(list(zip(requests, images, points, strict=True)))
    }
    subjects = sorted(first)
    following = dict(zip(subjects, [*subjects[1:], subjects[0]], strict=True)) if subjects else {}
    return [first[following[request.subject]] for request in requests]
