"""Images that another program made become an entry: read as every photo is, brought to one size, kept as PNGs."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from lightning.fabric import Fabric
from PIL import Image
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from datamodules.image_io import FORMATS, open_image, read_square
from leaderboard.images import about
from leaderboard.images.folder import ImageFolder
from leaderboard.processes import on_first, together
from leaderboard.results.folder import Entry, Results
from leaderboard.results.image_facts import ImageFacts
from leaderboard.results.image_files import write_image


def make_entry(folder: ImageFolder, kind: str, protocol: Protocol, allow_missing: float) -> Entry:
    """The entry that a folder's images make, whose ``weights`` are a hash over the files that answer a request.

    Raises:
        LikenessError: the images do not answer the protocol (:meth:`ImageFolder.match`), or a file is no image.
    """
    matched = folder.match(protocol, allow_missing)
    digest, sizes, formats = hashlib.sha256(), list[tuple[int, int]](), list[str]()
    for request, path in tqdm(matched.files.items(), desc=f"read {folder.label}", unit="image", leave=False):
        data = _bytes(path)
        digest.update(f"{request}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        size, form = _head(data, path, protocol, folder)
        sizes.append(size)
        formats.append(form)
    facts = ImageFacts(
        missing=matched.missing,
        superfluous=len(matched.superfluous),
        resized=sum(size != (protocol.resolution, protocol.resolution) for size in sizes),
        jpeg=formats.count("JPEG"),
    )
    return Entry(
        folder.label, kind, digest.hexdigest(), folder.manifest, str(folder.folder), images=facts
    )
