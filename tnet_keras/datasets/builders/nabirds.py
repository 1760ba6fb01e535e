"""NABirds: photographs of 555 kinds of North American birds."""

import tensorflow_datasets as tfds

from tnet_keras.datasets.builders.image_files import image_features, read_image, relative_box
from tnet_keras.datasets.builders.manual import manual_folder, numbers_of, read_table

_RELEASE = "the NABirds release (dl.allaboutbirds.org/nabirds)"
_TABLES = {
    "images.txt": 1,
    "classes.txt": 1,
    "image_class_labels.txt": 1,
    "train_test_split.txt": 1,
    "sizes.txt": 2,
}
_BOXES = "bounding_boxes.txt"
_SPLITS = {"train": "1", "test": "0"}


class Nabirds(tfds.core.GeneratorBasedBuilder):
    """NABirds (Van Horn et al., 2015), with the labels of TNet's published records.

    Reads `manual_dir/nabirds/`: the folder `images` and the text files `images.txt`,
    `classes.txt`, `image_class_labels.txt`, `train_test_split.txt`, `sizes.txt` and, if it is
    there, `bounding_boxes.txt`.

    Splits are train and test. Features: `image` (the file's own bytes), `label`, `bboxes`
    `[N, 4]` (ymin, xmin, ymax, xmax) in [0, 1], clipped to the image (N = 1, or 0 without
    `bounding_boxes.txt`), and `file_name`. A label is the position of a class in the order in
    which classes first appear over all images of `images.txt`; 555 in the release. Class names
    are whole; the published program cut them to their first word, and stored every image anew.
    A name that two classes share is followed by " (class <ID>)". Names and number of classes are
    read from the files while preparing, and are part of the prepared data set.

    Preparing raises ValueError with the path if a file is missing or does not hold what it should,
    an image cannot be decoded or has another size than `sizes.txt` says, a box lies outside, two
    images share a name, or a split is empty.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get nabirds.tar.gz from its owners (https://dl.allaboutbirds.org/nabirds) and extract it, so
    that manual_dir/nabirds holds the folder images and the text files beside it.
    """

    def _info(self):
        # How many classes and which, the files say: see `_split_generators`.
        label = tfds.features.ClassLabel(
            doc="Class in the order of first appearance over all images."
        )
        return self.dataset_info_from_configs(
            description="Photographs of North American birds of 555 visual categories.",
            features=image_features(label),
            supervised_keys=("image", "label"),
            homepage="https://dl.allaboutbirds.org/nabirds",
            citation="""@inproceedings{nabirds2015,
  title={Building a bird recognition app and large scale dataset with citizen scientists: The fine
         print in fine-grained dataset collection},
  author={Van Horn, Grant and Branson, Steve and Farrell, Ryan and Haber, Scott and Barry, Jessie
          and Ipeirotis, Panos and Perona, Pietro and Belongie, Serge},
  booktitle={CVPR}, year={2015}}""",
        )

    def _split_generators(self, dl_manager):
        root = manual_folder(dl_manager, "nabirds", _RELEASE, ("images", *_TABLES))
        tables = {name: read_table(root / name, columns) for name, columns in _TABLES.items()}
        paths = {key: value for key, (value,) in tables["images.txt"].items()}
        for name in ("image_class_labels.txt", "train_test_split.txt", "sizes.txt"):
            missing = [key for key in paths if key not in tables[name]]
            if missing:
                raise ValueError(f"{root / name} lacks the image {missing[0]!r} of images.txt")
        names = {}
        for path in paths.values():
            name = path.rpartition("/")[2]
            if name in names:
                raise ValueError(
                    f"{root / 'images.txt'}: {path} has the name of another image: {names[name]}"
                )
            names[name] = path
        labels = self._name_classes(root, tables, paths)
        boxes = read_table(root / _BOXES, 4) if (root / _BOXES).exists() else None
        if boxes is not None and (missing := [key for key in paths if key not in boxes]):
            raise ValueError(f"{root / _BOXES} lacks the image {missing[0]!r} of images.txt")
        split_of = {key: tables["train_test_split.txt"][key][0] for key in paths}
        wrong = [key for key in paths if split_of[key] not in _SPLITS.values()]
        if wrong:
            raise ValueError(
                f"{root / 'train_test_split.txt'}: the image {wrong[0]!r} must have 0 or 1. "
                f"Received: {split_of[wrong[0]]!r}"
            )
        generators = {}
        for split, mark in _SPLITS.items():
            chosen = [key for key in paths if split_of[key] == mark]
            if not chosen:
                raise ValueError(
                    f"{root / 'train_test_split.txt'} must give images to {split} ({mark}). "
                    "Received: none"
                )
            generators[split] = self._generate_examples(
                root, chosen, paths, labels, tables["sizes.txt"], boxes
            )
        return generators

    def _name_classes(self, root, tables, paths):
        """Labels by image key; tells the label feature the names of the classes."""
        class_of = {key: tables["image_class_labels.txt"][key][0] for key in paths}
        order = list(dict.fromkeys(class_of.values()))
        classes = tables["classes.txt"]
        unknown = [number for number in order if number not in classes]
        if unknown:
            raise ValueError(
                f"{root / 'classes.txt'} lacks the class {unknown[0]!r} of image_class_labels.txt"
            )
        names = [classes[number][0] for number in order]
        self.info.features["label"].names = [
            name if names.count(name) == 1 else f"{name} (class {number})"
            for name, number in zip(names, order, strict=True)
        ]
        label_of_class = {number: label for label, number in enumerate(order)}
        return {key: label_of_class[number] for key, number in class_of.items()}

    def _generate_examples(self, root, keys, paths, labels, sizes, boxes):
        for key in keys:
            path = root / "images" / paths[key]
            if not path.is_file():
                raise ValueError(f"{path} is missing; {root / 'images.txt'} names it")
            contents, height, width = read_image(path)
            if numbers_of(sizes[key], root / "sizes.txt", "sizes") != [width, height]:
                raise ValueError(
                    f"{root / 'sizes.txt'} must hold the size of {path}. Received: "
                    f"{' x '.join(sizes[key])} for an image of width {width} and height {height}"
                )
            bboxes = []
            if boxes is not None:
                place = root / _BOXES
                box = numbers_of(boxes[key], place, f"x, y, width and height of {key!r}")
                bboxes.append(relative_box(*box, height, width, f"{place}, image {key!r}"))
            yield (
                key,
                {
                    "image": contents,
                    "label": labels[key],
                    "bboxes": bboxes,
                    "file_name": path.name,
                },
            )
