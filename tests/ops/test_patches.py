"""Patches against slices of the padded image, in every way that they can be run."""

import json
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tnet_keras.ops import extract_patches, resize_view

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (2, 13, 17, 3)).astype(np.uint8)
# One size, integer corners, up to 2 pixels outside.
BOXES = np.array(
    [
        [[0, 0, 5, 6], [8, 11, 13, 17], [9, 13, 14, 19]],
        [[-2, -1, 3, 5], [4, 4, 9, 10], [4, 5, 9, 11]],
    ],
    np.float32,
)
BOX_SIZE, MARGIN = (5, 6), 2
WAYS = pytest.mark.parametrize("box_size", [BOX_SIZE, None], ids=["slices", "taps"])
TOLERANCE = {"rtol": 1e-5, "atol": 2e-3}


def windows(images, boxes, bounds=None, pad_value=127.5):
    """The boxes' pixels by NumPy: slices of an image that is padded far on every side."""
    images, far = np.asarray(images, np.float32), 64
    padded = np.pad(images, [(0, 0), (far, far), (far, far), (0, 0)], constant_values=pad_value)
    for index in np.ndindex(*np.shape(boxes)[:2]):
        y0, x0, y1, x1 = np.asarray(boxes, int)[index]
        window = padded[index[0], y0 + far : y1 + far, x0 + far : x1 + far].copy()
        if bounds is not None:
            low_y, low_x, high_y, high_x = np.asarray(bounds)[index]
            y, x = np.mgrid[y0:y1, x0:x1]
            window[(y < low_y) | (y >= high_y) | (x < low_x) | (x >= high_x)] = pad_value
        yield window


def resized(images, boxes, size, **options):
    """What `extract_patches` has to give for integer corners."""
    patches = [tf.image.resize(window, size) for window in windows(images, boxes, **options)]
    return np.reshape(patches, (*np.shape(boxes)[:2], *size, np.shape(images)[-1]))


def cut(box_size, size=(4, 7), **options):
    """A function of images and boxes, the rest fixed."""

    def call(images, boxes):
        return extract_patches(images, boxes, size, box_size, margin=MARGIN, **options)

    return call


@st.composite
def scenes(draw, same_size):
    """Images, integer boxes, bounds, the boxes' common size (or None) and a margin."""
    height, width = draw(st.integers(1, 23)), draw(st.integers(1, 23))
    batch, count, margin = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(0, 4))
    box_size = tuple(draw(st.integers(1, side + 2 * margin)) for side in (height, width))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    low = [-margin, -margin]
    if same_size:
        high = np.add((height, width), margin) - box_size
        corners = random.integers(low, high, (batch, count, 2), endpoint=True)
        boxes = np.concatenate([corners, corners + box_size], axis=-1)
    else:
        corners = random.integers(-30, 30, (batch, count, 2))
        extents = random.integers(1, 30, (batch, count, 2))
        boxes = np.concatenate([corners, corners + extents], axis=-1)
    bounds = boxes + random.integers(-3, 4, boxes.shape) if draw(st.booleans()) else None
    dtype = draw(st.sampled_from([np.uint8, np.float32]))
    images = random.integers(0, 256, (batch, height, width, draw(st.sampled_from([1, 3]))))
    return images.astype(dtype), boxes, bounds, box_size, margin


sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=60)
@given(scene=scenes(same_size=True), size=sizes, pad_value=st.sampled_from([127.5, 0.0, -3.0]))
def test_boxes_of_one_size_are_resized_slices(scene, size, pad_value):
    images, boxes, bounds, box_size, margin = scene
    expected = resized(images, boxes, size, bounds=bounds, pad_value=pad_value)
    for way in (box_size, None):
        patches = extract_patches(images, boxes, size, way, bounds, margin, pad_value)
        assert patches.dtype == tf.float32
        np.testing.assert_allclose(patches, expected, **TOLERANCE)


