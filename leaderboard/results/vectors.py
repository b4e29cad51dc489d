"""Feature vectors as compact text for records: base64 of little-endian float32, a third of what digits take."""

import base64

import numpy as np
from numpy.typing import NDArray


def encode_vector(vector: NDArray[np.float32]) -> str:
    """The text of a vector (D,)."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def decode_vectors(texts: list[str]) -> NDArray[np.float32]:
    """The vectors (N, D) of N texts of equal length; raises ``ValueError`` where they are no such texts."""
    data = b"".join(base64.b64decode(text, validate=True) for text in texts)
    return np.frombuffer(bytearray(data), "<f4").reshape(len(texts), -1) if texts else np.zeros((0, 0), np.float32)
