"""The CLIP that judges prompts, in fp32 with its own preprocessing. Methods have a CLIP of their own."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel

from contracts.errors import LikenessError
from networks.fingerprints import folder_fingerprint, resolve_source
from networks.precision import full_precision
from networks.pretrained import UNREADABLE, first_line, load_model, load_tokenizer


class ClipJudge(nn.Module):
    """Unit features of images and texts from a ``CLIPModel`` with its tokenizer and image processor.

    Images go through the model's own PIL pipeline. A text that is too long is cut, and its end token is kept: CLIP
    takes the feature of the text from that token.
    """

    def __init__(self, source: str) -> None:
        """Load from ``source``, a folder or hub name; raises ``LikenessError`` where it is missing or incomplete."""
        super().__init__()
        folder = resolve_source(source)
        try:
            self.model = load_model(CLIPModel, folder).eval()
            self.tokenizer = load_tokenizer(folder)
            self.processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except UNREADABLE as error:
            raise LikenessError(f"cannot load the CLIP in {source}: {first_line(error)}") from error
        self.model.requires_grad_(False)
        self.fingerprint = folder_fingerprint(folder)
        self.max_tokens: int = self.model.config.text_config.max_position_embeddings
        self._texts: dict[str, tuple[Tensor, int]] = {}

    @property
    def width(self) -> int:
        """Width D of the features."""
        return int(self.model.config.projection_dim)

    @torch.inference_mode()
    @full_precision()
    def image_features(self, images: np.ndarray | Tensor) -> Tensor:
        """Unit features (B, D) of RGB uint8 images (B, H, W, 3)."""
        array = np.asarray(images.cpu() if isinstance(images, Tensor) else images)
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
            raise ValueError(f"expected uint8 images (B, H, W, 3), got {array.dtype} {array.shape}")
        pixels = self.processor(list(array), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        pooled = self.model.vision_model(pixel_values=pixels.to(self.model.device)).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    @torch.inference_mode()
    @full_precision()
    def text_features(self, texts: list[str]) -> tuple[Tensor, list[int]]:
        """Unit features (B, D), and how many tokens of each text were cut off; a text is encoded only once."""
        for text in dict.fromkeys(texts):
            if text not in self._texts:
                self._texts[text] = self._encode(text)
        return torch.stack([self._texts[t][0] for t in texts]), [self._texts[t][1] for t in texts]

    def _encode(self, text: str) -> tuple[Tensor, int]:
        ids = self.tokenizer(text)["input_ids"]
        cut = max(0, len(ids) - self.max_tokens)
        if cut:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]
        pooled = self.model.text_model(input_ids=torch.tensor([ids], device=self.model.device)).pooler_output
        return F.normalize(self.model.text_projection(pooled).float(), dim=-1)[0], cut
