"""fMoW-rgb: satellite images of 62 kinds of places, whole or cut out around their boxes."""

import dataclasses
import pathlib

import tensorflow as tf
import tensorflow_datasets as tfds

from tnet_keras.datasets.builders.image_files import (
    cut_jpeg,
    image_features,
    read_image,
    relative_box,
    shrunk_jpeg,
)
from tnet_keras.datasets.builders.manual import (
    json_value,
    manual_folder,
    numbers_of,
    read_json,
    sub_folders,
)

#: The categories in the order of their labels: alphabetical but for impoverished_settlement.
FMOW_LABELS = tuple(
    """
    airport airport_hangar airport_terminal amusement_park aquaculture archaeological_site barn
    border_checkpoint burial_site car_dealership construction_site crop_field dam debris_or_rubble
    educational_institution electric_substation factory_or_powerplant fire_station flooded_road
    fountain gas_station golf_course ground_transportation_station helipad hospital interchange
    lake_or_pond lighthouse military_facility multi-unit_residential nuclear_powerplant
    office_building oil_or_gas_facility park parking_lot_or_garage place_of_worship police_station
    port prison race_track railway_bridge recreational_facility impoverished_settlement road_bridge
    runway shipyard shopping_mall single-unit_residential smokestack solar_farm space_facility
    stadium storage_tank surface_mine swimming_pool toll_booth tower tunnel_opening waste_disposal
    water_treatment_facility wind_farm zoo
    """.split()
)
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_RELEASE = "the fMoW-rgb release (github.com/fMoW/dataset)"
_MAPPING = "test_gt_mapping.json"
_IMAGE_END, _JSON_END = "_rgb.jpg", "_rgb.json"
# Context around a box that is cut out, as a multiple of its side: the first row whose share of
# the image's side is reached counts.
_CONTEXT = ((0.5, 0.15), (0.4, 0.2), (0.3, 0.3), (0.2, 0.5), (0.1, 1.0), (0.0, 2.0))
_SMALLEST_BOX = 2  # pixels; a box with a side of at most this is not cut out


@dataclasses.dataclass(eq=False, kw_only=True)
class FmowRgbConfig(tfds.core.BuilderConfig):
    """What becomes of the images of fMoW-rgb.

    Attributes:
        cropped: bool, whether each box becomes an example of its own.
        maximum_min_dim: int >= 1, pixels: images whose shorter side exceeds it are made smaller,
            so that their shorter side equals it.
        name, version, release_notes, supported_versions, description, tags: as of
            `tfds.core.BuilderConfig`; only `name` must be given.
    """

    cropped: bool = False
    maximum_min_dim: int = 1000


