"""What a served model computes: from bytes or pixels to answers, as functions for signatures."""

import tensorflow as tf

from tnet_keras.geometry import total_locations
from tnet_keras.ops import decode_image
from tnet_keras.ops.patches import lite_operators

#: The signature that looks at more only where it must.
ADAPTIVE = "classify_bytes_adaptive"


def read_images(image_bytes, image_size, max_pixels, max_bytes, background, antialias=False):
    """Decodes files of mixed sizes and resizes them to one size.

    One after the other: a batch needs no more memory for decoding than its largest image.

    Args:
        image_bytes: string `[B]`, see `decode_image`.
        image_size: (height, width), pixels, of the model's images.
        max_pixels: int, see `decode_image`.
        max_bytes: int, see `decode_image`.
        background: (red, green, blue), see `decode_image`.
        antialias: See `resized`.

    Returns:
        `(images, sizes, status)`: `[B, height, width, 3]`, see `resized`; int32 `[B, 2]`, height
        and width of the upright image that was sent; int32 `[B]`, 0 = ok.
    """

    def read(contents):
        image, status = decode_image(contents, max_pixels, max_bytes, background)
        return resized(image[None], image_size, antialias)[0], tf.shape(image)[:2], status

    return tf.map_fn(
        read,
        image_bytes,
        parallel_iterations=1,
        fn_output_signature=(
            tf.TensorSpec((*image_size, 3), tf.float32 if antialias else tf.uint8),
            tf.TensorSpec((2,), tf.int32),
            tf.TensorSpec((), tf.int32),
        ),
    )


def resized(images, image_size, antialias=False):
    """Resizes images as what the model has been trained on.

    Bilinear, half-pixel centres. The training pipeline resizes without antialiasing and rounds; a
    model with `antialias` resizes itself, and nothing is rounded on the way.

    Args:
        images: uint8 `[B, h, w, 3]`, of any size.
        image_size: (height, width), pixels.
        antialias: Whether the model's own resize is antialiased.

    Returns:
        `[B, height, width, 3]`, 0–255, aspect ratio not kept: uint8, with `antialias` float32.
    """

    def resize():
        changed = tf.image.resize(images, image_size, method="bilinear", antialias=antialias)
        return changed if antialias else tf.cast(tf.round(changed), tf.uint8)

    def keep():
        # As large as it should be: nothing is copied.
        return tf.cast(images, tf.float32) if antialias else images

    same = tf.reduce_all(tf.shape(images)[1:3] == tf.constant(image_size))
    return tf.ensure_shape(tf.cond(same, keep, resize), (None, *image_size, 3))


def attended(model, images, locations=None):
    """The outputs of `attend`, for every model: without locations there are no boxes.

    Args:
        model: A model of the package.
        images: uint8 `[B, H, W, 3]` of the model's image size.
        locations: As in `attend`; None for the model's own.

    Returns:
        dict of tensors whose first axis is B; entry i (from 1) of a list `name` is `name_i`.
    """
    if hasattr(model, "attend"):
        return named_outputs(model.attend(images, locations=locations))
    logits = tf.cast(model(images, training=False), tf.float32)
    batch = tf.shape(logits)[0]
    return {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "boxes": tf.zeros([batch, 0, 4]),
        "levels": tf.zeros([batch, 0], tf.int32),
        "box_probabilities": tf.zeros([batch, 0]),
    }


def attended_until_sure(model, images, threshold, stages):
    """Looks at more places only where fewer leave a doubt.

    Every image is classified with the first number of locations; those whose most probable class
    is less probable than the threshold are classified anew with the next one, and so on.

    Args:
        model: A model of the package that has locations.
        images: `[B, H, W, 3]` of the model's image size.
        threshold: float32 `[B]`: 0 for the first stage only, more than 1 for the last one always.
        stages: Numbers of locations as in `attend`, with ever more places.

    Returns:
        dict: `probabilities` float32 `[B, C]`, `boxes` float32 `[B, T, 4]`, `box_probabilities`
        float32 `[B, T]` and `levels` int32 `[B, T]`, with the T places of the last stage and zeros
        where an image got an answer earlier; `stage` int32 `[B]`, from 0, which one gave it.
    """
    names = ("probabilities", "boxes", "box_probabilities", "levels")

    def stage(number, images, places):
        outputs = attended(model, images, stages[number])
        outputs = {name: outputs[name] for name in names}
        more = places - outputs["boxes"].shape[1]
        for name in names[1:]:
            rest = [[0, 0]] * (outputs[name].shape.rank - 2)
            outputs[name] = tf.pad(outputs[name], [[0, 0], [0, more], *rest])
        return {**outputs, "stage": tf.fill(tf.shape(outputs["levels"])[:1], number)}

    places = total_locations(stages[-1])
    outputs = stage(0, images, places)
    for number in range(1, len(stages)):
        sure = tf.reduce_max(outputs["probabilities"], axis=-1) >= threshold
        unsure = tf.where(~sure)

        def look_again(number=number, unsure=unsure, outputs=outputs):
            again = stage(number, tf.gather(images, unsure[:, 0]), places)
            return {
                name: tf.tensor_scatter_nd_update(value, unsure, again[name])
                for name, value in outputs.items()
            }

        def keep(outputs=outputs):
            return {name: tf.identity(value) for name, value in outputs.items()}

        outputs = tf.cond(tf.size(unsure) > 0, look_again, keep)
    return outputs


