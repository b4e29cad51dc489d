"""Images that another program made become an entry: read as every photo is, brought to one size, kept as PNGs."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lightning.fabric import Fabric
from PIL import Image
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.files import read_file
from contracts.protocol import Protocol
from contracts.strict_json import parse
from datamodules.image_io import FORMATS, open_image, read_square
from leaderboard.images import about
from leaderboard.images.folder import ImageFolder, Matched, some
from leaderboard.processes import on_first, together
from leaderboard.results.entry import Entry
from leaderboard.results.folder import Results
from leaderboard.results.image_facts import ImageFacts
from leaderboard.results.image_files import ImageWriter

_JPEG = ("JPEG", "MPO")


class ImagesEntry:
    """A folder of images that takes part in an evaluation.

    Args:
        kind: method, or that of an anchor whose images are given.
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

    def weights(self, protocol: Protocol) -> str:
        """SHA-256 over the files that answer a request of the protocol."""
        digest = hashlib.sha256()
        for request, _, data in self._files(protocol, "read"):
            digest.update(f"{request} {hashlib.sha256(data).hexdigest()}\n".encode())
        return digest.hexdigest()

    def entry(self, protocol: Protocol, results: Results) -> Entry:
        """The entry that the images make. What the results know of the same files already is not looked at again.

        Raises:
            LikenessError: they do not answer the protocol, or a file is no image, or damaged.
        """
        if self._entry is None:
            matched, weights, known = self.match(protocol), self.weights(protocol), results.entry(self.label).known()
            facts = known.images if known and known.weights == weights else None
            facts = replace(
                facts or self._look(protocol), missing=matched.missing, superfluous=len(matched.superfluous)
            )
            folder, manifest = str(self.folder.folder), self.folder.manifest
            self._entry = Entry(self.label, self.kind, weights, manifest, folder, images=facts)
        return self._entry

    def _look(self, protocol: Protocol) -> ImageFacts:
        """Decode every image, and count what is to be said of them."""
        broken: dict[str, str] = {}
        resized = jpeg = 0
        for _, path, data in self._files(protocol, "check"):
            name = str(path)
            try:
                size = open_image(data, name).size
            except LikenessError as error:
                broken[path.name] = str(error)
                continue
            resized += size != (protocol.resolution, protocol.resolution)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                jpeg += image.format in _JPEG
                self._check_origin(name, image, protocol)
        if broken:
            raise LikenessError(
                f"--images: {len(broken)} files in {self.folder.folder} cannot be used ({some(list(broken))}): "
                f"{next(iter(broken.values()))}"
            )
        return ImageFacts(resized=resized, jpeg=jpeg)

    def _check_origin(self, name: str, image: Image.Image, protocol: Protocol) -> None:
        """An image of ours must not say that it was generated under another protocol, unless the user knows better."""
        try:
            origin = parse(image.info.get("Likeness", "{}")).get("protocol")
        except (AttributeError, TypeError, ValueError):
            return
        if "protocol" not in (self.folder.manifest or {}) and origin not in (None, protocol.hash):
            raise LikenessError(
                f"--images: {name} was generated under protocol {origin}, not {protocol.hash}: if the images answer "
                f'the same requests, say "protocol": "{protocol.hash}" in {self.folder.folder / about.NAME}'
            )

    def _files(self, protocol: Protocol, verb: str) -> Iterator[tuple[str, Path, bytes]]:
        """Request, path and bytes of each file, under a progress bar."""
        files = self.match(protocol).files
        for request, path in tqdm(files.items(), f"{verb} {self.label}", unit="image", leave=False):
            yield request, path, _bytes(path)

    def take_in(self, fabric: Fabric, results: Results) -> int:
        """Copy what is missing of the images into the results; every process must call this.

        Returns:
            How many images were missing.

        Raises:
            LikenessError: the results hold other images under this label.
        """
        folder, protocol = results.entry(self.label), results.protocol()
        on_first(fabric, lambda: folder.claim(self.entry(protocol, results)))
        files = self.match(protocol).files
        # Nobody writes before everybody has looked, or two processes would see different work.
        missing = together(fabric, lambda: [request for request in files if not folder.image(request).is_file()])
        mine = missing[fabric.global_rank :: fabric.world_size]

        def copy_share() -> None:
            bar = tqdm(mine, f"take in {self.label}", unit="image", disable=fabric.global_rank > 0)
            with ImageWriter() as writer:
                for number, request in enumerate(bar):
                    if number % 32 == 0:
                        writer.finish()  # bounds memory
                    data = _bytes(files[request])
                    image = read_square(data, str(files[request]), protocol.resolution)
                    origin = {"protocol": protocol.hash, "entry": self.label, "request": request}
                    source = {"file": files[request].name, "sha256": hashlib.sha256(data).hexdigest()}
                    writer.write(folder.image(request), image, {**origin, **source})

        together(fabric, copy_share)
        return len(missing)


def _bytes(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise LikenessError(f"--images: {path} cannot be read: {error.strerror}") from error