class FmowRgb(tfds.core.GeneratorBasedBuilder):
    """The rgb version of Functional Map of the World (Christie et al., 2018), as TNet reads it.

    Reads `manual_dir/fmow-rgb/{train,val,test}/<category>/<category>_<i>/` with files
    `<category>_<i>_<j>_rgb.jpg` and `.json`. The test folder may also be as it was handed out
    (`test/<number>/<number>_<j>_rgb.jpg`); then `test_gt_mapping.json` and `test_gt/` of the
    ground-truth archive must lie in `fmow-rgb/` or `fmow-rgb/groundtruth/`: an entry's `input` is
    the folder of the true JSON files, its `output` the test folder.

    Splits are train, validation and test. Features: `image` (JPEG), `label` (the 62 categories in
    the published order, `FMOW_LABELS`), `bboxes` `[N, 4]` (ymin, xmin, ymax, xmax) in [0, 1], of
    boxes of the image's own category only and without those of ID -1, clipped to the image, and
    `file_name`. Images with a shorter side over `maximum_min_dim` are made smaller
    (`shrunk_jpeg`); the others keep their bytes.

    Configurations:
        full: whole images, `maximum_min_dim` 1000.
        cropped: one example per box with both sides over 2 pixels, for models that are told where
            to look; `maximum_min_dim` 224. Each side of a box, by its share r of the image's side,
            grows by int(side * c / 2) at both ends, with c = 0.15 for r >= 0.5, 0.2 for r >= 0.4,
            0.3 for r >= 0.3, 0.5 for r >= 0.2, 1 for r >= 0.1, else 2; then it is clipped, cut out
            of the decoded image and encoded with quality 100. `bboxes` is the whole crop,
            `file_name` starts with "<category>_<ID>/". The published program wrote the size of
            another image beside each crop, and decoded by that; here each crop has its own size.
        full_275: whole images, `maximum_min_dim` 275, for models of 224 x 224 pixels.
    Others: `FmowRgb(config=FmowRgbConfig(name="full_500", maximum_min_dim=500))`.

    Preparing raises ValueError with the path if a folder, file or key is missing, a category is
    unknown, an image cannot be decoded or has another size than its JSON says, a box lies outside,
    two images of a split share a name, or a split is empty.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        FmowRgbConfig(name="full", description="Whole images, shorter side at most 1000 pixels."),
        FmowRgbConfig(
            name="cropped",
            description="One crop per box, with context, shorter side at most 224 pixels.",
            cropped=True,
            maximum_min_dim=224,
        ),
        FmowRgbConfig(
            name="full_275",
            description="Whole images, shorter side at most 275 pixels.",
            maximum_min_dim=275,
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get fMoW-rgb from its owners (https://github.com/fMoW/dataset) and extract it so that
    manual_dir/fmow-rgb holds the folders train, val and test; for the test folder as handed out
    also the ground truth: test_gt and test_gt_mapping.json.
    """

    def _info(self):
        label = tfds.features.ClassLabel(
            names=FMOW_LABELS, doc="Category in the order of TNet's published records."
        )
        return self.dataset_info_from_configs(
            description="Satellite images of 62 kinds of places, with boxes around them.",
            features=image_features(label),
            supervised_keys=("image", "label"),
            homepage="https://github.com/fMoW/dataset",
            citation="""@inproceedings{fmow2018,
  title={Functional Map of the World},
  author={Christie, Gordon and Fendley, Neil and Wilson, James and Mukherjee, Ryan},
  booktitle={CVPR}, year={2018}}""",
        )

    def _split_generators(self, dl_manager):
        limit = self.builder_config.maximum_min_dim
        if limit < 1:
            raise ValueError(
                f"`maximum_min_dim` must be at least 1. Received: maximum_min_dim={limit}"
            )
        root = manual_folder(dl_manager, "fmow-rgb", _RELEASE, _FOLDERS.values())
        # All folders are looked through before the first image is read.
        found = {split: _find_images(root, name) for split, name in _FOLDERS.items()}
        return {split: self._generate_examples(*found[split]) for split in found}

    def _generate_examples(self, folder, images):
        config, count = self.builder_config, 0
        for image_path, json_path, category, name in images:
            contents, height, width = read_image(image_path, jpeg_only=True)
            boxes = _read_boxes(json_path, category, height, width)
            common = {"label": category, "file_name": name}
            if config.cropped:
                decoded = tf.io.decode_jpeg(contents, channels=3)
                for number, (identity, box, _) in enumerate(boxes):
                    if min(box[2:]) <= _SMALLEST_BOX:
                        continue
                    cut = box_with_context(*box, height, width)
                    crop = cut_jpeg(decoded, cut)
                    size = cut[2] - cut[0], cut[3] - cut[1]
                    example = {
                        "image": shrunk_jpeg(crop, *size, config.maximum_min_dim),
                        "bboxes": [tfds.features.BBox(0.0, 0.0, 1.0, 1.0)],
                        "file_name": f"{category}_{identity}/{name}",
                    }
                    count += 1
                    yield f"{category}/{name}/{number}", common | example
            else:
                example = {
                    "image": shrunk_jpeg(contents, height, width, config.maximum_min_dim),
                    "bboxes": [relative for _, _, relative in boxes],
                }
                count += 1
                yield f"{category}/{name}", common | example
        if not count:
            raise ValueError(f"{folder} holds no box that can be cut out")


def box_with_context(x, y, width, height, image_height, image_width):
    """Widens a box by the published context and clips it to the image; see `FmowRgb`.

    Args:
        x: left side, pixels; fractions of pixels are dropped.
        y: upper side, pixels.
        width: pixels.
        height: pixels.
        image_height: int, pixels.
        image_width: int, pixels.

    Returns:
        Tuple of int (y0, x0, y1, x1), pixels, half-open.
    """
    ends = []
    for start, side, limit in ((y, height, image_height), (x, width, image_width)):
        start, side = int(start), int(side)
        factor = next(factor for share, factor in _CONTEXT if side / limit >= share)
        grown = int(side * factor / 2)
        ends.append((max(start - grown, 0), min(start + side + grown, limit)))
    (y0, y1), (x0, x1) = ends
    return y0, x0, y1, x1


