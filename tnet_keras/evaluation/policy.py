"""What a policy is worth: accuracy with its locations, with random ones and with the right one.

The first part are functions of plain arrays; `evaluate_policy` streams a data set through a model
and keeps sums only, so memory does not grow with the data set.
"""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras import geometry
from tnet_keras.evaluation import profile


def box_centres(boxes):
    """Centres of boxes.

    Args:
        boxes: `[..., 4]` of `(y0, x0, y1, x1)`, pixels.

    Returns:
        float32 array `[..., 2]` of `(y, x)`, pixels.
    """
    boxes = np.asarray(boxes, np.float32)
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def contains(boxes, points):
    """Which boxes contain which points. A box may reach outside the image, into its padding.

    Args:
        boxes: `[..., K, 4]` half-open `(y0, x0, y1, x1)`, pixels.
        points: `[..., 2]` of `(y, x)`, pixels.

    Returns:
        bool array `[..., K]`.
    """
    boxes = np.asarray(boxes, np.float32)
    points = np.asarray(points, np.float32)[..., None, :]
    return np.all((boxes[..., :2] <= points) & (points < boxes[..., 2:]), axis=-1)


def hits(location_probabilities, cell_boxes, centres):
    """Whether the most probable cell contains a point.

    Args:
        location_probabilities: `[B, K]`, probabilities of the cells of one grid.
        cell_boxes: `[K, 4]`, pixels.
        centres: `[B, 2]` of `(y, x)`, pixels.

    Returns:
        bool array `[B]`.
    """
    best = np.argmax(location_probabilities, axis=-1)
    return contains(cell_boxes, centres)[np.arange(len(best)), best]


def entropy(probabilities):
    """Entropy of distributions, -Σ p log p.

    Args:
        probabilities: `[..., K]`.

    Returns:
        float64 array `[...]`, nats, between 0 and log K.
    """
    probabilities = np.asarray(probabilities, np.float64)
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return -np.sum(probabilities * logs, axis=-1)


def random_cells(generator, batch, num_cells, locations):
    """Draws cells uniformly without replacement.

    Args:
        generator: `numpy.random.Generator`.
        batch: Number of images B.
        num_cells: Cells K of a grid.
        locations: Tuple of locations per grid and level.

    Returns:
        List with an int32 array `[B, grids, k]` per level, ascending in the last axis: the `cells`
        argument of `TNet.attend`.
    """
    result, grids = [], 1
    for count in locations:
        order = generator.random((batch, grids, num_cells)).argsort(axis=-1)
        result.append(np.sort(order[..., :count], axis=-1).astype(np.int32))
        grids *= count
    return result


def oracle_cells(grid, height, width, centres, levels):
    """Chooses, level by level, the cell that has a point nearest to its middle.

    Among the cells that contain the point, the one with the nearest centre; where none does, the
    one with the nearest centre of all. The next level does the same inside the chosen cell.

    Args:
        grid: The `RegionGrid` of every level.
        height: Image height, pixels.
        width: Image width, pixels.
        centres: `[B, 2]` of `(y, x)`, pixels.
        levels: Number of grids, one less than the levels of the model.

    Returns:
        List of `levels` int32 arrays `[B, 1, 1]`.
    """
    centres = np.asarray(centres, np.float32)
    result = []
    for _ in range(levels):
        cells = grid.boxes(height, width)
        distances = np.linalg.norm(centres[:, None] - box_centres(cells), axis=-1)
        distances = distances + np.where(contains(cells, centres), 0.0, np.float32(1e9))
        best = np.argmin(distances, axis=-1)
        result.append(best.astype(np.int32)[:, None, None])
        # The cell becomes the parent: the point moves into its coordinates.
        centres = centres - cells[best, :2]
        height, width = grid.cell_size(height, width)
    return result


def union_coverage(boxes, height, width):
    """Share of an image that the boxes of all levels cover together.

    Args:
        boxes: `[T, 4]`, pixels of the image.
        height: Image height, pixels.
        width: Image width, pixels.

    Returns:
        Fraction in [0, 1].
    """
    # At one common level, `geometry.coverage` takes the union of them all.
    return geometry.coverage(boxes, np.full(len(boxes), 2), height, width).get(2, 0.0)


