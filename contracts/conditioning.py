"""What flows from a method to the UNet: text, identity, and how both change with the timestep."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from contracts.text import Text


@dataclass(frozen=True)
class Conditioning:
    """Everything the UNet may read besides noisy latents and timestep, for B images.

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
    pooled: Tensor | None = None
    """(B, S, P): the pooled text; ``None`` where the base model reads none."""
    sizes: Tensor | None = None
    """(B, 6): the sizes of :class:`contracts.text.Text`; ``None`` where the base model reads none."""

    @classmethod
    def from_text(cls, text: Text, **rest: Any) -> Self:
        """One stage, keys equal to values, from B texts."""
        staged = text.states[:, None]
        pooled = None if text.pooled is None else text.pooled[:, None]
        return cls(text_keys=staged, text_values=staged, pooled=pooled, sizes=text.sizes, **rest)

    @classmethod
    def from_stages(cls, texts: Sequence[Text], values: Tensor | None = None, **rest: Any) -> Self:
        """A text of S stages for each of the B images, and states (B, S, L, D) for ``values`` if they differ."""
        keys = torch.stack([text.states for text in texts])
        pooled = [text.pooled for text in texts if text.pooled is not None]
        sizes = [text.sizes[0] for text in texts if text.sizes is not None]
        return cls(
            text_keys=keys,
            text_values=keys if values is None else values,
            pooled=torch.stack(pooled) if pooled else None,
            sizes=torch.stack(sizes) if sizes else None,
            **rest,
        )

    @property
    def batch(self) -> int:
        """Number of images."""
        return self.text_keys.shape[0]

    def at(self, timestep: Tensor) -> "StepConditioning":
        """What cross-attention reads at ``timestep`` (B,) int64."""
        stages = self.text_keys.shape[1]
        at: Any
        if stages == 1:
            at = (slice(None), 0)
        else:
            stage = (timestep * stages).div(1000, rounding_mode="floor")
            at = (torch.arange(self.batch, device=timestep.device), stage)
        keys, values = self.text_keys[at], self.text_values[at]
        pooled = None if self.pooled is None else self.pooled[at]
        if self.identity is None or self.scale == 0:
            return StepConditioning(keys, values, None, None, pooled, self.sizes)
        scale = self.scale * (timestep < self.identity_until).to(self.identity.dtype)
        return StepConditioning(keys, values, self.identity, scale, pooled, self.sizes)

    def __add__(self, other: Self) -> Self:
        """Both batches, one after the other (guidance runs both branches in one UNet call)."""
        if self._kind() != other._kind():
            raise ValueError(
                "conditionings of one batch must share stages, identity, pooled text, scale and identity_until"
            )
        joined: dict[str, Any] = {}
        for field in fields(self):
            a, b = getattr(self, field.name), getattr(other, field.name)
            if isinstance(a, Tensor):
                joined[field.name] = torch.cat([a, b])
        return replace(self, **joined)

    def _kind(self) -> tuple:
        """What a batch has once: (stages, what is not there, scale, identity_until)."""
        lacking = tuple(value is None for value in (self.identity, self.pooled, self.sizes))
        return self.text_keys.shape[1], lacking, self.scale, self.identity_until


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
    pooled: Tensor | None = None
    """(B, P)"""
    sizes: Tensor | None = None
    """(B, 6)"""

    def for_unet(self) -> dict[str, Any]:
        """What the base model's UNet itself reads, by the names of its arguments; attention reads the rest."""
        given: dict[str, Any] = {"encoder_hidden_states": self.text_keys}
        if self.pooled is not None:
            given["added_cond_kwargs"] = {"text_embeds": self.pooled, "time_ids": self.sizes}
        return given
