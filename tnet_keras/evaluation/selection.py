"""What a selection of patches is worth: accuracy, and how much of the true objects it covers.

For models that choose K of N candidate regions at once; `policy` measures those that walk from
level to level.
"""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.evaluation import profile
from tnet_keras.evaluation.policy import RunningMeans, contains, entropy, union_coverage


def covered_shares(boxes, true_boxes):
    """Share of the area of each true box that the chosen boxes cover together.

    Args:
        boxes: `[T, 4]` half-open `(y0, x0, y1, x1)`, pixels; integers.
        true_boxes: `[M, 4]`, pixels.

    Returns:
        float64 array `[M]` in [0, 1]; NaN for a box without an area.
    """
    shares = np.full(len(true_boxes), np.nan)
    for index, (y0, x0, y1, x1) in enumerate(np.asarray(true_boxes, np.float64)):
        if y1 <= y0 or x1 <= x0:
            continue
        inside = np.clip(np.asarray(boxes, np.float64), [y0, x0, y0, x0], [y1, x1, y1, x1])
        # The union of rectangles, on the grid that their edges make.
        ys, xs = np.unique(inside[:, [0, 2]]), np.unique(inside[:, [1, 3]])
        middle_y, middle_x = (ys[1:] + ys[:-1]) / 2, (xs[1:] + xs[:-1]) / 2
        within_y = (inside[:, :1] < middle_y) & (middle_y < inside[:, 2:3])
        within_x = (inside[:, 1:2] < middle_x) & (middle_x < inside[:, 3:])
        filled = np.einsum("ty,tx->yx", within_y.astype(int), within_x.astype(int)) > 0
        area = (np.diff(ys)[:, None] * np.diff(xs) * filled).sum()
        shares[index] = area / ((y1 - y0) * (x1 - x0))
    return shares


def evaluate_selection(model, dataset, locations=None, seed=0, verbose=0):
    """Measures a patch-selection model on a data set.

    Args:
        model: A built `PatchSelectionClassifier` or another model with a `selection`.
        dataset: Batches of `(images, labels)` or `(images, labels, boxes)`: images `[B, H, W, 3]`
            with values 0–255, labels `[B]` integers, and true boxes `[B, 4]` or `[B, M, 4]` in
            pixels; a box without an area stands for none.
        locations: Tuples `(K,)` of numbers of patches to evaluate with; None for the model's own.
        seed: Seed of the random patches.
        verbose: 1 shows a progress bar.

    Returns:
        dict of plain numbers, ready for a report; keys such as "10" are numbers of patches:

        * `images`, `locations` (the model's own number, one of these keys);
        * `accuracy`, `accuracy_random_locations`: by number of patches, in [0, 1];
        * `majority`: share of the most frequent label;
        * `coverage`: share of the image that the chosen boxes cover together;
        * `macs`: multiply-adds per image, by number of patches;
        * `policy_entropy`: mean entropy of the softmax of the scores, nats;
        * with boxes, at the model's own number: `hit_rate` (share of true boxes whose centre is in
          a chosen patch), `hit_rate_random` (the same for uniformly drawn patches),
          `object_coverage` (mean share of a true box's area that the chosen patches cover).

    Raises:
        ValueError: If the data set is empty.
    """
    selection = model.selection
    own = (selection.num_patches,)
    chosen_by_key = profile.keyed_locations([own] if locations is None else locations)
    own_key = str(own[0])
    functions = {key: _traced(model, chosen) for key, chosen in chosen_by_key.items()}
    generator = np.random.default_rng(seed)
    means, counts, images_seen, batches = RunningMeans(), {}, 0, 0
    cardinality = int(dataset.cardinality()) if hasattr(dataset, "cardinality") else -1
    bar = keras.utils.Progbar(cardinality if cardinality > 0 else None, verbose=verbose)
    for images, labels, *boxes in dataset:
        images, labels = tf.convert_to_tensor(images), np.asarray(labels)
        images_seen, batches = images_seen + len(labels), batches + 1
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            counts[label] = counts.get(label, 0) + int(count)
        for key, (policy, forced) in functions.items():
            outputs = {name: value.numpy() for name, value in policy(images).items()}
            means.add(("accuracy", key), outputs["predictions"] == labels)
            order = generator.random((len(labels), selection.num_candidates)).argsort(axis=-1)
            cells = np.sort(order[:, None, : chosen_by_key[key][0]], axis=-1).astype(np.int32)
            guessed = forced(images, tf.constant(cells)).numpy()
            means.add(("random", key), guessed == labels)
            for image_boxes in outputs["boxes"]:
                means.add(("coverage", key), union_coverage(image_boxes, *selection.image_size))
            if key != own_key:
                continue
            means.add("policy_entropy", entropy(outputs["probabilities"]))
            if boxes:
                random_boxes = selection.boxes[cells[:, 0]]
                true_boxes = np.reshape(boxes[0], (len(labels), -1, 4))
                _add_objects(means, outputs["boxes"], random_boxes, true_boxes)
        bar.update(batches, finalize=False)
    if not images_seen:
        raise ValueError("`dataset` must hold at least one image. Received: an empty data set")
    bar.update(batches, finalize=True)
    result = {
        "images": images_seen,
        "locations": own_key,
        "accuracy": means.group("accuracy"),
        "accuracy_random_locations": means.group("random"),
        "majority": max(counts.values()) / images_seen,
        "coverage": means.group("coverage"),
        "macs": profile.count_macs_by_locations(model, chosen_by_key.values()),
    }
    for name in ("policy_entropy", "hit_rate", "hit_rate_random", "object_coverage"):
        if means.get(name) is not None:
            result[name] = means.get(name)
    return result


def _traced(model, chosen):
    """Functions of images: the model's own patches and answers; the answers for given patches."""

    @tf.function(reduce_retracing=True, autograph=False)
    def policy(images):
        outputs = model.attend(images, locations=chosen)
        return {
            "predictions": tf.argmax(outputs["logits"], axis=-1),
            "probabilities": outputs["location_probabilities"][0][:, 0],
            "boxes": outputs["boxes"],
        }

    @tf.function(reduce_retracing=True, autograph=False)
    def forced(images, cells):
        outputs = model.attend(images, locations=chosen, cells=[cells])
        return tf.argmax(outputs["logits"], axis=-1)

    return policy, forced


def _add_objects(means, boxes, random_boxes, true_boxes):
    for chosen, drawn, wanted in zip(boxes, random_boxes, true_boxes, strict=True):
        shares = covered_shares(chosen, wanted)
        there = ~np.isnan(shares)
        if not there.any():
            continue
        wanted = wanted[there]
        centres = (wanted[:, :2] + wanted[:, 2:]) / 2
        means.add("object_coverage", shares[there])
        for name, candidates in (("hit_rate", chosen), ("hit_rate_random", drawn)):
            means.add(name, contains(candidates, centres).any(axis=-1))
