"""Where the signs of a scene stand: roadside and gantries in perspective, none before another."""

import math

from tnet_keras.datasets.traffic_signs.annotations import TRAFFIC_SIGN_CLASSES
from tnet_keras.datasets.traffic_signs.scenery import EYE
from tnet_keras.datasets.traffic_signs.signs import SIGNS

_NEAREST = 0.1  # Metre at the nearest sign, in parts of the image's height.
_TRIES = 40
_LIMITS = TRAFFIC_SIGN_CLASSES[1:]
#: Signs that a limit is mistaken for: other numbers, and other signs in red and yellow.
DECOYS = (
    "30_SIGN", "60_SIGN", "90_SIGN", "100_SIGN", "NO_VEHICLES", "NO_OVERTAKING", "NO_TURN",
)  # fmt: skip
_OTHERS = tuple(name for name in SIGNS if name not in _LIMITS)
_UNCLEAR = ("BLURRED", "SIDE_ROAD", "OCCLUDED")


def choose_signs(random, label, config):
    """Which signs a scene shows.

    Args:
        random: `np.random.Generator`.
        label: int, position in `TRAFFIC_SIGN_CLASSES`.
        config: `TrafficScenesConfig`.

    Returns:
        List of (name, visibility), most important first. Visible limits are all of the class;
        an empty scene has no 50, 70 or 80, however it looks.
    """
    chosen = []
    if label:
        name = TRAFFIC_SIGN_CLASSES[label]
        chosen.append((name, "VISIBLE"))
        if random.random() < config.twin_share:
            chosen.append((name, "VISIBLE"))
        if random.random() < config.unclear_share:
            name = _LIMITS[random.integers(len(_LIMITS))]
            chosen.append((name, _UNCLEAR[random.integers(len(_UNCLEAR))]))
    if random.random() < config.decoy_share:
        chosen.append((DECOYS[random.integers(len(DECOYS))], _visibility(random)))
    for _ in range(random.integers(config.num_others[0], config.num_others[1], endpoint=True)):
        chosen.append((_OTHERS[random.integers(len(_OTHERS))], _visibility(random)))
    return chosen


def _visibility(random):
    return "VISIBLE" if random.random() < 0.7 else _UNCLEAR[random.integers(len(_UNCLEAR))]


def place_signs(random, chosen, scenery, look, config):
    """Finds a place for each sign that no other covers; leaves out those for which there is none.

    Args:
        random: `np.random.Generator`.
        chosen: list of (name, visibility), as of `choose_signs`; the first is never left out.
        scenery: `Scenery`, where the road goes.
        look: dict, as of `Scenery.paint`.
        config: `TrafficScenesConfig`.

    Returns:
        List of dicts with `name`, `visibility`, `y`, `x`, `diameter`, `scale`, `mount`, `squeeze`
        as `ScenePainter.paint` takes them.
    """
    placed, kept = [], []
    for name, visibility in chosen:
        for last in range(_TRIES):
            sign = _propose(random, name, visibility, placed, scenery, look, config)
            inside, sign = _into_image(sign, config)
            room = _room(sign)
            if inside and not any(_meet(room, other) for other in kept):
                break
            if last == _TRIES - 1 and not placed:
                break  # The first one stands at the border, if need be.
        else:
            continue
        placed.append(sign)
        kept.append(room)
    return placed


def _propose(random, name, visibility, placed, scenery, look, config):
    """A sign at a place that is right for it, inside the image or not."""
    low, high = config.sign_diameter
    diameter = round(low * (high / low) ** random.random(), 2)
    # Signs are as large as this one at a tenth of the height per metre: 0.67 m by default.
    metre = high / (_NEAREST * config.height)
    squeeze = random.uniform(0.28, 0.45) if visibility == "SIDE_ROAD" else random.uniform(0.88, 1)
    sign = {"name": name, "visibility": visibility, "squeeze": squeeze, "mount": "post"}
    # Two signs on a post, as they often are; but never two numbers.
    posts = [one for one in placed if one["mount"] == "post" and one["visibility"] != "SIDE_ROAD"]
    if posts and visibility != "SIDE_ROAD" and random.random() < 0.25:
        post = posts[random.integers(len(posts))]
        if not (name.endswith("_SIGN") and post["name"].endswith("_SIGN")):
            shared = {key: post[key] for key in ("diameter", "scale", "x")}
            return sign | shared | {"y": post["y"] + 1.08 * post["diameter"]}
    scale = diameter / metre
    where = random.random()
    tall = random.uniform(1.8, 2.6) + metre / 2
    if visibility == "SIDE_ROAD":
        right = random.uniform(6.5, 9.5) if where < 0.6 else random.uniform(-12.0, -9.5)
    elif where < config.gantry_share and visibility != "OCCLUDED":  # No tree grows up there.
        right, tall = random.uniform(-4.0, 1.2), 5.6
        sign["mount"] = "gantry"
    elif where < config.gantry_share + 0.65 * (1 - config.gantry_share):
        right = random.uniform(3.3, 6.5)
    else:
        right = random.uniform(-9.0, -6.7)
    x = scenery.ground_column(look, scale, right)
    y = look["horizon"] + (EYE - tall) * scale
    return sign | {"diameter": diameter, "scale": scale, "x": x, "y": y}


def _into_image(sign, config):
    """Whether a sign keeps its distance from the border, and the sign, moved until it does."""
    half = sign["diameter"] / 2 + config.margin + 1
    x = min(max(sign["x"], half), config.width - half)
    y = min(max(sign["y"], half), config.height - half)
    inside = math.isclose(x, sign["x"]) and math.isclose(y, sign["y"])
    return inside, sign | {"x": round(x, 2), "y": round(y, 2)}


def _room(sign):
    """Box (y0, x0, y1, x1) that other signs must keep out of. Posts stand behind all signs."""
    reach = {"BLURRED": 0.75, "OCCLUDED": 1.0}.get(sign["visibility"], 0.53) * sign["diameter"]
    return sign["y"] - reach, sign["x"] - reach, sign["y"] + reach, sign["x"] + reach


def _meet(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