class RunningMeans:
    """Running means by name; a name is text or a tuple of texts."""

    def __init__(self):
        self.totals = {}

    def add(self, name, values):
        """Adds values to a mean.

        Args:
            name: Text or a tuple of texts.
            values: Array of any shape, or a number.
        """
        values = np.asarray(values, np.float64)
        total, count = self.totals.get(name, (0.0, 0))
        self.totals[name] = (total + values.sum(), count + values.size)

    def get(self, name, default=None):
        """A mean, float.

        Args:
            name: Text or a tuple of texts.
            default: What is returned if nothing was added.
        """
        if name not in self.totals:
            return default
        total, count = self.totals[name]
        return float(total / count)

    def group(self, *prefix):
        """Means of all names that start so: dict by the last part of their name.

        Args:
            *prefix: The parts before it, texts.
        """
        return {
            name[-1]: self.get(name)
            for name in self.totals
            if isinstance(name, tuple) and name[:-1] == prefix
        }


def _traced(model, chosen, dtype):
    """Traces a model with its own choice of locations, and with given cells.

    Args:
        model: A `TNet`.
        chosen: Tuple of locations per grid and level.
        dtype: dtype of the images.

    Returns:
        `(policy, forced)`: functions of images to a dict, and of images and cells to predictions.
    """
    # One signature with an open batch axis: the last, smaller batch does not trace everything anew.
    image_spec = tf.TensorSpec((None, *model.image_size, 3), dtype)
    cell_specs, grids = [], 1
    for count in chosen:
        cell_specs.append(tf.TensorSpec((None, grids, count), tf.int32))
        grids *= count

    @tf.function(input_signature=[image_spec], autograph=False)
    def policy(images):
        outputs = model.attend(images, locations=chosen)
        result = {"predictions": tf.argmax(outputs["logits"], axis=-1)}
        if chosen:
            result["attended_only"] = tf.argmax(outputs["attended_logits"], axis=-1)
            result["probabilities"] = outputs["location_probabilities"][0][:, 0]
            result["boxes"], result["levels"] = outputs["boxes"], outputs["levels"]
        return result

    @tf.function(input_signature=[image_spec, cell_specs], autograph=False)
    def forced(images, cells):
        outputs = model.attend(images, locations=chosen, cells=cells)
        return tf.argmax(outputs["logits"], axis=-1)

    # Called as concrete functions, TensorFlow does not take several numbers of locations for one
    # function that is traced again and again, and does not warn.
    return policy.get_concrete_function(), forced.get_concrete_function()


class _PolicyEvaluation:
    """Streams batches through a model and keeps the sums that `evaluate_policy` reports."""

    def __init__(self, model, chosen_by_key, seed):
        self.model = model
        self.chosen_by_key = chosen_by_key
        self.size = tuple(model.image_size)
        self.grid = model.grid
        self.cell_boxes = model.grid.boxes(*self.size)
        self.one_each = (1,) * (model.levels - 1)
        self.generator = np.random.default_rng(seed)
        self.means = RunningMeans()
        self.coverages = {}
        self.functions = {}

    def update(self, images, labels, boxes=None):
        images, labels = tf.convert_to_tensor(images), np.asarray(labels)
        probabilities = None
        for key, chosen in self.chosen_by_key.items():
            policy, forced = self._function(chosen, images)
            outputs = {name: value.numpy() for name, value in policy(images).items()}
            correct = outputs["predictions"] == labels
            self.means.add(("accuracy", key), correct)
            if chosen:
                cells = random_cells(self.generator, len(labels), self.grid.num_cells, chosen)
                correct = forced(images, list(map(tf.constant, cells))).numpy() == labels
                self.means.add(("attended_only", key), outputs["attended_only"] == labels)
                self._add_coverage(key, outputs["boxes"], outputs["levels"])
                probabilities = outputs["probabilities"]
            self.means.add(("random", key), correct)
        if not self.one_each:
            return
        if probabilities is None:
            policy = self._function(self.one_each, images)[0]
            probabilities = policy(images)["probabilities"].numpy()
        self.means.add("policy_entropy", entropy(probabilities))
        if boxes is not None:
            centres = box_centres(boxes)
            self.means.add("hit_rate", hits(probabilities, self.cell_boxes, centres))
            self.means.add("hit_rate_random", contains(self.cell_boxes, centres).mean(axis=-1))
            best = oracle_cells(self.grid, *self.size, centres, len(self.one_each))
            forced = self._function(self.one_each, images)[1]
            correct = forced(images, list(map(tf.constant, best))).numpy() == labels
            self.means.add("accuracy_oracle_location", correct)

    def _function(self, chosen, images):
        if chosen not in self.functions:
            self.functions[chosen] = _traced(self.model, chosen, images.dtype)
        return self.functions[chosen]

    def _add_coverage(self, key, boxes, levels):
        for image_boxes, image_levels in zip(boxes, levels, strict=True):
            # Few different sets of cells come up, so the coverage of each is computed once.
            signature = image_boxes.tobytes()
            shares = self.coverages.get(signature)
            if shares is None:
                shares = {
                    str(level): share
                    for level, share in geometry.coverage(
                        image_boxes, image_levels, *self.size
                    ).items()
                }
                shares["all"] = union_coverage(image_boxes, *self.size)
                if len(self.coverages) < 10_000:
                    self.coverages[signature] = shares
            for name, share in shares.items():
                self.means.add(("coverage", key, name), share)

    def summary(self):
        means, keys = self.means, list(self.chosen_by_key)
        own = str(profile.total_locations(self.model.locations))
        attended = means.group("attended_only")
        result = {
            "locations": own,
            "accuracy": means.group("accuracy"),
            "accuracy_random_locations": means.group("random"),
            "accuracy_attended_only": attended.get(own),
            "accuracy_attended_only_by_locations": attended,
            "coverage": {key: means.get(("coverage", key, "all"), 0.0) for key in keys},
            "coverage_by_level": {key: means.group("coverage", key) or {"1": 1.0} for key in keys},
            "macs": profile.count_macs_by_locations(self.model, self.chosen_by_key.values()),
        }
        for shares in result["coverage_by_level"].values():
            shares.pop("all", None)
        for name in ("policy_entropy", "accuracy_oracle_location", "hit_rate", "hit_rate_random"):
            if means.get(name) is not None:
                result[name] = means.get(name)
        return result


