"""What is kept, cut out: the image as it will be stored, its mask, the face's place in it, and its background."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts.errors import LikenessError
from curation.backgrounds import without_subject
from curation.choice import Kept
from curation.crops import Square, cut, middle_square
from curation.faces import FaceFinder
from curation.masks import Mask, grabcut, own_part
from curation.pictures import Picture, read_picture
from curation.settings import CurationSettings
from curation.work import Record, array_text, text_array
from datamodules.image_io import READING, read_mask
from metrics.regions import WIDE, person_region
from networks.clip_judge import ClipJudge
from networks.segmenter import Segmenter

VERSION = "1"
_QUALITY = 95
_PLAIN_MODES = ("RGB", "L")


@dataclass(frozen=True)
class Portrait:
    """The crop of a photo. Coordinates are in pixels of the crop; ``None`` and empty is what is not known."""

    image: bytes
    mask: bytes | None
    mask_from: str
    """``alpha``, ``file``, ``segmenter``, ``grabcut``, or ``region`` of the face's box."""
    note: str
    """What could not be used, in words."""
    side: int
    share: float
    """Of the crop that is the subject, 0 where that is not known."""
    box: NDArray[np.float32] | None
    landmarks: NDArray[np.float32] | None
    background: NDArray[np.float32] | None
    """(D,) CLIP feature of what is not the subject."""

    @classmethod
    def of(cls, record: Record) -> "Portrait":
        """From the arrays of a record."""
        known: dict[str, Any] = {
            name: record[name] if record[name].size else None for name in ("box", "landmarks", "background")
        }
        known |= {name: array_text(record[name]) for name in ("mask_from", "note")}
        known |= {name: record[name].item() for name in ("side", "share")}
        mask = record["mask"].tobytes() or None
        return cls(record["image"].tobytes(), mask, **known)


