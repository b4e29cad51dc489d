"""What flows from a method to the UNet: text, identity, and how both change with the timestep."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from contracts.settings import ReferenceTokens


@dataclass(frozen=True)
class Conditioning:
    """Everything cross-attention may read, for B images.

    A prompt may have S sets of text states, one per stage of denoising: stage ``floor(t * S / 1000)`` is used at
    timestep t, so stage 0 is the least noisy. Keys and values may differ. Without identity (``identity`` is
    ``None``, or ``scale`` is 0) the UNet computes exactly what the base model computes.
    """

    text_keys: Tensor
    """(B, S, L, D): text states that keys are made of."""
    text_values: Tensor
    """(B, S, L, D): text states that values are made of; often the same tensor as ``text_keys``."""
    identity: Tensor | None = None
    """(B, N, D): identity tokens."""
    scale: float = 1.0
    """Strength of the identity branch; 0 leaves it out."""
    identity_until: int = 1000
    """Identity takes part at timesteps below this one only (delayed identity); 1000 is always."""

    @classmethod
    def from_text(cls, states: Tensor, **rest: Any) -> Self:
        """One stage, keys equal to values, from text states (B, L, D)."""
        staged = states[:, None]
        return cls(text_keys=staged, text_values=staged, **rest)

    @property
    def batch(self) -> int:
        """Number of images."""
        return self.text_keys.shape[0]

    def at(self, timestep: Tensor) -> "StepConditioning":
        """What cross-attention reads at ``timestep`` (B,) int64."""
        stages = self.text_keys.shape[1]
        if stages == 1:
            keys, values = self.text_keys[:, 0], self.text_values[:, 0]
        else:
            stage = (timestep * stages).div(1000, rounding_mode="floor")
            rows = torch.arange(self.batch, device=timestep.device)
            keys, values = self.text_keys[rows, stage], self.text_values[rows, stage]
        if self.identity is None or self.scale == 0:
            return StepConditioning(keys, values, None, None)
        scale = self.scale * (timestep < self.identity_until).to(self.identity.dtype)
        return StepConditioning(keys, values, self.identity, scale)

    def __add__(self, other: Self) -> Self:
        """Both batches, one after the other (guidance runs both branches in one UNet call)."""
        if self._kind() != other._kind():
            raise ValueError("conditionings of one batch must share stages, identity, scale and identity_until")
        joined: dict[str, Any] = {}
        for field in fields(self):
            a, b = getattr(self, field.name), getattr(other, field.name)
            if isinstance(a, Tensor):
                joined[field.name] = torch.cat([a, b])
        return replace(self, **joined)

    @classmethod
    def of_references(cls, each: Sequence[Self], tokens: ReferenceTokens) -> Self:
        """One conditioning of those of several photos of the same subjects, which differ in their identity alone."""
        identities = [one.identity for one in each if one.identity is not None]
        if len(identities) < 2:
            return each[0]
        merged = torch.stack(identities).mean(dim=0) if tokens == "average" else torch.cat(identities, dim=1)
        return replace(each[0], identity=merged)

    def _kind(self) -> tuple:
        """What a batch has once: (stages, whether there is identity, scale, identity_until)."""
        return self.text_keys.shape[1], self.identity is None, self.scale, self.identity_until


@dataclass(frozen=True)
class StepConditioning:
    """A :class:`Conditioning` at one timestep per image."""

    text_keys: Tensor
    """(B, L, D)"""
    text_values: Tensor
    """(B, L, D)"""
    identity: Tensor | None
    """(B, N, D)"""
    scale: Tensor | None
    """(B,)"""