@settings(max_examples=60)
@given(scene=scenes(same_size=False), size=sizes)
def test_boxes_of_any_size_and_place_are_resized_slices(scene, size):
    images, boxes, bounds, _, _ = scene
    patches = extract_patches(images, boxes, size, bounds=bounds)
    np.testing.assert_allclose(patches, resized(images, boxes, size, bounds=bounds), **TOLERANCE)


@WAYS
def test_patches_of_their_boxes_size_are_the_very_pixels(box_size):
    patches = cut(box_size, size=BOX_SIZE)(IMAGES, BOXES)
    np.testing.assert_array_equal(patches, resized(IMAGES, BOXES, BOX_SIZE))


@settings(max_examples=40)
@given(
    low=st.floats(0, 10, width=32), extent=st.floats(1, 15, width=32), length=st.integers(1, 12)
)
def test_corners_between_pixels(low, extent, length):
    """On a ramp a patch tells where it was read: half-pixel centres, never beyond its own box."""
    ramp = np.broadcast_to(np.arange(30, dtype=np.float32)[:, None, None], (1, 30, 1, 1))
    box = [[[low, 0.0, low + extent, 1.0]]]
    patch = extract_patches(ramp, box, (length, 1)).numpy().ravel()
    position = low + (np.arange(length) + 0.5) / length * extent - 0.5
    np.testing.assert_allclose(patch, np.clip(position, low, low + extent - 1), atol=1e-4)


@WAYS
def test_outside_is_mid_grey(box_size):
    boxes = np.array([[[-2, -2, 3, 4]]] * 2, np.float32)
    patches = cut(box_size, size=BOX_SIZE)(IMAGES, boxes).numpy()
    assert (patches[:, 0, :2] == 127.5).all() and (patches[:, 0, :, :2] == 127.5).all()
    np.testing.assert_array_equal(patches[:, 0, 2:, 2:], IMAGES[:, :3, :4])


@pytest.mark.parametrize("margin", [0, 2])
def test_boxes_beyond_the_margin_are_moved_back_to_it(margin):
    far = np.array([[[-9, 99, -4, 105], [99, -9, 104, -3]]] * 2, np.float32)
    low, high = -margin, np.array([13 - 5, 17 - 6]) + margin
    y0, x0 = [low, high[0]], [high[1], low]
    near = np.stack([y0, x0, np.add(y0, 5), np.add(x0, 6)], axis=-1)
    patches = extract_patches(IMAGES, far, (4, 7), BOX_SIZE, margin=margin)
    np.testing.assert_allclose(patches, resized(IMAGES, [near] * 2, (4, 7)), **TOLERANCE)


@WAYS
@pytest.mark.parametrize("batch", [0, 2])
def test_no_boxes_give_no_patches(box_size, batch):
    images, boxes = tf.constant(IMAGES[:batch]), tf.zeros([batch, 0, 4])
    assert cut(box_size)(images, boxes).shape == (batch, 0, 4, 7, 3)
    shapes = [tf.TensorSpec([None, 13, 17, 3], tf.uint8), tf.TensorSpec([None, None, 4])]
    graph = tf.function(cut(box_size), input_signature=shapes)
    assert graph(images, boxes).shape == (batch, 0, 4, 7, 3)
    assert graph(images, tf.constant(BOXES[:batch])).shape == (batch, 3, 4, 7, 3)


def test_empty_boxes_are_finite():
    patches = extract_patches(IMAGES, tf.zeros([2, 1, 4]), (4, 7))
    assert np.isfinite(patches).all()


