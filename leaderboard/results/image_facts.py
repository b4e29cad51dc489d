"""What was found in a folder of images that another program made, and what of it a reader of the board must know."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class ImageFacts:
    """Counts of a folder's images, and which of the requests have none."""

    missing: tuple[str, ...] = ()
    """Ids of the requests without an image."""
    superfluous: int = 0
    """Files that answer no request."""
    resized: int = 0
    """Images of another size than the protocol's."""
    jpeg: int = 0

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "ImageFacts":
        """The inverse of :meth:`to_json`; raises ``ValueError`` for anything else."""
        if not isinstance(data, Mapping) or data.keys() != {field.name for field in fields(cls)}:
            raise ValueError("it does not hold what is known of a folder of images")
        missing, counts = data["missing"], {name: value for name, value in data.items() if name != "missing"}
        if not isinstance(missing, list) or not all(isinstance(name, str) for name in missing):
            raise ValueError("missing lists no request ids")
        if any(type(count) is not int or count < 0 for count in counts.values()):
            raise ValueError("a number of images is no count")
        return cls(tuple(missing), **counts)

    def notes(self, label: str, planned: int, side: int) -> Iterator[str]:
        """One line for each thing to know about the images of ``label``.

        Args:
            planned: How many images an entry has.
            side: Side of an image in pixels.
        """
        if self.missing:
            yield (
                f"{label} lacks {len(self.missing)} of {planned} images, such as {self.missing[0]}: in detection rate, "
                "identity with misses 0 and subject likeness they count as 0, other columns are of the images that are "
                "there; it gets no mark, and stands behind the entries that lack none"
            )
        if self.resized:
            yield (
                f"{self.resized} images of {label} had another size: of each the central square was taken and scaled "
                f"to {side} pixels (Lanczos)"
            )
        if self.jpeg:
            yield f"{self.jpeg} images of {label} are JPEG, whose compression is judged too"
        if self.superfluous:
            yield f"{self.superfluous} files in the folder of {label} answer no request"
