"""What a feature is: the output of a frozen encoder for one crop of a photo, or for a text."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from datamodules.features.crops import Crop
from datamodules.index import Photo
from networks.fingerprints import folder_fingerprint, resolve_source

Network = TypeVar("Network", bound=nn.Module)
T = TypeVar("T")


@dataclass
class EncoderContext:
    """What the features of one set share: the base model, the resolution, the device and the loaded networks.

    Args:
        backbone: Folder or hub name of the diffusion model.
        resolution: Side in pixels of the square that images are brought to.
        device: Where the networks run.
    """

    backbone: str
    resolution: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _networks: dict[tuple[Callable, str], nn.Module] = field(default_factory=dict, repr=False)
    _lent: dict[tuple[Callable, str], nn.Module] = field(default_factory=dict, repr=False)
    _last: tuple[Hashable, Any] = field(default=(None, None), repr=False)

    def network(self, load: Callable[[str], Network], source: str) -> Network:
        """``load(source)`` on the device, loaded once for all features that ask for it."""
        key = (load, source)
        if key not in self._networks:
            self._networks[key] = (self._lent.get(key) or load(source)).to(self.device)
        return self._networks[key]  # type: ignore[return-value]

    def lend(self, load: Callable[[str], Network], source: str, network: Network) -> None:
        """Let features use ``network``, which somebody holds, in place of ``load(source)`` until :meth:`release`."""
        self._lent[load, source] = network

    def shared(self, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made once where several features ask for the same one after the other."""
        if self._last[0] != what:
            self._last = (what, make())
        return self._last[1]

    def release(self) -> None:
        """Forget the networks and what they gave, so that training has their memory. They are loaded again where one is
        asked for."""
        self._networks.clear()
        self._lent.clear()
        self._last = (None, None)

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent, read from the base model's configuration."""
        from networks.backbone import backbone_latent_shape

        return backbone_latent_shape(self.backbone)

    @cached_property
    def reads_added(self) -> bool:
        """Whether the base model reads pooled text and sizes besides text states."""
        from networks.backbone import reads_added

        return reads_added(self.backbone)

    def parts_fingerprint(self, *parts: str) -> str:
        """Of the base model's parts that a feature depends on: another UNet leaves the caches as they are."""
        folder = resolve_source(self.backbone, pipeline=True)
        return "/".join(folder_fingerprint(folder / part) for part in parts)


@dataclass(frozen=True)
class Feature(ABC):
    """One frozen encoder's output, as a row of a cache.

    A subclass is a frozen dataclass. Its own fields are the settings that a user gives under ``data.features.NAME``;
    they are folders, hub names, numbers or ``None``. A new feature is a file with such a class and a line in
    ``registry.py``.
    """

    crop: ClassVar[Crop]
    """What :meth:`encode` takes of a photo."""

    name: str
    """The name in the registry, under which methods and caches know the feature."""
    context: EncoderContext

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Everything a value depends on besides what is encoded: weights and preprocessing. Loads no weights.

        Raises:
            LikenessError: there are no weights at a source.
        """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one value; the encoder may be loaded for it.

        Raises:
            LikenessError: the encoder cannot be loaded.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Tensor:
        """Values (B, *shape) of B crops.

        Raises:
            LikenessError: the encoder cannot be loaded, or cannot read a crop.
        """

    def nothing(self) -> Tensor:
        """The value (*shape) that stands for no photo: zeros where the encoder's publication says nothing else.

        Raises:
            LikenessError: the encoder cannot be loaded.
        """
        return torch.zeros(self.shape)

    def check_photo(self, photo: Photo) -> None:  # noqa: B027 (most features take every photo)
        """Raise ``LikenessError`` where a dataset's photo lacks what the feature reads. Reads no file."""

    def check(self, crop: Any) -> None:  # noqa: B027 (most features take every crop)
        """Raise ``LikenessError`` where a crop cannot be encoded. Loads no encoder."""