@WAYS
@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16",
     "bfloat16", "float32", "float64"],
)  # fmt: skip
def test_every_numeric_dtype(box_size, dtype):
    images = tf.cast(IMAGES // 2, dtype)  # up to 127: every dtype holds it exactly
    patches = cut(box_size)(images, BOXES)
    np.testing.assert_allclose(patches, resized(IMAGES // 2, BOXES, (4, 7)), **TOLERANCE)
    inside = extract_patches(images, np.clip(BOXES, 0, 13), (4, 7), box_size)
    view = resize_view(images, (5, 4))
    assert patches.dtype == inside.dtype == view.dtype == tf.float32
    np.testing.assert_allclose(view, tf.image.resize(IMAGES // 2, (5, 4)), **TOLERANCE)


def in_tf_data(function):
    def call(*tensors):
        return next(iter(tf.data.Dataset.from_tensors(tensors).map(function)))

    return call


RUNS = {
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
    "tf.data": in_tf_data,
    "dynamic batch": lambda function: tf.function(
        function,
        input_signature=[tf.TensorSpec([None, 13, 17, 3], tf.uint8), tf.TensorSpec([None, 3, 4])],
    ),
    "dynamic count": lambda function: tf.function(
        function,
        input_signature=[tf.TensorSpec([2, 13, 17, 3], tf.uint8), tf.TensorSpec([2, None, 4])],
    ),
}


@WAYS
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("bounds", [None, [[[1, 1, 12, 14]] * 3] * 2], ids=["free", "bounds"])
def test_every_way_to_run_gives_the_eager_numbers(box_size, run, bounds):
    call = cut(box_size, bounds=bounds)
    eager = call(IMAGES, BOXES)
    np.testing.assert_allclose(eager, resized(IMAGES, BOXES, (4, 7), bounds=bounds), **TOLERANCE)
    ours = RUNS[run](call)(tf.constant(IMAGES), tf.constant(BOXES))
    np.testing.assert_allclose(ours, eager, rtol=1e-5, atol=1e-3)


def lite_interpreter(model):
    with warnings.catch_warnings():
        # TensorFlow 2.21 announces that this class moves to the package ai_edge_litert.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        return tf.lite.Interpreter(model_content=model, num_threads=1)


@WAYS
@pytest.mark.parametrize("batch", [2, None], ids=["static", "dynamic"])
def test_converts_to_tflite_with_built_in_operators(box_size, batch):
    shapes = [tf.TensorSpec([batch, 13, 17, 3], tf.uint8), tf.TensorSpec([batch, 3, 4])]
    graph = tf.function(cut(box_size), input_signature=shapes)
    concrete = graph.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], graph)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = lite_interpreter(converter.convert())
    inputs = {len(one["shape"]): one["index"] for one in interpreter.get_input_details()}
    tensors = {inputs[4]: IMAGES, inputs[3]: BOXES}
    for index, tensor in tensors.items():
        interpreter.resize_tensor_input(index, tensor.shape)
    interpreter.allocate_tensors()
    for index, tensor in tensors.items():
        interpreter.set_tensor(index, tensor)
    interpreter.invoke()
    patches = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(patches, resized(IMAGES, BOXES, (4, 7)), **TOLERANCE)


def gradients(box_size, images, boxes, weights, **options):
    """Gradients of the weighted sum of the patches with respect to images and boxes."""
    images, boxes = tf.cast(images, tf.float32), tf.constant(boxes, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch((images, boxes))
        patches = cut(box_size, size=weights.shape[2:4], **options)(images, boxes)
        loss = tf.reduce_sum(weights * patches)
    return tape.gradient(loss, (images, boxes))


@WAYS
def test_gradient_to_the_images_is_the_resizes_and_none_goes_to_the_boxes(box_size):
    weights = GENERATOR.normal(size=(2, 3, 4, 7, 3)).astype(np.float32)
    to_images, to_boxes = gradients(box_size, IMAGES, BOXES, weights)
    assert to_boxes is None
    images = tf.Variable(IMAGES.astype(np.float32))
    with tf.GradientTape() as tape:
        padded = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]])
        loss = 0.0
        for (b, t), weight in zip(np.ndindex(2, 3), weights.reshape(6, 4, 7, 3), strict=True):
            y0, x0, y1, x1 = BOXES[b, t].astype(int) + 2
            loss += tf.reduce_sum(weight * tf.image.resize(padded[b, y0:y1, x0:x1], (4, 7)))
    np.testing.assert_allclose(to_images, tape.gradient(loss, images), atol=1e-4)


@WAYS
def test_gradient_is_a_central_difference(box_size):
    """Patches are affine in the images, so that any step gives the slope exactly."""
    weights = GENERATOR.normal(size=(2, 3, 4, 7, 3)).astype(np.float32)
    step = GENERATOR.normal(size=IMAGES.shape).astype(np.float32)
    ahead, behind = (cut(box_size)(IMAGES + sign * step, BOXES) for sign in (1.0, -1.0))
    slope = np.sum(weights * (ahead - behind).numpy() / 2, dtype=np.float64)
    to_images, _ = gradients(box_size, IMAGES, BOXES, weights)
    assert np.sum(to_images * step, dtype=np.float64) == pytest.approx(slope, rel=1e-3)
    compiled = tf.function(
        lambda images: gradients(box_size, images, BOXES, weights)[0], jit_compile=True
    )
    np.testing.assert_allclose(compiled(tf.constant(IMAGES)), to_images, atol=1e-4)


@WAYS
@pytest.mark.parametrize("bounds", [None, [[[1, 1, 12, 14]] * 3] * 2], ids=["free", "bounds"])
def test_pixels_outside_the_boxes_are_never_read(box_size, bounds):
    looked_at = np.zeros(IMAGES.shape, bool)
    for (b, _), (y0, x0, y1, x1) in zip(
        np.ndindex(2, 3), BOXES.reshape(6, 4).astype(int), strict=True
    ):
        low, high_y, high_x = (0, 13, 17) if bounds is None else (1, 12, 14)
        looked_at[b, max(y0, low) : min(y1, high_y), max(x0, low) : min(x1, high_x)] = True
    poisoned = np.where(looked_at, IMAGES, np.nan).astype(np.float32)
    patches = cut(box_size, bounds=bounds)(poisoned, BOXES)
    np.testing.assert_array_equal(
        patches, cut(box_size, bounds=bounds)(IMAGES.astype(np.float32), BOXES)
    )
    weights = np.ones((2, 3, 4, 7, 3), np.float32)
    to_images, _ = gradients(box_size, poisoned, BOXES, weights, bounds=bounds)
    assert np.isfinite(to_images).all()
    assert (to_images.numpy()[~looked_at] == 0.0).all()
    assert (to_images.numpy()[looked_at] > 0.0).any()


@WAYS
@pytest.mark.parametrize("size", [(20, 20), (9, 9)])
def test_only_chosen_pixels_become_floats(box_size, size):
    """2 of 25 boxes: nothing in the program to compile is as large as a float image."""
    box_size = box_size and (20, 20)
    compiled = tf.function(
        lambda images, boxes: extract_patches(images, boxes, size, box_size, margin=1),
        jit_compile=True,
    )
    images = tf.zeros([1, 60, 62, 3], tf.uint8)
    boxes = tf.constant([[[0.0, 0.0, 20.0, 20.0], [30.0, 40.0, 50.0, 60.0]]])
    program = compiled.experimental_get_compiler_ir(images, boxes)(stage="hlo")
    elements = {}
    for dtype, shape in re.findall(r"\b([a-z]+\d*)\[([\d,]+)\]", program):
        count = np.prod([int(side) for side in shape.split(",")])
        elements[dtype] = max(elements.get(dtype, 0), count)
    assert max(elements.values()) == elements["u8"] <= 62 * 64 * 3  # the image with its margin
    # The chosen pixels are 2,400 numbers, and XLA's way to resize spaces them out a little; the
    # image is 11,160 and all 25 crops are 30,000.
    assert 2 * size[0] * size[1] * 3 <= elements["f32"] <= 2 * 2400


def test_resizing_gives_the_numbers_recorded_from_the_original(golden):
    records = json.loads((golden / "geometry.json").read_text())["bilinear_resize"]
    for record in records:
        images = np.array(record["input"], np.uint8)[None, :, :, None]
        view = resize_view(images, record["output_size"])
        np.testing.assert_allclose(view[0, :, :, 0], record["output"], rtol=1e-6, atol=1e-5)
        box = [[[0, 0, *images.shape[1:3]]]]
        for box_size in (images.shape[1:3], None):
            patch = extract_patches(images, box, record["output_size"], box_size)
            np.testing.assert_allclose(patch[0, 0, :, :, 0], record["output"], **TOLERANCE)
    assert len(records) == 7


@pytest.mark.parametrize(
    ("line", "length", "expected"),
    [
        ([3, 7, 9], 3, [3, 7, 9]),
        ([0, 10], 4, [0, 2.5, 7.5, 10]),
        ([1, 3, 5, 11], 2, [2, 8]),
        # At ratio 4 the inner two of four are read, so 0 and 200 are not.
        ([0, 10, 30, 200, 200, 50, 50, 0], 2, [20, 50]),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resizing_is_bilinear_with_half_pixel_centres_and_no_antialias(
    line, length, expected, dtype
):
    image = np.array(line, dtype)
    column = resize_view(image[None, :, None, None], (length, 1))
    row = resize_view(image[None, None, :, None], (1, length))
    assert column.dtype == row.dtype == tf.float32
    np.testing.assert_allclose(column.numpy().ravel(), expected, atol=1e-5)
    np.testing.assert_allclose(row.numpy().ravel(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": IMAGES[0]}, r"`images` must be \[B, H, W, C\]\. Received: images\.shape="),
        ({"boxes": BOXES[0]}, r"`boxes` must be \[B, T, 4\] of \(y0, x0, y1, x1\)\. Received"),
        ({"boxes": BOXES[..., :3]}, r"`boxes` must be \[B, T, 4\]\. Received: boxes\.shape="),
        ({"bounds": BOXES[0]}, r"`bounds` must be \[B, T, 4\] of \(y0, x0, y1, x1\)\. Received"),
        ({"bounds": BOXES[..., :3]}, r"`bounds` must be \[B, T, 4\]\. Received: bounds\.shape="),
        ({"size": 4}, r"`size` must be two positive integers .*Received: size=4"),
        ({"size": (4, 0)}, r"`size` must be two positive integers .*Received: size=\(4, 0\)"),
        ({"size": (4.5, 3)}, r"`size` must be two positive integers .*Received: size=\(4\.5, 3\)"),
        ({"size": (4, 4, 3)}, r"`size` must be two positive integers .*Received: size="),
        ({"box_size": (5, -6)}, r"`box_size` must be two positive .*Received: box_size=\(5, -6\)"),
        ({"box_size": (18, 6)}, r"`box_size` must fit .*Received: box_size=\(18, 6\), margin=2"),
        ({"box_size": (5, 22)}, r"`box_size` must fit .*Received: box_size=\(5, 22\), margin=2"),
        ({"margin": -1}, r"`margin` must be an integer of at least 0\. Received: margin=-1"),
        ({"margin": 0.5}, r"`margin` must be an integer of at least 0\. Received: margin=0\.5"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    arguments = {"images": IMAGES, "boxes": BOXES, "size": (4, 7), "box_size": BOX_SIZE,
                 "margin": MARGIN} | changed  # fmt: skip
    with pytest.raises(ValueError, match=message):
        extract_patches(**arguments)


@pytest.mark.parametrize("shape", [[2, None, 17, 3], [2, 13, None, 3]])
def test_images_without_a_static_size_are_named(shape):
    graph = tf.function(cut(None), input_signature=[tf.TensorSpec(shape), tf.TensorSpec([2, 3, 4])])
    with pytest.raises(ValueError, match="`images` must have a static height and width. Received"):
        graph.get_concrete_function()


def test_wrong_arguments_of_a_view_are_named():
    with pytest.raises(ValueError, match=r"`images` must be \[B, H, W, C\]\. Received"):
        resize_view(IMAGES[0], (4, 7))
    with pytest.raises(ValueError, match=r"`size` must be two positive integers .*size=\(4,\)"):
        resize_view(IMAGES, (4,))
