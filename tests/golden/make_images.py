"""Writes images.safetensors: small image files with the pixels that Pillow decodes, and images resized by Pillow.

Needs Pillow only:  python3 tests/golden/make_images.py
"""
import io
import json
import pathlib
import random
import struct

import PIL
from PIL import Image

# Height and width before, and after: smaller, larger, one way each, unchanged along an axis, from and to one pixel.
SIZES = [((13, 17), (7, 5)), ((13, 17), (29, 40)), ((37, 23), (16, 16)), ((9, 30), (20, 7)), ((24, 18), (24, 5)),
         ((24, 18), (11, 18)), ((5, 4), (1, 1)), ((1, 1), (3, 4)), ((64, 50), (8, 9)), ((7, 6), (8, 7))]


def noise(height, width, seed):
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * height * width))


def smooth(height, width):
    """Waves of different lengths in the three channels: JPEG's own loss stays small."""
    pixels = bytes((x * 8 + y * 3, 255 - 6 * y, 40 + 4 * x)[c] % 256 for y in range(height) for x in range(width)
                   for c in range(3))
    return Image.frombytes("RGB", (width, height), pixels)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png16(height, width):
    """A grey PNG with 16 bits a pixel; Pillow's own conversion to 8 bits cuts off instead of scaling, so no pixels."""
    image = Image.new("I;16", (width, height))
    image.putdata([(y * width + x) * 1000 for y in range(height) for x in range(width)])
    return encoded(image, "PNG")


def main():
    tensors = {}

    def add(name, shape, data):
        tensors[name] = (shape, data)

    def add_pixels(name, image):
        add(name, [image.height, image.width, 3], image.convert("RGB").tobytes())

    for number, ((height, width), (to_height, to_width)) in enumerate(SIZES):
        image = noise(height, width, number)
        add_pixels(f"resize/{number}/in", image)
        add_pixels(f"resize/{number}/out", image.resize((to_width, to_height), Image.BILINEAR))

    rgb = smooth(11, 14)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(rgb.convert("L"))
    files = {
        "rgb.png": (encoded(rgb, "PNG"), rgb),
        "grey.png": (encoded(rgb.convert("L"), "PNG"), rgb.convert("L")),
        "palette.png": (encoded(rgb.quantize(16), "PNG"), rgb.quantize(16)),
        "alpha.png": (encoded(alpha, "PNG"), rgb),
        "bits16.png": (png16(3, 5), None),
        "rgb.bmp": (encoded(rgb, "BMP"), rgb),
        "palette.bmp": (encoded(rgb.quantize(16), "BMP"), rgb.quantize(16)),
    }
    for name, options in {"rgb.jpg": {}, "progressive.jpg": {"progressive": True}, "fine.jpg": {"subsampling": 0}}.items():
        data = encoded(rgb, "JPEG", quality=90, **options)
        files[name] = (data, Image.open(io.BytesIO(data)))
    grey = encoded(rgb.convert("L"), "JPEG", quality=90)
    files["grey.jpg"] = (grey, Image.open(io.BytesIO(grey)))
    for name, (data, image) in files.items():
        add(f"file/{name}", [len(data)], data)
        if image is not None:
            add_pixels(f"pixels/{name}", image)

    header, end = {"__metadata__": {"what": "images by Pillow", "pillow": PIL.__version__}}, 0
    for name in sorted(tensors):
        shape, data = tensors[name]
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = pathlib.Path(__file__).with_name("images.safetensors")
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(tensors[name][1] for name in sorted(tensors)))


main()
