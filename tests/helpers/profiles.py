"""ICC profiles made by hand: none but sRGB comes with Pillow."""

import struct

Matrix = list[tuple[float, float, float]]

SRGB: Matrix = [(0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)]
"""X, Y, Z of red, green and blue, as ICC profiles have them."""
GAMMA = 2.2


def rgb_profile(primaries: Matrix = SRGB, gamma: float = GAMMA) -> bytes:
    """A display profile with these primaries, each of X, Y, Z."""
    names = (b"r", b"g", b"b")
    tags = {name + b"XYZ": _xyz(*colour) for name, colour in zip(names, primaries, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {name + b"TRC": _curve(gamma) for name in names})


def grey_profile(gamma: float) -> bytes:
    """A profile of grey levels."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def ink_profile(cyan: int) -> bytes:
    """A CMYK profile of a press that prints in grey: black on white, and for ``cyan`` a lightness in 0..255."""
    lightness = [255, *[0] * 7, cyan, *[0] * 7]
    table = b"".join(bytes([level, 128, 128]) for level in lightness)
    identity = struct.pack(">9i", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = tags | {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
    }
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I", place + len(body)) + bytes(4) + bytes([2, 0x20, 0, 0]) + kind + space + connection
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