def _find_images(root, name):
    """The folder of a split, and a list of (image, JSON, category, name) of what is in it."""
    folder = root / name
    folders = sub_folders(folder)
    if name == "test" and folders and not any(path.name in FMOW_LABELS for path in folders):
        images = _match_images(root, folders)
    else:
        images = []
        for category in folders:
            _check_category(category.name, category)
            for sequence in sub_folders(category):
                for path in _images_in(sequence):
                    beside = path.with_name(path.name.removesuffix(_IMAGE_END) + _JSON_END)
                    images.append((path, beside, category.name, path.name))
    if not images:
        raise ValueError(
            f"{folder} must hold images <category>/<category>_<i>/<category>_<i>_<j>{_IMAGE_END} "
            f"of {_RELEASE}. Received: a folder without any"
        )
    seen = {}
    for path, _, _, file_name in images:
        if file_name in seen:
            raise ValueError(f"{path} has the name of another image: {seen[file_name]}")
        seen[file_name] = path
    return folder, images


def _match_images(root, folders):
    """Finds category and true JSON of test images that lie in numbered folders."""
    places = [place for place in (root, root / "groundtruth") if (place / _MAPPING).is_file()]
    if not places:
        raise ValueError(
            f"{root} must hold {_MAPPING} of {_RELEASE}: the test images have no category folders. "
            f"Received: {root / 'test'} with {[path.name for path in folders[:3]]}"
        )
    mapping = places[0] / _MAPPING
    entries = read_json(mapping)
    if not isinstance(entries, list):
        raise ValueError(f"{mapping} must hold a list of entries. Received: {type(entries)}")
    images, matched = [], {}
    for entry in entries:
        truth, test = (str(json_value(entry, key, mapping)) for key in ("input", "output"))
        truth_name, test_name = pathlib.PurePath(truth).name, pathlib.PurePath(test).name
        if test_name in matched or truth_name in matched.values():
            raise ValueError(f"{mapping} has {truth!r} or {test!r} twice")
        matched[test_name] = truth_name
        category = truth_name.rpartition("_")[0]
        _check_category(category, mapping)
        if not (root / "test" / test_name).is_dir():
            raise ValueError(f"{root / 'test' / test_name} is missing; {mapping} names it")
        for path in _images_in(root / "test" / test_name):
            number = path.name.removesuffix(_IMAGE_END).removeprefix(test_name)
            name = truth_name + number
            beside = places[0] / truth / (name + _JSON_END)
            images.append((path, beside, category, name + _IMAGE_END))
    for path in folders:
        if path.name not in matched:
            raise ValueError(f"{path} has no category: {mapping} does not name it")
    return images


def _images_in(folder):
    return sorted(path for path in folder.glob(f"*{_IMAGE_END}") if path.name[0] != ".")


def _check_category(name, path):
    if name not in FMOW_LABELS:
        raise ValueError(f"{path}: {name!r} is none of the 62 categories of fMoW")


def _read_boxes(path, category, height, width):
    """Boxes of an image's own category: list of (ID, [x, y, w, h] in pixels, relative box)."""
    content = read_json(path)
    said = tuple(json_value(content, key, path) for key in ("img_height", "img_width"))
    if said != (height, width):
        raise ValueError(
            f"{path} must hold the size of its image. Received: img_height={said[0]}, "
            f"img_width={said[1]} for an image of height {height} and width {width}"
        )
    entries = json_value(content, "bounding_boxes", path)
    entries = [entries] if isinstance(entries, dict) else entries
    if not isinstance(entries, list):
        raise ValueError(f"{path}: bounding_boxes must be a list. Received: {entries!r}")
    boxes = []
    for entry in entries:
        identity = json_value(entry, "ID", path)
        if json_value(entry, "category", path) != category or identity == -1:
            continue
        box = numbers_of(json_value(entry, "box", path), path, "[x, y, width, height] of a box")
        if len(box) != 4:
            raise ValueError(f"{path}: a box must have 4 numbers. Received: box={box}")
        relative = relative_box(*box, height, width, f"{path}, box of ID {identity}")
        boxes.append((identity, box, relative))
    return boxes
