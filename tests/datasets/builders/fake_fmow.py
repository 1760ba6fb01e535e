"""A tiny fMoW-rgb in the layout of its owners, whose categories look different."""

import colorsys
import json
import pathlib

import numpy as np
from PIL import Image

CATEGORIES = ("airport", "barn", "zoo")
SPLITS = ("train", "val", "test")


def picture(category, of, size, generator):
    """Noise with a rectangle of the category's own colour and stripes, and where that is.

    Args:
        category: Index of the category.
        of: How many categories there are.
        size: (height, width) in pixels, both at least 16.
        generator: `numpy.random.Generator`.

    Returns:
        `[H, W, 3]` uint8, and the rectangle [x, y, w, h] in pixels.
    """
    height, width = size
    pixels = generator.integers(70, 130, (height, width, 1)) + generator.integers(-9, 10, 3)
    h, w = height // 2 + int(generator.integers(height // 4)), width // 2
    y, x = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
    colour = np.array(colorsys.hsv_to_rgb(category / of, 1.0, 1.0)) * 255
    rows, columns = np.mgrid[:h, :w]
    across = (rows, columns, rows + columns)[category % 3]
    bright = 0.6 + 0.4 * (across // 4 % 2)
    pixels[y : y + h, x : x + w] = colour * bright[..., None]
    return pixels.astype(np.uint8), [x, y, w, h]


def write_fake_fmow(
    folder, categories=CATEGORIES, images_per_split=2, size=(32, 40), seed=0, raw_test=False
):
    """Writes a tiny fMoW-rgb.

    Args:
        folder: The manual folder; `fmow-rgb` is made in it.
        categories: Names of categories, of fMoW's 62.
        images_per_split: Images of each category in each split: int, or dict from the splits'
            folders ("train", "val", "test") to int.
        size: (height, width) of the images in pixels.
        seed: Other seed, other images.
        raw_test: Whether the test folder is as it was handed out: numbered, without categories,
            with the ground truth beside it.

    Returns:
        `pathlib.Path` of `fmow-rgb`.
    """
    root = pathlib.Path(folder) / "fmow-rgb"
    generator = np.random.default_rng(seed)
    mapping = []
    for split in SPLITS:
        count = images_per_split if isinstance(images_per_split, int) else images_per_split[split]
        for label, category in enumerate(categories):
            for number in range(count):
                # Two images a place, as the release has several of each.
                place, shot = f"{category}_{number // 2}", number % 2
                pixels, box = picture(label, len(categories), size, generator)
                told = {
                    "img_height": size[0],
                    "img_width": size[1],
                    "bounding_boxes": [
                        {"category": "false_detection", "ID": -1, "box": [0, 0, 9, 9]},
                        {"category": category, "ID": 1000 + number, "box": box},
                    ],
                }
                images = truth = root / split / category / place
                name = place
                if split == "test" and raw_test:
                    name = f"{7 * label + number // 2:07}"
                    images, truth = root / "test" / name, root / "test_gt" / category / place
                    entry = {"input": f"test_gt/{category}/{place}", "output": f"test/{name}"}
                    mapping += [] if entry in mapping else [entry]
                images.mkdir(parents=True, exist_ok=True)
                truth.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(images / f"{name}_{shot}_rgb.jpg", quality=95)
                (truth / f"{place}_{shot}_rgb.json").write_text(json.dumps(told))
    if raw_test:
        (root / "test_gt_mapping.json").write_text(json.dumps(mapping))
    return root
