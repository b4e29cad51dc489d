"""The text side of a base model: one CLIP text encoder, or several that are read side by side."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from contracts.text import Text
from networks.pretrained import load_model, load_tokenizer

Encoder: TypeAlias = CLIPTextModel | CLIPTextModelWithProjection


class TextEncoders(nn.Module):
    """Text encoders that read the same tokens, each padded in its own way.

    A single one gives the states of its last layer (SD 1.x and 2.x). Of several (SDXL) each gives those of its last
    layer but one, side by side, and the last one, which has a projection, the pooled text. ``silent`` says that the
    base model was trained with zeros in the place of an empty text.

    Raises:
        ValueError: the tokenizers know other words, so the encoders would read other tokens.
    """

    def __init__(self, encoders: Sequence[Encoder], tokenizers: Sequence[CLIPTokenizer], silent: bool = False) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.tokenizers = tuple(tokenizers)
        self.silent = silent
        if any(other.get_vocab() != self.tokenizers[0].get_vocab() for other in self.tokenizers[1:]):
            raise ValueError("its tokenizers know other words than one another, and its text encoders read the same")

    @property
    def tokenizer(self) -> CLIPTokenizer:
        """How all of them cut a text into tokens."""
        return self.tokenizers[0]

    @property
    def device(self) -> torch.device:
        return self.encoders[0].device  # type: ignore[return-value]

    @property
    def widths(self) -> list[int]:
        """The width of each one's token embeddings and states."""
        return [encoder.config.hidden_size for encoder in self.encoders]  # type: ignore[union-attr, misc]

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Tokens (B, L) of the prompts as the first encoder reads them; longer ones are cut."""
        read = self.tokenizer(list(prompts), padding="max_length", truncation=True, return_tensors="pt")
        return read.input_ids.to(self.device)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """The prompts as the base model's stock pipeline encodes them."""
        text = self(self.tokens(prompts))
        if self.silent and "" in prompts:
            said = torch.tensor([prompt != "" for prompt in prompts], device=self.device)
            pooled = None if text.pooled is None else text.pooled * said[:, None]
            return Text(text.states * said[:, None, None], pooled)
        return text

    def forward(self, ids: Tensor) -> Text:
        """Tokens (B, L) to texts."""
        if len(self.encoders) == 1:
            return Text(self.encoders[0](ids).last_hidden_state)
        found = [
            encoder(self._padded(ids, tokenizer), output_hidden_states=True)
            for encoder, tokenizer in zip(self.encoders, self.tokenizers, strict=True)
        ]
        return Text(torch.cat([one.hidden_states[-2] for one in found], dim=-1), found[-1].text_embeds)

    def embedding(self, token: int) -> Tensor:
        """The embedding (D,) of a token, those of all encoders side by side."""
        return torch.cat([encoder.get_input_embeddings().weight[token] for encoder in self.encoders])  # type: ignore[operator]

    def encode_placed(self, ids: Tensor, positions: Tensor, vectors: Tensor) -> Text:
        """Texts of tokens ``ids`` (B, L), with other token embeddings in some places.

        ``vectors`` (B, P, D) replace the tokens' embeddings at ``positions`` (B, P); D has a part for each encoder, in
        their order. The gradient reaches the vectors. With the tokens' own embeddings the texts are those of
        :meth:`encode`, bit for bit.
        """
        with ExitStack() as stack:
            for encoder, part in zip(self.encoders, vectors.split(self.widths, dim=-1), strict=True):
                stack.enter_context(_replaced(encoder.get_input_embeddings(), positions, part))  # type: ignore[operator]
            return self(ids)

    def _padded(self, ids: Tensor, tokenizer: CLIPTokenizer) -> Tensor:
        """Tokens of the first tokenizer as ``tokenizer`` pads them: all behind the first end token is padding."""
        ends = (ids == self.tokenizer.eos_token_id).cumsum(dim=1)
        behind = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, :-1]], dim=1) > 0
        return ids.masked_fill(behind, tokenizer.pad_token_id)


@contextmanager
def _replaced(embeddings: nn.Module, positions: Tensor, vectors: Tensor) -> Iterator[None]:
    rows = torch.arange(len(positions), device=positions.device)[:, None]

    def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.index_put((rows, positions), vectors.to(output.dtype))

    handle = embeddings.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def text_parts(two: bool) -> list[tuple[type[Encoder], str, str]]:
    """Class and folder of each text encoder of a base model that has ``two`` of them or one, and its tokenizer's."""
    first: list[tuple[type[Encoder], str, str]] = [(CLIPTextModel, "text_encoder", "tokenizer")]
    return [*first, (CLIPTextModelWithProjection, "text_encoder_2", "tokenizer_2")] if two else first


def load_text_encoders(folder: Path, two: bool, silent: bool) -> TextEncoders:
    """Those of a pipeline's folder. Raises one of :data:`networks.pretrained.UNREADABLE`."""
    parts = text_parts(two)
    encoders = [load_model(kind, folder, name) for kind, name, _ in parts]
    return TextEncoders(encoders, [load_tokenizer(folder, name) for *_, name in parts], silent)
