"""Golden values of the centre crop and resize: Pillow's Lanczos filter on a fixed pattern.

    python resize.py > resize.txt
"""
import numpy as np
import PIL
from PIL import Image

print(f"# Pillow {PIL.__version__}: channels height width side, then the bytes [side, side, channels]")
for channels, height, width, side in [(3, 12, 9, 4), (1, 16, 21, 5), (3, 7, 7, 10), (1, 3, 5, 8), (3, 40, 33, 6), (1, 64, 64, 3)]:
    i = np.arange(channels * height * width, dtype=np.int64)
    image = ((i * i * 31 + i * 7) % 251).astype(np.uint8).reshape(height, width, channels)
    crop = min(height, width)
    image = image[(height - crop) // 2 : (height + crop) // 2, (width - crop) // 2 : (width + crop) // 2]
    image = Image.fromarray(image if channels == 3 else image[:, :, 0])
    out = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    print(channels, height, width, side, *out.ravel())
