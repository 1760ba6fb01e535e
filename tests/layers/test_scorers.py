"""Scorers of patch selection: sizes, parameters, what a score sees and the order of the scores."""

import numpy as np
import pytest
import tensorflow as tf

from tnet_keras.geometry import NTS_ANCHORS
from tnet_keras.layers import ConvScorer, RegionProposalScorer

MAP = (14, 14)


def with_random_weights(layer, shape, low=-0.5, high=0.5):
    """Returns the layer, built for a batch of `shape`, with weights drawn from [low, high]."""
    layer.build((None, *shape))
    random = np.random.default_rng(2)
    layer.set_weights([random.uniform(low, high, value.shape) for value in layer.get_weights()])
    return layer


def views(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gated(gate, means):
    """Squeeze-and-excite in NumPy: two layers without bias."""
    squeeze, excite = gate.get_weights()
    return sigmoid(np.maximum(means @ squeeze, 0) @ excite)


def valid_convolution(layer, x):
    """A valid 3x3 convolution in NumPy."""
    kernel, bias = layer.get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.einsum("brcidj,djio->brco", windows, kernel) + bias


@pytest.mark.parametrize(("squeeze_excite", "parameters"), [(False, 6_321), (True, 6_481)])
def test_conv_scorer_has_the_parameters_of_the_original(squeeze_excite, parameters):
    scorer = ConvScorer(squeeze_excite=squeeze_excite)
    scorer.build((None, 32, 32, 3))
    assert scorer.count_params() == parameters


@pytest.mark.parametrize(
    ("view", "size"),
    [((250, 250), (30, 30)), ((320, 426), (39, 52)), ((16, 16), (1, 1)), ((23, 24), (1, 2))],
)
def test_conv_scorer_sizes(view, size):
    scorer = ConvScorer()
    scores = scorer(views(2, *view, 3))
    assert scores.shape == (2, *size) and scores.dtype == tf.float32
    assert scorer.compute_output_shape((None, *view, 3)) == (None, *size)


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_conv_scorer_is_the_formula(squeeze_excite):
    scorer = ConvScorer(filters=(3, 4, 5), squeeze_excite=squeeze_excite, reduction=2)
    scorer = with_random_weights(scorer, (32, 25, 3))
    batch = views(2, 32, 25, 3)
    x = batch.astype("float64")
    for index, layer in enumerate(scorer.convolutions, start=1):
        x = valid_convolution(layer, x)
        if index < 4:
            x = np.maximum(x, 0)
        if squeeze_excite and index in (2, 3):
            gate = getattr(scorer, f"gate{index}")
            x = x * gated(gate, x.mean(axis=(1, 2)))[:, None, None]
    assert x.shape == (2, 24, 17, 1)
    expected = x[:, :, :16, 0].reshape(2, 3, 8, 2, 8).max(axis=(2, 4))
    np.testing.assert_allclose(scorer(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "pixel", [(0, 0), (7, 8), (15, 16), (16, 23), (24, 15), (31, 39), (32, 31), (38, 40)]
)
def test_a_score_sees_16_pixels_and_the_next_begins_8_further(pixel):
    """With positive weights a bright pixel raises every score that it can reach at all."""
    scorer = with_random_weights(ConvScorer(), (39, 41, 3), low=0.01, high=0.1)
    view = np.ones((1, 39, 41, 3), "float32")
    before = scorer(view).numpy()
    view[0, *pixel] += 1000
    changed = scorer(view).numpy()[0] > 1.01 * before[0]
    reached = [
        [all(8 * i <= p <= 8 * i + 15 for i, p in zip((row, col), pixel, strict=True))
         for col in range(4)]
        for row in range(3)
    ]  # fmt: skip
    np.testing.assert_array_equal(changed, reached)


@pytest.mark.parametrize("pixel", [(16, 16), (38, 5)])
def test_the_gate_sees_the_whole_view(pixel):
    scorer = with_random_weights(ConvScorer(squeeze_excite=True), (39, 41, 3), low=0.01, high=0.1)
    view = np.full((1, 39, 41, 3), 0.01, "float32")
    before = scorer(view).numpy()
    # Enough to move the gates, not so much that a sigmoid saturates before and after.
    view[0, *pixel] += 10
    assert (scorer(view).numpy() != before).all()


@pytest.mark.parametrize("view", [(15, 40), (40, 15), (8, 8)])
def test_conv_scorer_needs_its_receptive_field(view):
    with pytest.raises(ValueError, match=r"receptive field of 16 pixels.*Received: view_size="):
        ConvScorer()(views(1, *view, 3))


def test_conv_scorer_needs_views():
    with pytest.raises(ValueError, match=r"A scorer takes views \[B, h, w, C\]. Received: shape="):
        ConvScorer()(views(40, 40, 3))


@pytest.mark.parametrize(("squeeze_excite", "parameters"), [(False, 2_657_301), (True, 2_665_493)])
def test_proposal_net_has_the_parameters_of_the_original(squeeze_excite, parameters):
    scorer = RegionProposalScorer(squeeze_excite=squeeze_excite)
    scorer.build((None, *MAP, 2048))
    assert scorer.count_params() == parameters


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_proposal_net_scores_1614_anchors(squeeze_excite):
    scorer = RegionProposalScorer(filters=4, squeeze_excite=squeeze_excite, gate_hidden=2)
    scores = scorer(views(2, *MAP, 6))
    assert scores.shape == (2, 1614) and scores.dtype == tf.float32
    assert scorer.compute_output_shape((None, *MAP, 6)) == (None, 1614)
    assert [head.kernel.shape[-1] for head in scorer.heads] == [6, 6, 9]
    counts = [196] * 6 + [49] * 6 + [16] * 9
    assert sum(counts) == 1614
    assert [len(boxes) for level in NTS_ANCHORS for boxes in level.anchor_boxes()] == counts


def recognisable_scorer():
    """Returns a scorer whose score is 10,000 · level + 1,000 · type + value of the map.

    Each convolution passes the one channel through by a single tap, the one that lies on input
    row 2i and column 2j of output (i, j).
    """
    scorer = RegionProposalScorer(filters=1)
    scorer.build((None, *MAP, 1))
    # Stride 2 from 14 to 7 pads behind only, so its first tap; from 7 to 4 on both sides.
    for layer, tap in zip(scorer.down, (1, 0, 1), strict=True):
        kernel = np.zeros((3, 3, 1, 1))
        kernel[tap, tap] = 1
        layer.set_weights([kernel, np.zeros(1)])
    for level, head in enumerate(scorer.heads):
        types = head.kernel.shape[-1]
        head.set_weights([np.ones((1, 1, 1, types)), 10_000 * level + 1_000 * np.arange(types)])
    return scorer


def test_order_of_the_scores():
    """Level by level, in each type by type, in each row-major."""
    cells = np.arange(196, dtype="float32").reshape(1, *MAP, 1)
    scores = recognisable_scorer()(cells).numpy()[0]
    expected = [
        10_000 * level + 1_000 * kind + 14 * row * step + col * step
        for level, (side, kinds, step) in enumerate([(14, 6, 1), (7, 6, 2), (4, 9, 4)])
        for kind in range(kinds)
        for row in range(side)
        for col in range(side)
    ]
    np.testing.assert_array_equal(scores, expected)


def test_scores_are_in_the_order_of_the_anchor_boxes():
    """The centre of an anchor lies in the cell of the map that its score comes from."""
    cells = np.arange(196, dtype="float32").reshape(1, *MAP, 1)
    values = recognisable_scorer()(cells).numpy()[0] % 1_000
    boxes, strides = [], []
    for level in NTS_ANCHORS:
        for kind in level.anchor_boxes():
            boxes.append(kind)
            strides.append(np.full(len(kind), level.stride))
    boxes, strides = np.concatenate(boxes), np.concatenate(strides)[:, None]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    # An anchor is centred on its stride x stride block, up to rounding; the score's tap is the
    # block's first cell of 32 pixels.
    first = np.round((centres - strides / 2) / 32)
    np.testing.assert_array_equal(values, first @ [14, 1])


def test_the_gate_is_joint_over_the_three_maps():
    batch = views(2, *MAP, 6)
    scorer = RegionProposalScorer(filters=4, squeeze_excite=True, gate_hidden=3)
    scorer = with_random_weights(scorer, batch.shape[1:])
    maps, x = [], batch
    for layer in scorer.down:
        x = layer(x).numpy()
        maps.append(x)
    positions = np.concatenate([x.reshape(2, -1, 4) for x in maps], axis=1)
    assert [x.shape[1] for x in maps] == [14, 7, 4] and positions.shape[1] == 261
    gate = gated(scorer.gate, positions.mean(axis=1))[:, None, None]
    expected = []
    for head, x in zip(scorer.heads, maps, strict=True):
        kernel, bias = head.get_weights()
        scores = (x * gate) @ kernel[0, 0] + bias
        expected.append(scores.transpose(0, 3, 1, 2).reshape(2, -1))
    np.testing.assert_allclose(scorer(batch), np.hstack(expected), rtol=1e-4, atol=1e-4)
    # Without the gate the same weights score differently.
    plain = RegionProposalScorer(filters=4)
    plain.build(batch.shape)
    plain.set_weights(scorer.get_weights()[: len(plain.get_weights())])
    assert scorer.gate.get_weights()[0].shape == (4, 3)
    assert np.abs(plain(batch) - scorer(batch)).max() > 1e-3


def test_proposal_net_is_rectified():
    """Nothing but the biases of the heads is left of a map that the first layer sets to zero."""
    scorer = RegionProposalScorer(filters=1)
    scorer = with_random_weights(scorer, (*MAP, 1), low=0.1, high=0.5)
    scorer.down[0].set_weights([-np.ones((3, 3, 1, 1)), np.zeros(1)])
    for layer in scorer.down[1:]:
        layer.bias.assign([0.0])
    scores = scorer(np.ones((1, *MAP, 1), "float32")).numpy()[0]
    biases = [head.get_weights()[1] for head in scorer.heads]
    expected = [np.repeat(b, side**2) for b, side in zip(biases, (14, 7, 4), strict=True)]
    np.testing.assert_allclose(scores, np.concatenate(expected), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 7, 7, 6), (2, 14, 13, 6), (14, 14, 6)])
