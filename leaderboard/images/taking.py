"""Images that another program made become an entry: read as every photo is, brought to one size, kept as PNGs."""

import hashlib
import io
import json
from pathlib import Path

from lightning.fabric import Fabric
from PIL import Image
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from datamodules.image_io import FORMATS, open_image, read_square
from leaderboard.images import about
from leaderboard.images.folder import ImageFolder, Matched, some
from leaderboard.processes import on_first, together
from leaderboard.results.folder import Entry, Results
from leaderboard.results.image_facts import ImageFacts
from leaderboard.results.image_files import write_image

_JPEG = ("JPEG", "MPO")


class ImagesEntry:
    """A folder of images that takes part in an evaluation.

    Args:
        kind: method, or floor.
        allow_missing: Share of the requests, 0 to 1, that may have no image.
    """

    def __init__(self, folder: ImageFolder, kind: str, allow_missing: float) -> None:
        self.folder, self.kind, self._allow_missing = folder, kind, allow_missing
        self._entry: Entry | None = None

    @property
    def label(self) -> str:
        """The entry's label."""
        return self.folder.label

    def match(self, protocol: Protocol) -> Matched:
        """Which file answers which request, see :meth:`ImageFolder.match`."""
        return self.folder.match(protocol, self._allow_missing)

    def entry(self, protocol: Protocol) -> Entry:
        """The entry that the images make, whose ``weights`` are a hash over their files. Each is read once.

        Raises:
            LikenessError: they do not answer the protocol, or a file is no image, or damaged.
        """
        if self._entry is None:
            self._entry = self._read(protocol)
        return self._entry

    def _read(self, protocol: Protocol) -> Entry:
        matched, manifest = self.match(protocol), self.folder.manifest
        digest, side, broken = hashlib.sha256(), protocol.resolution, dict[str, str]()
        resized = jpeg = 0
        for request, path in tqdm(matched.files.items(), desc=f"read {self.label}", unit="image", leave=False):
            data = _bytes(path)
            digest.update(f"{request} {hashlib.sha256(data).hexdigest()}\n".encode())
            try:
                size = open_image(data, str(path)).size
            except LikenessError as error:
                broken[path.name] = str(error)
                continue
            resized += size != (side, side)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                jpeg += image.format in _JPEG
                origin = _origin(image)
            if "protocol" not in (manifest or {}) and origin not in (None, protocol.hash):
                raise LikenessError(
                    f"--images: {path} was generated under protocol {origin}, not {protocol.hash}: if the images "
                    f'answer the same requests, say "protocol": "{protocol.hash}" in {self.folder.folder / about.NAME}'
                )
        if broken:
            raise LikenessError(
                f"--images: {len(broken)} files in {self.folder.folder} cannot be used ({some(list(broken))}): "
                f"{next(iter(broken.values()))}"
            )
        facts = ImageFacts(matched.missing, len(matched.superfluous), resized, jpeg)
        return Entry(self.label, self.kind, digest.hexdigest(), manifest, str(self.folder.folder), images=facts)

    def take_in(self, fabric: Fabric, results: Results) -> int:
        """Copy what is missing of the images into the results; every process must call this.

        Returns:
            How many images were missing.

        Raises:
            LikenessError: the results hold other images under this label.
        """
        folder, protocol = results.entry(self.label), results.protocol()
        on_first(fabric, lambda: folder.claim(self.entry(protocol)))
        files = self.match(protocol).files
        # Nobody writes before everybody has looked, or two processes would see different work.
        missing = together(fabric, lambda: [request for request in files if not folder.image(request).is_file()])
        mine = missing[fabric.global_rank :: fabric.world_size]

        def copy_share() -> None:
            for request in tqdm(mine, f"take in {self.label}", unit="image", disable=fabric.global_rank > 0):
                data, name = _bytes(files[request]), files[request].name
                image = read_square(data, str(files[request]), protocol.resolution)
                origin = {"protocol": protocol.hash, "entry": self.label, "request": request}
                source = {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
                write_image(folder.image(request), image, {**origin, **source})

        together(fabric, copy_share)
        return len(missing)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LikenessError(f"--images: {path} cannot be read: {error.strerror}") from error


def _origin(image: Image.Image) -> object:
    """The hash of the protocol that an image of ours was generated under."""
    try:
        return json.loads(image.info.get("Likeness", "{}")).get("protocol")
    except (AttributeError, TypeError, ValueError):
        return None
