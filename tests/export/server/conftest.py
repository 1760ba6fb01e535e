"""One small model, served by the stand-in for TensorFlow Serving, and some files."""

import functools
import io
import socket

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra `serving`")

from tests.export.server.stand_in import StandIn  # noqa: E402
from tnet_keras.backbones import Backbone  # noqa: E402
from tnet_keras.export import export_for_serving  # noqa: E402
from tnet_keras.export.client import ServingClient  # noqa: E402
from tnet_keras.geometry import RegionGrid  # noqa: E402
from tnet_keras.models import TNet  # noqa: E402

NAMES = ["apple", "pear", "plum", "quince"]
# No test is about how fast a busy machine answers.
PatientClient = functools.partial(ServingClient, timeout=600)


def small_tnet():
    """A TNet of two levels for 48x48 images."""
    options = {"filters": [4, 6], "strides": [2, 2]}
    backbone = Backbone("convnet", input_shape=(16, 16, 3), options=options)
    return TNet(backbone, 4, grid=RegionGrid(3, 3, 0.5), image_size=(48, 48), locations=(2,))


def model_config(folder, name="fruit", policy=""):
    """Text of a model config file for one model."""
    return (
        f"model_config_list {{ config {{ name: '{name}' base_path: '{folder}' "
        f"model_platform: 'tensorflow' {policy} }} }}"
    )


def free_port():
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def picture(height, width, seed=0):
    """uint8 [height, width, 3], blobs that are not alike."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 6, 3), np.uint8)
    return np.array(PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.BICUBIC))


def as_file(pixels, kind="PNG"):
    """The bytes of an image file."""
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The model and the folder it is served from, with warm-up requests for batches of 1 and 2."""
    model = small_tnet()
    folder = tmp_path_factory.mktemp("serving") / "fruit"
    export_for_serving(
        model, folder, class_names=NAMES, top=3, locations=[(1,)], warmup=(1, 2),
        adaptive=[(), (2,)],
    )  # fmt: skip
    return model, folder


@pytest.fixture(scope="session")
def server(exported):
    """The stand-in with the model under the name `fruit`."""
    with StandIn(model_config(exported[1])) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Paths of three images of mixed sizes and kinds, the first of the model's own size."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for number, (height, width, kind) in enumerate(
        [(48, 48, "PNG"), (96, 60, "JPEG"), (31, 77, "WEBP")]
    ):
        path = folder / f"{number}.{kind.lower()}"
        path.write_bytes(as_file(picture(height, width, number), kind))
        paths.append(path)
    return paths