def portable_answers(model, images, locations=None):
    """What files for other programs answer, from operators that other programs have too.

    Args:
        model: A model of the package.
        images: uint8 or float `[B, H, W, 3]` of the model's image size, 0–255.
        locations: As in `attend`; None for the model's own.

    Returns:
        dict of tensors: `probabilities` float32 `[B, C]`; of models that attend `boxes` float32
        `[B, T, 4]`, `box_scores` float32 `[B, T]` and `levels` int32 `[B, T]`.
    """
    with lite_operators():
        outputs = attended(model, images, locations)
    answers = {"probabilities": outputs["probabilities"]}
    if outputs["boxes"].shape[1]:
        answers["boxes"] = outputs["boxes"]
        answers["box_scores"] = outputs["box_probabilities"]
        answers["levels"] = outputs["levels"]
    return answers


def named_outputs(outputs):
    """Flattens what `attend` returns into one dict of tensors, as a signature needs it.

    Args:
        outputs: dict of tensors and of lists of tensors.

    Returns:
        dict of tensors; entry i (from 1) of the list `name` is called `name_i`.
    """
    result = {}
    for name, value in outputs.items():
        if isinstance(value, (list, tuple)):
            result.update({f"{name}_{index}": item for index, item in enumerate(value, start=1)})
        else:
            result[name] = value
    return result


def answer(outputs, class_names, top, sizes, image_size):
    """What a client asks for: classes, confidence and where the model looked.

    Args:
        outputs: dict from `attended`.
        class_names: list of C str.
        top: int, k, how many classes are named.
        sizes: int32 `[B, 2]`, height and width of the images that were sent.
        image_size: (height, width) of the model's images, which `outputs` refers to.

    Returns:
        dict: `probabilities` float32 `[B, C]`; `labels` string `[B, k]` and `scores` float32
        `[B, k]`, the most probable classes, best first; `boxes` float32 `[B, T, 4]`, `(y0, x0, y1,
        x1)` in pixels of the upright image that was sent; `box_scores` float32 `[B, T]`, the
        probability of each chosen location; `levels` int32 `[B, T]`; `image_sizes` int32 `[B, 2]`.
    """
    probabilities = tf.cast(outputs["probabilities"], tf.float32)
    scores, best = tf.math.top_k(probabilities, top)
    return {
        "probabilities": probabilities,
        "labels": tf.gather(tf.constant(class_names), best),
        "scores": scores,
        "boxes": sent_boxes(outputs["boxes"], sizes, image_size),
        "box_scores": tf.cast(outputs["box_probabilities"], tf.float32),
        "levels": outputs["levels"],
        "image_sizes": sizes,
    }


def sent_boxes(boxes, sizes, image_size):
    """Boxes of the resized images in pixels of the images that were sent.

    Args:
        boxes: float32 `[B, T, 4]`.
        sizes: int32 `[B, 2]`, height and width of the images that were sent.
        image_size: (height, width) of the resized images.

    Returns:
        float32 `[B, T, 4]`.
    """
    scale = tf.cast(sizes, tf.float32) / tf.constant(image_size, tf.float32)
    return boxes * tf.concat([scale, scale], axis=-1)[:, None]


def with_status(outputs, status, fail):
    """Blanks the answers to images that could not be read, and adds the statuses.

    Args:
        outputs: dict of tensors whose first axis is B.
        status: int32 `[B]`, positions in `DECODE_STATUSES`.
        fail: Whether one bad image fails the whole request instead.

    Returns:
        dict: `outputs`, in which the rows of bad images are 0 (or the empty string); `status`.
    """
    if fail:
        message = "every image must be readable (status 0)"
        with tf.control_dependencies([tf.debugging.assert_equal(status, 0, message)]):
            status = tf.identity(status)
    good = tf.equal(status, 0)

    def blanked(value):
        shape = tf.concat([tf.shape(good), tf.ones([tf.rank(value) - 1], tf.int32)], axis=0)
        nothing = tf.constant("" if value.dtype == tf.string else 0, value.dtype)
        return tf.ensure_shape(tf.where(tf.reshape(good, shape), value, nothing), value.shape)

    return {name: blanked(value) for name, value in outputs.items()} | {"status": status}
