"""From encoded images in some order to batches: decode with a guard, augment, count bad ones."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tnet_keras.datasets.augment import resized_crop
from tnet_keras.datasets.augmentation import choose_window, find_augmentation, finish_image
from tnet_keras.datasets.bad_images import BadImages
from tnet_keras.datasets.kept_images import in_memory, on_disk
from tnet_keras.datasets.streams import Data
from tnet_keras.ops.checks import check_count
from tnet_keras.ops.decode import DECODE_STATUSES, MAX_BYTES, MAX_PIXELS, decode_image
from tnet_keras.ops.image_headers import IMAGE_KINDS, image_kind, jpeg_header

ON_BAD_IMAGE = ("error", "skip")
CACHES = ("none", "memory", "disk")


class EncodedImages(NamedTuple):
    """The images of a split, or of a worker's part of it, as they are kept.

    Fields:
        order: function of (endless, seed, start) that returns a `tf.data.Dataset` of pairs:
            position, int64 scalar, and element. Endless: passes without end, each shuffled.
        fetch: function of an element that returns an example: dict of `image`, scalar string, the
            bytes; `label`, integer scalar; `name`, scalar string; `index`, int64 scalar, the
            number in the data set; and if known `boxes`, `[N, 4]` float32 (y0, x0, y1, x1),
            fractions of height and width.
        num_examples: int, examples of one pass.
        class_names: tuple of str.
        identity: function without arguments that returns what tells these images from others, and
            from their earlier states: anything with a `repr`.
    """

    order: Callable
    fetch: Callable
    num_examples: int
    class_names: tuple
    identity: Callable


def decode_window(contents, choose, max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES):
    """Decodes a part of an image, if it is a plain JPEG without decoding much more than that.

    Pixels are those of `decode_image`, cut; where a JPEG has colours at half the resolution, the
    part's outermost columns take theirs from inside it. A JPEG that is broken outside of the part
    may pass.

    Args:
        contents: scalar string, the bytes.
        choose: function of `[2]` int32, (height, width), that returns `[4]` int32 (y, x, height,
            width) in pixels.
        max_pixels: int >= 1, largest height * width of the image.
        max_bytes: int >= 1, longest contents.

    Returns:
        As `decode_image`: the part, `[h, w, 3]` uint8, and the status.
    """

    nothing = tf.zeros((0, 0, 3), tf.uint8)

    def while_decoding():
        size, orientation = jpeg_header(contents)
        plain = (orientation == 1) & (size[2] <= 3) & tf.reduce_all(size > 0)
        plain &= tf.reduce_prod(tf.cast(size[:2], tf.float64)) <= max_pixels
        plain &= tf.strings.length(contents) <= max_bytes
        size = tf.cast(size[:2], tf.int32)

        def decode(contents):
            # The size counts only if what decodes the image reads the same.
            same = tf.debugging.assert_equal(tf.io.extract_jpeg_shape(contents)[:2], size)
            with tf.control_dependencies([same]):
                return tf.io.decode_and_crop_jpeg(contents, choose(size), channels=3)

        def attempt():
            # A data set of one element that ignores errors is what a graph has for `try`.
            parts = tf.data.Dataset.from_tensors(contents).map(decode).ignore_errors()
            parts = parts.concatenate(tf.data.Dataset.from_tensors(nothing))
            return tf.ensure_shape(parts.take(1).get_single_element(), (None, None, 3))

        return tf.cond(plain, attempt, lambda: nothing)

    def whole():
        image, status = decode_image(contents, max_pixels, max_bytes)
        y, x, height, width = tf.unstack(choose(tf.shape(image)[:2]))
        return image[y : y + height, x : x + width], status

    jpeg = tf.equal(image_kind(contents), IMAGE_KINDS.index("JPEG"))
    part = tf.cond(jpeg, while_decoding, lambda: nothing)
    # What cannot be decoded in part is decoded whole, which tells what is wrong with it.
    image, status = tf.cond(tf.size(part) > 0, lambda: (part, tf.constant(0)), whole)
    return tf.ensure_shape(image, (None, None, 3)), status


def check_reading(
    augmentation, on_bad_image, cache, resize=None, cache_dir=None, max_pixels=MAX_PIXELS
):
    """Checks how images are to be read.

    Args:
        augmentation: must be a key of `AUGMENTATIONS`; with `resize`, "none" or "crop_flip".
        on_bad_image: must be one of `ON_BAD_IMAGE`.
        cache: must be one of `CACHES`.
        resize: None or (height, width).
        cache_dir: must be given with the cache "disk", and with it only.
        max_pixels: int >= 1.

    Raises:
        ValueError: for what is not known.
    """
    find_augmentation(augmentation)
    check_count("max_pixels", max_pixels, 1)
    for name, value, known in (
        ("on_bad_image", on_bad_image, ON_BAD_IMAGE), ("cache", cache, CACHES),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"`{name}` must be one of {known}. Received: {name}={value!r}")
    if (cache == "disk") != (cache_dir is not None):
        raise ValueError(
            "`cache_dir` must be given with cache='disk', and with it only. "
            f"Received: cache_dir={cache_dir!r}, cache={cache!r}"
        )
    if resize is not None and augmentation not in ("none", "crop_flip"):
        raise ValueError(
            "`augmentation` must be 'none' or 'crop_flip' where images are resized before they are "
            f"cropped. Received: augmentation={augmentation!r}"
        )


def image_batches(
    encoded, image_size, batch_size, training, seed=0, start=0, augmentation="crop_flip",
    resize=None, on_bad_image="error", cache="none", shard=(0, 1),
    cache_dir=None, max_pixels=MAX_PIXELS,
):  # fmt: skip
    """Reads encoded images into batches.

    Each image is a function of the seed and its position, whatever the parallelism, so the stream
    from example `start` on is the stream without its first examples. With "skip" that needs to
    know which images are bad, and `start` > 0 costs decoding one pass to count them, and one more
    at most to leave them out.

    Args:
        encoded: `EncodedImages`.
        image_size: (height, width), pixels.
        batch_size: int >= 1.
        training: bool. Training streams are endless, shuffled, augmented and hold full batches.
        seed: int >= 0.
        start: int >= 0, how many examples to leave out.
        augmentation: str, a key of `AUGMENTATIONS`.
        resize: None, or (height, width) to resize to before a crop, see `resized_crop`.
        on_bad_image: "error", which ends the stream with one line that names the image; or
            "skip", which leaves it out.
        cache: "none"; or to read all encoded images at once and keep them, "memory" or "disk".
        shard: (index, count), which worker's part the images are: no two augment alike.
        cache_dir: folder for the cache "disk", see `on_disk`.
        max_pixels: int >= 1, largest height * width of an image. Files may have 64 MiB; with
            larger images than usual, 4 bytes for each of `max_pixels`.

    Returns:
        `Data` of `[B, H, W, 3]` uint8 images and `[B]` int32 labels. Its `names` read images again.

    Raises:
        ValueError: if an argument is not known, or a full batch needs more examples than there
            are.
    """
    check_reading(augmentation, on_bad_image, cache, resize, cache_dir, max_pixels)
    limits = {"max_pixels": max_pixels, "max_bytes": MAX_BYTES}
    if max_pixels > MAX_PIXELS:
        limits["max_bytes"] = max(MAX_BYTES, 4 * max_pixels)
    if training and encoded.num_examples < batch_size:
        raise ValueError(
            f"`batch_size` must be at most the {encoded.num_examples} examples of the split. "
            f"Received: batch_size={batch_size}"
        )
    if cache == "memory":
        encoded = in_memory(encoded)
    if cache == "disk":
        encoded = on_disk(encoded, cache_dir)
    augmented = training and augmentation != "none"
    recipe = find_augmentation(augmentation)
    skip = on_bad_image == "skip"
    bad_images = BadImages(encoded.num_examples) if skip else None

    def prepare(position, element):
        example = encoded.fetch(element)
        everywhere = position * shard[1] + shard[0]
        seeds = tf.stack([tf.cast(seed, tf.int64), everywhere]) if augmented else None

        def choose(size):
            if not augmented or resize is not None:
                return tf.stack([0, 0, size[0], size[1]])
            return choose_window(size, seeds, recipe, example.get("boxes"))

        if skip or resize is not None or not (augmented and recipe.crop):
            # All of it is looked at, so that an image is bad in every pass or in none.
            image, status = decode_image(example["image"], **limits)
            y, x, height, width = tf.unstack(choose(tf.shape(image)[:2]))
            image = image[y : y + height, x : x + width]
        else:
            image, status = decode_window(example["image"], choose, **limits)
        if not skip:
            image = checked_image(image, status, example["name"], max_pixels)
        if resize is None:
            image = finish_image(image, image_size, seeds, recipe)
        else:
            image = resized_crop(image, resize, image_size, seeds)
        image = tf.ensure_shape(image, (*image_size, 3))
        label = tf.cast(example["label"], tf.int32)
        if not skip:
            return image, label
        return image, label, _note(bad_images, example, status)

    def examples(first):
        order = encoded.order(endless=training, seed=seed, start=first)
        read = order.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if not skip:
            return read
        kept = read.filter(lambda image, label, good: good)
        return kept.map(lambda image, label, good: (image, label))

    def is_good(example):
        return _note(bad_images, example, decode_image(example["image"], **limits)[1])

    def only_names(first):
        def name(_, element):
            example = encoded.fetch(element)
            good = not skip or is_good(example)
            return example["name"], good

        read = encoded.order(endless=training, seed=seed, start=first).map(name)
        return read.filter(lambda name, good: good).map(lambda name, good: name)

    def from_position(read, position):
        if not skip or not position:
            return read(position)
        good = encoded.num_examples - _count_bad(encoded, bad_images, is_good)
        whole = position // good if training else 0
        return read(whole * encoded.num_examples).skip(position - whole * good)

    def names(positions):
        found = from_position(only_names, positions.start).take(len(positions))
        return [name.decode("utf-8", "replace") for name in found.as_numpy_iterator()]

    def begin(position):
        dataset = from_position(examples, position).batch(batch_size, drop_remainder=training)
        if not training and not skip:
            # TensorFlow cannot tell, and Keras warns where data end that do not say so before.
            batches = -(-max(0, encoded.num_examples - position) // batch_size)
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
        options = tf.data.Options()
        # What has a state is the seed of a shuffle, which is a function of the pass, and the notes
        # of bad images. Without this an iterator could not be saved.
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)

    return Data(begin(start), encoded.class_names, encoded.num_examples, bad_images, names, begin)


def checked_image(image, status, name, max_pixels=MAX_PIXELS):
    """An image that had to be readable.

    Args:
        image: `[H, W, 3]` uint8, from `decode_image`.
        status: int32 scalar, the position in `DECODE_STATUSES`.
        name: scalar string, for the message.
        max_pixels: int, that `decode_image` was given.

    Returns:
        `image`; where the status is not 0, reading it raises an InvalidArgumentError that names it.
    """
    limit = {"too many pixels": f"too many pixels, more than max_pixels={max_pixels}"}
    reason = tf.gather(tf.constant([limit.get(text, text) for text in DECODE_STATUSES]), status)
    # No quotes around the name: what prints the message would put backslashes before them.
    message = ["Every image must be readable (", reason, "). Received: ", name]
    good = tf.debugging.Assert(tf.equal(status, 0), [tf.strings.join(message)])
    with tf.control_dependencies([good]):
        return tf.identity(image)


def _note(bad_images, example, status):
    """Whether an image is good; remembers it if it is not."""

    def note(index, name, status):
        bad_images.add(index, name.decode("utf-8", "replace"), DECODE_STATUSES[status])
        return False

    def remember():
        arguments = [example["index"], example["name"], status]
        return tf.ensure_shape(tf.numpy_function(note, arguments, tf.bool), ())

    return tf.cond(tf.equal(status, 0), lambda: tf.constant(True), remember)


def _count_bad(encoded, bad_images, is_good):
    every = encoded.order(endless=False, seed=0, start=0)
    looked_at = every.map(
        lambda _, element: is_good(encoded.fetch(element)), num_parallel_calls=tf.data.AUTOTUNE
    )
    for _ in looked_at:
        pass
    return bad_images.count