def test_proposal_net_needs_a_map_of_14_by_14(shape):
    with pytest.raises(ValueError, match=r"takes maps \[B, 14, 14, C\]. Received: shape="):
        RegionProposalScorer(filters=2)(views(*shape))


@pytest.mark.parametrize(
    ("scorer", "shape"),
    [
        (lambda: ConvScorer(squeeze_excite=True, dtype="mixed_float16"), (32, 40, 3)),
        (
            lambda: RegionProposalScorer(filters=4, squeeze_excite=True, dtype="mixed_float16"),
            (*MAP, 3),
        ),
    ],
)
def test_scores_are_float32_under_mixed_precision(scorer, shape):
    layer = scorer()
    scores = layer(views(2, *shape).astype("float16"))
    assert layer.compute_dtype == "float16" and scores.dtype == tf.float32
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("scorer", "shape"),
    [
        (lambda: ConvScorer(filters=(3, 4), squeeze_excite=True), (32, 40, 3)),
        (lambda: RegionProposalScorer(filters=4, squeeze_excite=True), (*MAP, 3)),
    ],
)
def test_every_variable_gets_a_gradient(scorer, shape):
    layer = with_random_weights(scorer(), shape, low=0.01, high=0.1)
    batch = np.abs(views(2, *shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch) ** 2)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert gradients and all(np.abs(gradient).max() > 0 for gradient in gradients)