def evaluate_policy(model, dataset, locations, seed=0, verbose=0):
    """Measures a hard-attention model on a data set.

    Args:
        model: A built `TNet`.
        dataset: Batches of `(images, labels)` or `(images, labels, boxes)`: images `[B, H, W, 3]`
            with values 0–255, labels `[B]` integers, and the box of the labelled object `[B, 4]` in
            pixels.
        locations: Tuples of locations per grid and level to evaluate with, such as
            `[(), (1,), (2,)]`. The model's own number should be among them.
        seed: Seed of the random locations.
        verbose: 1 shows a progress bar.

    Returns:
        dict of plain numbers, ready for a report. Keys "0", "1", … are numbers of regions looked
        at:

        * `images`: number of images.
        * `locations`: the model's own number of locations, one of these keys.
        * `accuracy`, `accuracy_random_locations`: by number of locations, in [0, 1].
        * `accuracy_attended_only_by_locations`: without the context vector; no "0".
        * `accuracy_attended_only`: the same at the model's own number, or None.
        * `coverage`: share of the image that the chosen boxes cover together, by number of
          locations.
        * `coverage_by_level`: by number of locations, then by level; level 1 is the downscaled
          whole.
        * `macs`: multiply-adds per image, by number of locations.
        * `policy_entropy`: mean entropy of the first grid's location probabilities, nats.
        * with boxes: `hit_rate` (share of images whose most probable box contains the centre of
          the true box), `hit_rate_random` (the exact expectation of the same for a uniformly drawn
          box), `accuracy_oracle_location` (one location per grid, the one nearest to the object).

    Raises:
        ValueError: If the data set or `locations` is empty.
    """
    chosen_by_key = profile.keyed_locations(locations)
    if not chosen_by_key:
        raise ValueError(f"`locations` must have at least one entry. Received: {locations!r}")
    evaluation = _PolicyEvaluation(model, chosen_by_key, seed)
    cardinality = int(dataset.cardinality()) if hasattr(dataset, "cardinality") else -1
    bar = keras.utils.Progbar(cardinality if cardinality > 0 else None, verbose=verbose)
    images = batches = 0
    for batch in dataset:
        evaluation.update(*batch)
        images, batches = images + len(batch[1]), batches + 1
        bar.update(batches, finalize=False)
    if not images:
        raise ValueError("`dataset` must hold at least one image. Received: an empty data set")
    bar.update(batches, finalize=True)
    return {"images": images, **evaluation.summary()}
