"""Pictures of attention: where a model looked, how sure it was, and what it said."""

import warnings

import numpy as np
import tensorflow as tf

from tnet_keras.ops import resize_view

_RIGHT, _WRONG = "#1f9d55", "#d0312d"
# Boxes of level 2, 3, …: colours that differ in lightness too, and stand out on grey scenes.
_LEVEL_COLOURS = ("#ffb000", "#3aa8ff", "#e64fd0")
_PANEL_INCHES = 2.7
_MOST_LABELS = 5  # More boxes than that are drawn without their probabilities.


def draw_attention(
    images,
    outputs,
    labels,
    class_names,
    path,
    columns=4,
    true_boxes=None,
    base_resolution=None,
    grid=None,
):
    """Draws images with the boxes a model chose, and writes them to one PNG.

    Left of each example: the image, its chosen boxes with their probabilities (if there are few),
    and the true boxes, dotted, where they are known. Right: what the model saw first (the image at
    base resolution), and the probabilities of the first grid's cells. The title is green where the
    answer is right and red where it is wrong.

    Args:
        images: `[B, H, W, 3]`, uint8 or float, range 0–255.
        outputs: What `TNet.attend(images)` returned.
        labels: `[B]` integers, the true classes.
        class_names: Sequence of text, by class.
        path: PNG file to write; its folder must exist.
        columns: Examples per row.
        true_boxes: `[B, 4]` or `[B, M, 4]` boxes of the labelled objects in pixels, or None; boxes
            without an area are left out.
        base_resolution: `(height, width)` of the view the model sees first, pixels; None leaves the
            view out.
        grid: The model's `RegionGrid`, or (rows, columns) of its candidates; None for a square one,
            and for candidates that make no grid.

    Raises:
        ValueError: If `images`, `labels` and `outputs` are not equally many, there are none, or
            `columns` is less than 1, or `grid` has another number of cells.
    """
    # The object interface draws without a display and leaves the caller's pyplot state alone.
    from matplotlib.figure import Figure

    images = np.clip(np.rint(np.asarray(images)), 0, 255).astype(np.uint8)
    labels = np.asarray(labels).reshape(-1)
    arrays = {name: _arrays(value) for name, value in outputs.items()}
    if not len(images) or not len(images) == len(labels) == len(arrays["probabilities"]):
        raise ValueError(
            "`images`, `labels` and `outputs` must be equally many, at least one. Received: "
            f"{len(images)} images, {len(labels)} labels, {len(arrays['probabilities'])} outputs"
        )
    if columns < 1:
        raise ValueError(f"`columns` must be at least 1. Received: columns={columns}")
    views = None
    if base_resolution is not None:
        view = resize_view(tf.constant(images), tuple(base_resolution))
        views = np.clip(np.rint(np.asarray(view)), 0, 255).astype(np.uint8)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    grids = arrays["location_probabilities"]
    grid_shape = _grid_shape(grid, grids[0].shape[-1]) if grids else None
    side = views is not None or bool(grid_shape)
    height, width = images.shape[1:3]
    panel = (_PANEL_INCHES * width / height * (1.5 if side else 1.08), _PANEL_INCHES * 1.13)
    figure = Figure(
        figsize=(columns * panel[0], rows * panel[1] + 0.45), dpi=130, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.02, hspace=0.02)
    figure.suptitle(_caption(arrays, views, true_boxes), fontsize=9, x=0.01, ha="left")
    subfigures = np.atleast_1d(figure.subfigures(rows, columns)).ravel()
    for index, subfigure in enumerate(subfigures[: len(images)]):
        mosaic = [["image", "view"], ["image", "map"]] if side else [["image"]]
        axes = subfigure.subplot_mosaic(mosaic, width_ratios=[2.35, 1] if side else [1])
        for part in axes.values():
            part.set_axis_off()
            part.set_anchor("N")
        true_box = None if true_boxes is None else np.asarray(true_boxes)[index]
        _draw_image(axes["image"], images[index], arrays, index, true_box)
        if views is not None:
            axes["view"].imshow(views[index], interpolation="nearest")
            axes["view"].set_title("first look", fontsize=7, pad=2)
        if grid_shape:
            _draw_map(axes["map"], grids[0][index, 0].reshape(grid_shape))
        _draw_title(axes["image"], arrays["probabilities"][index], labels[index], class_names)
    with warnings.catch_warnings():
        # Names in scripts that the font lacks become boxes; the picture is good for all else.
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure.savefig(path, format="png")


def _arrays(value):
    return [np.asarray(item) for item in value] if isinstance(value, list) else np.asarray(value)


def _grid_shape(grid, cells):
    """(rows, columns) of the map of probabilities, or None where there is none."""
    if grid is None:
        side = round(cells**0.5)
        return (side, side) if side * side == cells else None
    rows, columns = grid if isinstance(grid, tuple) else (grid.rows, grid.cols)
    if rows * columns != cells:
        raise ValueError(
            f"`grid` must have as many cells as there are probabilities, {cells}. "
            f"Received: {rows} x {columns} cells"
        )
    return rows, columns


