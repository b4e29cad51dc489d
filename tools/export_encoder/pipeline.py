"""A Stable Diffusion pipeline that knows one person or object, from a folder that Likeness exported.

    from pipeline import IdentityPipeline

    pipe = IdentityPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
    pipe.load_identity("FOLDER")
    image = pipe("a photo of a person on a beach").images[0]

Every cross-attention layer has keys and values for identity tokens beside those of the text:

    f'  = A(W_q f, W_k c, W_v c)                      the layer's own
    f'' = f' + scale * A(q, W_k+ w, W_v+ w)           q = W_q f, or W_q+ f' where the folder has W_q+

This file needs torch, diffusers and safetensors, and nothing of Likeness.

Copyright the authors of Likeness. Licensed under the Apache License, Version 2.0.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor


class IdentityAttention:
    """The processor of one cross-attention layer. ``tokens`` (B, N, D) are those of the call that is running; without
    them the layer is the base model's."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.tokens: Tensor | None = None
        self.scale = 1.0

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        def heads(states: Tensor) -> Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        def joined(states: Tensor) -> Tensor:
            return states.transpose(1, 2).flatten(2)

        query = heads(attn.to_q(hidden_states))
        key, value = (heads(linear(encoder_hidden_states)) for linear in (attn.to_k, attn.to_v))
        out = F.scaled_dot_product_attention(query, key, value)
        if self.tokens is not None:
            tokens = self.tokens.to(query)
            key, value = (heads(F.linear(tokens, self.weights[name].to(query))) for name in ("to_k_ip", "to_v_ip"))
            if "to_q_ip" in self.weights:
                query = heads(F.linear(joined(out), self.weights["to_q_ip"].to(query)))
            out = out + self.scale * F.scaled_dot_product_attention(query, key, value)
        return attn.to_out[1](attn.to_out[0](joined(out)))


class IdentityPipeline(StableDiffusionPipeline):
    """A stock pipeline until :meth:`load_identity`, and again after :meth:`unload_identity`."""

    _before: dict[str, Any] | None = None

    def load_identity(self, folder: str | Path, scale: float | None = None) -> None:
        """Read ``adapter.safetensors`` and ``subject.safetensors``. ``scale`` is the strength of the identity, that of
        the method where it is not said."""
        self.unload_identity()
        file = Path(folder) / "subject.safetensors"
        subject = load_file(file)
        with safe_open(file, framework="pt") as opened:
            about = json.loads(opened.metadata()["identity"])
        weights: dict[str, dict[str, Tensor]] = {}
        for name, value in load_file(Path(folder) / "adapter.safetensors").items():
            group, number, *rest = name.split(".")
            if group == "ip_adapter":
                weights.setdefault(number, {})[rest[0]] = value
        processors: dict[str, Any] = dict(self.unet.attn_processors)
        self._before = dict(processors)
        for count, path in enumerate(processors):
            if own := weights.get(str(count)):
                processors[path] = IdentityAttention(own)
                processors[path].scale = about["scale"] if scale is None else scale
        layers = [one for one in processors.values() if isinstance(one, IdentityAttention)]
        self.unet.set_attn_processor(processors)  # which empties it
        tokens, nobody = subject["tokens"], subject["nobody"]

        def choose(module: torch.nn.Module, arguments: tuple, more: dict[str, Any]) -> None:
            """Nobody for the half of a call that guidance leads away from; no tokens before the identity begins."""
            states, timestep = more["encoder_hidden_states"], float(torch.as_tensor(arguments[1]).flatten()[0])
            unguided = len(states) // 2 if self.do_classifier_free_guidance else 0
            rows = [nobody.expand(unguided, -1, -1), tokens.expand(len(states) - unguided, -1, -1)]
            for layer in layers:
                layer.tokens = torch.cat(rows).to(states.device) if timestep < about["until"] and layer.scale else None

        self._hook = self.unet.register_forward_pre_hook(choose, with_kwargs=True)

    def unload_identity(self) -> None:
        """Make the pipeline what it was."""
        if self._before is not None:
            self._hook.remove()
            self.unet.set_attn_processor(self._before)
            self._before = None
