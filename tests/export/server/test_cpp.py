"""The loader of TensorFlow Serving itself, `tensorflow::LoadSavedModel`, in a C++ program."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.export.server.conftest import PatientClient, free_port, model_config, picture
from tests.export.server.test_serving import assert_same, by_row, keras_answers

SOURCE = pathlib.Path(__file__).with_name("load_and_run.cc")
DTYPES = {"float": np.float32, "int32": np.int32, "string": object}


@pytest.fixture(scope="session")
def load_and_run(tmp_path_factory):
    """The C++ program, built against the headers and libraries of the installed TensorFlow."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++ to build tests/export/server/load_and_run.cc")
    folder = pathlib.Path(tf.__file__).parent
    program = tmp_path_factory.mktemp("cpp") / "load_and_run"
    # Without --no-as-needed the linker leaves out what registers sessions: "No session factory".
    command = [
        compiler, "-O0", *tf.sysconfig.get_compile_flags(), str(SOURCE), "-o", str(program),
        f"-L{folder}", f"-Wl,-rpath,{folder}", "-Wl,--no-as-needed",
        "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return program


def run(program, *arguments):
    """The outputs that the program printed, as a dict of arrays."""
    # The library of TensorFlow is found by the path that was linked in; Python has no part in it.
    command = [str(argument) for argument in (program, *arguments)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PATH": os.defpath}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    outputs = {}
    for line in result.stdout.splitlines():
        name, dtype, shape, *values = line.split(" ")
        array = np.array(values, DTYPES[dtype])
        outputs[name] = array.reshape([int(side) for side in shape.split("x")])
    return outputs


@pytest.mark.parametrize("signature", ["classify_bytes", "attend"])
def test_bytes(load_and_run, exported, files, signature):
    model, folder = exported
    outputs = run(load_and_run, folder / "1", signature, "bytes", *files)
    assert_same(by_row(outputs), keras_answers(model, files))


def test_pixels(load_and_run, exported, files, tmp_path):
    model, folder = exported
    raw = tmp_path / "pixels"
    raw.write_bytes(picture(48, 48, 0).tobytes() * 2)
    outputs = run(load_and_run, folder / "1", "serving_default", "pixels", 48, 48, raw)
    assert_same(by_row(outputs), keras_answers(model, files[:1]) * 2)


def test_bad_bytes_do_not_stop_the_others(load_and_run, exported, files, tmp_path):
    model, folder = exported
    (tmp_path / "text").write_bytes(b"no image")
    contents = [tmp_path / "text", files[1]]
    outputs = run(load_and_run, folder / "1", "classify_bytes", "bytes", *contents)
    assert outputs["status"].tolist() == [3, 0]
    row = {key: value[1:] for key, value in outputs.items()}
    assert_same(by_row(row), keras_answers(model, files[1:2]))


@contextlib.contextmanager
def real_server(folder):
    """`tensorflow_model_server` on free ports; yields the gRPC and the REST address."""
    config = folder.parent / "models.config"
    config.write_text(model_config(folder))
    ports = free_port(), free_port()
    command = [
        "tensorflow_model_server", f"--port={ports[0]}", f"--rest_api_port={ports[1]}",
        f"--model_config_file={config}",
    ]  # fmt: skip
    if shutil.which(command[0]) is None:
        pytest.skip(f"tensorflow_model_server is not on the PATH; would have run: {command}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"localhost:{ports[0]}", f"http://localhost:{ports[1]}"
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.real_server
def test_the_real_server(exported, files):
    model, folder = exported
    expected = keras_answers(model, files)
    with real_server(folder) as addresses:
        for address in addresses:
            with PatientClient(address, "fruit") as client:
                answers = _patiently(client, files)
            assert_same(answers, expected)


def _patiently(client, files, tries=240):
    """Asks again while the server is starting."""
    for _ in range(tries):
        with contextlib.suppress(ConnectionError, ValueError):
            return client.classify(files)
        time.sleep(0.5)
    return client.classify(files)