class Cutter:
    """Cuts portraits.

    Args:
        settings: Those of the curation.
        finder: Finds landmarks again; ``None`` where there are no faces.
        segmenter: Makes the masks that are not given.
        clip: Whose features of backgrounds are kept.
    """

    def __init__(
        self,
        settings: CurationSettings,
        finder: FaceFinder | None,
        segmenter: Segmenter | None,
        clip: ClipJudge | None,
    ) -> None:
        self.settings, self.finder, self.segmenter, self.clip = settings, finder, segmenter, clip
        parts = (
            VERSION,
            READING,
            settings.resolution,
            settings.masks,
            finder.fingerprint if finder else "",
            segmenter.fingerprint if segmenter else "",
            clip.fingerprint if clip else "",
        )
        self.fingerprint = "/".join(map(str, parts))

    def key(self, kept: Kept) -> str:
        """Everything that the portrait depends on."""
        face = (
            "" if kept.face is None else kept.look.boxes[kept.face].tobytes() + kept.look.landmarks[kept.face].tobytes()
        )
        mask = kept.source.mask.stamp if kept.source.mask else ""
        return hashlib.sha256(f"{self.fingerprint}/{kept.look.sha256}/{face!r}/{mask}".encode()).hexdigest()

    def portraits(self, some: Sequence[Kept]) -> list[Record]:
        """Cut some portraits; the backgrounds' features are made together."""
        made = [self._portrait(kept) for kept in some]
        if self.clip is not None:
            by_side: dict[int, list[tuple[dict[str, NDArray], NDArray[np.uint8]]]] = {}
            for record, painted in made:
                if painted is not None:
                    by_side.setdefault(len(painted), []).append((record, painted))
            for same in by_side.values():
                features = self.clip.image_features(np.stack([painted for _, painted in same])).cpu().numpy()
                for (record, _), feature in zip(same, features, strict=True):
                    record["background"] = feature
        return [record for record, _ in made]

    def _portrait(self, kept: Kept) -> tuple[dict[str, NDArray], NDArray[np.uint8] | None]:
        """The record, and what its background's feature is made of."""
        name, size = kept.source.name, kept.look.size
        try:
            data = kept.source.image.read()
        except LikenessError as error:
            raise LikenessError(f"{name} was there and is not any more ({error}): run again") from error
        if hashlib.sha256(data).hexdigest() != kept.look.sha256:
            raise LikenessError(f"{name} changed while it was curated: run again")
        square = kept.look.square(kept.face)
        smaller = min(1.0, self.settings.resolution / square.side)
        picture = read_picture(data, name, int(np.ceil(min(size) * smaller)))
        given, mask_from, note = self._given_mask(kept, picture)
        if kept.face is None and given is not None:
            square = middle_square(size, _box_of(given))
        side = min(self.settings.resolution, max(1, round(square.side)))
        scale = picture.pixels.shape[1] / size[0]
        crop = cut(picture.pixels, square.scaled(scale), side)
        to_crop = side / square.side
        shift = np.array([square.left, square.top], np.float32)
        box = landmarks = None
        if kept.face is not None and self.finder is not None:
            box = ((kept.look.boxes[kept.face].reshape(2, 2) - shift) * to_crop).reshape(4)
            landmarks = self.finder.upright(crop, (kept.look.landmarks[kept.face] - shift) * to_crop)
        mask = None if given is None else cut(given.astype(np.uint8) * 255, square, side) > 127
        if mask is None or not mask.any():
            mask, mask_from = self._made_mask(crop, box)
        untouched = square == Square(0, 0, size[0]) and size == (side, side) and _is_plain(data)
        record = {
            "image": text_array(data if untouched else _encoded(crop, data)),
            "mask": text_array(b"" if mask is None else _png(mask.astype(np.uint8) * 255)),
            "mask_from": text_array(mask_from),
            "note": text_array(note),
            "side": np.array(side),
            "share": np.array(0.0 if mask is None else mask.mean()),
            "box": np.zeros(0, np.float32) if box is None else box.astype(np.float32),
            "landmarks": np.zeros(0, np.float32) if landmarks is None else landmarks.astype(np.float32),
            "background": np.zeros(0, np.float32),
        }
        if self.clip is None:
            return record, None
        subject = mask
        if subject is None and box is not None:
            subject = person_region(box, side, side, WIDE)
        return record, None if subject is None else without_subject(crop, subject)

    def _given_mask(self, kept: Kept, picture: Picture) -> tuple[Mask | None, str, str]:
        """The mask (H, W) of the whole photo that its file or the file beside it gives, from where, and a note."""
        if self.settings.masks == "none":
            return None, "", ""
        size, note = kept.look.size, ""
        if kept.source.mask is not None:
            try:
                data = kept.source.mask.read()
                found = read_mask(data, f"the mask of {kept.source.name}", size, picture.orientation)
                return found > 0, "file", ""
            except LikenessError as error:
                note = str(error)
        if picture.alpha is not None:
            inside = cv2.resize(picture.alpha, size, interpolation=cv2.INTER_LINEAR) > 127
            if inside.any() and not inside.all():
                return inside, "alpha", note
        return None, "", note

    def _made_mask(self, crop: NDArray[np.uint8], box: NDArray[np.float32] | None) -> tuple[Mask | None, str]:
        if self.settings.masks == "none":
            return None, ""
        if self.segmenter is not None:
            found = self.segmenter.mask(crop)
            found = found if box is None else own_part(found, box)
            return (found, "segmenter") if found.any() else (None, "")
        if self.settings.masks == "grabcut":
            return grabcut(crop, box) or (None, "")
        return None, ""


def _box_of(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _is_plain(data: bytes) -> bool:
    """Whether a file shows the same everywhere and says nothing but its pixels: no colour profile, no alpha, no EXIF,
    in which cameras write places and owners."""
    if data[:4] != b"\x89PNG" and data[:3] != b"\xff\xd8\xff":
        return False
    with Image.open(io.BytesIO(data)) as image:
        extra = {"icc_profile", "exif", "transparency", "xmp"} & set(image.info)
        return image.mode in _PLAIN_MODES and not extra


def _encoded(crop: NDArray[np.uint8], original: bytes) -> bytes:
    """A crop as PNG if the photo was one, else as JPEG of high quality."""
    if original[:4] == b"\x89PNG":
        return _png(crop)
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
