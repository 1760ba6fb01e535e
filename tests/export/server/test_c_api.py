"""The C API, as other languages bind it: the model's numbers without TensorFlow's Python."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from tests.export.server.conftest import picture
from tests.export.server.servables import signature_defs

SCRIPT = pathlib.Path(__file__).with_name("c_api.py")


def test_pixels(exported):
    model, folder = exported
    definition = signature_defs(folder / "1")["serving_default"]
    request = {
        "input": definition.inputs["images"].name,
        "outputs": {name: one.name for name, one in definition.outputs.items() if name != "labels"},
        "pixels": np.stack([picture(48, 48, 0), picture(48, 48, 1)]).tolist(),
    }
    library = pathlib.Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(library), str(folder / "1")],
        input=json.dumps(request), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    answer = json.loads(result.stdout)
    expected = model.attend(np.array(request["pixels"], np.uint8))
    assert answer["status"] == [0, 0]
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(answer["boxes"], expected["boxes"], atol=1e-4)
    np.testing.assert_array_equal(answer["levels"], expected["levels"])