def _caption(arrays, views, true_boxes):
    parts = []
    if arrays["boxes"].shape[1]:
        labelled = arrays["boxes"].shape[1] <= _MOST_LABELS
        parts.append(f"solid: chosen boxes{' and their probabilities' if labelled else ''}")
    if true_boxes is not None:
        several = np.ndim(true_boxes) == 3
        parts.append(f"dotted: the true box{'es' if several else ''}")
    if views is not None:
        parts.append("first look: the image at base resolution")
    if arrays["location_probabilities"]:
        parts.append("policy: probabilities of the grid's cells, highest written out")
    return " · ".join(parts)


def _draw_image(axes, image, arrays, index, true_box):
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    axes.imshow(image, interpolation="nearest")
    boxes, levels = arrays["boxes"][index], arrays["levels"][index]
    probabilities = arrays["box_probabilities"][index]
    # The likeliest is drawn last, over the others, and bolder.
    order = np.argsort(probabilities)
    for box in order:
        y0, x0, y1, x1 = boxes[box]
        colour = _LEVEL_COLOURS[(int(levels[box]) - 2) % len(_LEVEL_COLOURS)]
        axes.add_patch(
            Rectangle(
                (x0 - 0.5, y0 - 0.5),
                x1 - x0,
                y1 - y0,
                fill=False,
                color=colour,
                linewidth=2.4 if box == order[-1] else 1.3,
            )
        )
        if len(boxes) > _MOST_LABELS:
            continue
        axes.text(
            max(x0, 0) + 0.02 * width,
            max(y0, 0) + 0.02 * height,
            f"{probabilities[box]:.2f}",
            fontsize=7,
            va="top",
            color="black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
        )
    for y0, x0, y1, x1 in () if true_box is None else np.reshape(true_box, (-1, 4)):
        if y1 <= y0 or x1 <= x0:
            continue
        axes.add_patch(
            Rectangle(
                (x0 - 2.5, y0 - 2.5),
                x1 - x0 + 4,
                y1 - y0 + 4,
                fill=False,
                color="white",
                linewidth=1.4,
                linestyle=(0, (1, 1.2)),
            )
        )
    # Cells reach into the grid's padding: a few pixels more than the image stay visible.
    reach = 0.015
    axes.set_xlim(-0.5 - reach * width, width - 0.5 + reach * width)
    axes.set_ylim(height - 0.5 + reach * height, -0.5 - reach * height)


def _draw_map(axes, probabilities):
    highest = probabilities.max()
    axes.imshow(probabilities, cmap="viridis", vmin=0.0, vmax=highest, interpolation="nearest")
    row, column = np.unravel_index(np.argmax(probabilities), probabilities.shape)
    text = f"{highest:.2f}".lstrip("0")
    axes.text(column, row, text, fontsize=6, ha="center", va="center", color="black")
    axes.set_title("policy", fontsize=7, pad=2)


def _draw_title(axes, probabilities, label, class_names):
    predicted = int(np.argmax(probabilities))
    right = predicted == int(label)
    longest = 18 if right else 12  # of two names

    def name(index):
        text = str(class_names[int(index)])
        return text if len(text) <= longest else text[: longest - 1] + "…"

    said = f"says {name(predicted)} ({100 * probabilities[predicted]:.0f} %)"
    axes.set_title(
        f"✓ {said}" if right else f"✗ {said}, is {name(label)}",
        fontsize=9.5,
        color=_RIGHT if right else _WRONG,
        fontweight="bold",
        loc="left",
        pad=4,
        parse_math=False,  # class names may hold dollar signs
    )


def draw_boxes(picture, boxes, levels, caption, path):
    """Draws one picture with the boxes a model chose, and writes it as a PNG of the same size.

    Args:
        picture: uint8 `[H, W, 3]`.
        boxes: `[T, 4]`, `(y0, x0, y1, x1)` in pixels of the picture, half-open.
        levels: `[T]` integers from 2, by which boxes are coloured.
        caption: Text for the upper left corner.
        path: PNG file to write; its folder must exist.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(np.asarray(picture))
    pen = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 300))
    for (y0, x0, y1, x1), level in zip(np.asarray(boxes), np.asarray(levels), strict=True):
        colour = _LEVEL_COLOURS[(int(level) - 2) % len(_LEVEL_COLOURS)]
        corners = (x0, y0, max(x0, x1 - 1), max(y0, y1 - 1))
        pen.rectangle(corners, outline=colour, width=line)
    font = ImageFont.load_default(max(10, round(max(image.size) / 40)))
    pen.rectangle(pen.textbbox((2, 2), caption, font=font), fill="black")
    pen.text((2, 2), caption, fill="white", font=font)
    image.save(path, format="PNG")
