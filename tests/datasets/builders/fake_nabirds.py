"""A tiny NABirds in the layout of its owners, whose classes look different."""

import pathlib

import numpy as np
from PIL import Image

from tests.datasets.builders.fake_fmow import picture

#: Class numbers and names; the first image is of the last class.
CLASSES = {
    "295": "Common Eider (Adult male)",
    "817": "Oak Titmouse",
    "1010": "Yellow-breasted Chat",
}


def write_fake_nabirds(
    folder, classes=CLASSES, images_per_split=2, size=(32, 40), seed=0, boxes=True
):
    """Writes a tiny NABirds.

    Args:
        folder: The manual folder; `nabirds` is made in it.
        classes: dict from class numbers to names, both text.
        images_per_split: Images of each class in each split.
        size: (height, width) of the images in pixels.
        seed: Other seed, other images.
        boxes: Whether `bounding_boxes.txt` is written.

    Returns:
        `pathlib.Path` of `nabirds`.
    """
    root = pathlib.Path(folder) / "nabirds"
    generator = np.random.default_rng(seed)
    names = ("images", "classes", "image_class_labels", "train_test_split", "sizes")
    lines = {name: [] for name in (*names, "bounding_boxes")}
    lines["classes"] = ["0 Birds", *(f"{number} {name}" for number, name in classes.items())]
    order = list(reversed(classes))
    for image in range(2 * images_per_split * len(classes)):
        number, in_train = order[image % len(order)], image < images_per_split * len(order)
        key = f"{image:08x}-0000-4000-8000-000000000000"
        path = f"{int(number):04}/{image:032x}.jpg"
        pixels, box = picture(image % len(order), len(order), size, generator)
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / path, quality=95)
        lines["images"].append(f"{key} {path}")
        lines["image_class_labels"].append(f"{key} {number}")
        lines["train_test_split"].append(f"{key} {int(in_train)}")
        lines["sizes"].append(f"{key} {size[1]} {size[0]}")
        lines["bounding_boxes"].append(" ".join(map(str, (key, *box))))
    for name in lines if boxes else names:
        (root / f"{name}.txt").write_text("\n".join(lines[name]) + "\n")
    return root
