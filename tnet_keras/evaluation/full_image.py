"""What a network that sees the full image is worth."""

import keras
import numpy as np
import tensorflow as tf

from tnet_keras.evaluation import profile


def evaluate_full_image(model, dataset, verbose=0):
    """Measures a classifier that looks at nothing in particular on a data set.

    Args:
        model: A built `FullImageClassifier`, or another model with `image_size` whose call returns
            logits `[B, C]`.
        dataset: Batches of `(images, labels, ...)`: images `[B, H, W, 3]` with values 0–255, labels
            `[B]` integers.
        verbose: 1 shows a progress bar.

    Returns:
        dict of plain numbers, ready for a report: `images`, `accuracy` and `macs` (multiply-adds
        per image), each under the key "0" (no locations), `top_5_accuracy` and `majority` (share of
        the most frequent label), in [0, 1].

    Raises:
        ValueError: If the data set is empty.

    Example:

    ```python
    import numpy as np
    from tnet_keras import from_preset
    from tnet_keras.evaluation import evaluate_full_image

    batches = [(np.zeros((2, 224, 224, 3), np.uint8), np.array([3, 4]))]
    measured = evaluate_full_image(from_preset("convnet_needle_digits"), batches)
    ```
    """
    logits_of = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    cardinality = int(dataset.cardinality()) if hasattr(dataset, "cardinality") else -1
    bar = keras.utils.Progbar(cardinality if cardinality > 0 else None, verbose=verbose)
    counts = np.zeros(model.num_classes, np.int64)
    images = batches = correct = correct_of_5 = 0
    for batch in dataset:
        labels = np.asarray(batch[1])
        logits = logits_of(tf.convert_to_tensor(batch[0]))
        correct += int((np.argmax(logits, axis=-1) == labels).sum())
        correct_of_5 += int(tf.reduce_sum(tf.cast(tf.math.in_top_k(labels, logits, 5), tf.int32)))
        counts += np.bincount(labels, minlength=model.num_classes)
        images, batches = images + len(labels), batches + 1
        bar.update(batches, finalize=False)
    if not images:
        raise ValueError("`dataset` must hold at least one image. Received: an empty data set")
    bar.update(batches, finalize=True)
    return {
        "images": images,
        "locations": "0",
        "accuracy": {"0": correct / images},
        "top_5_accuracy": correct_of_5 / images,
        "majority": int(counts.max()) / images,
        "macs": {"0": profile.count_macs(model, (*model.image_size, 3))},
    }
