"""What every test runs under: a quiet, seeded TensorFlow with two logical CPUs."""

import gc
import os
import pathlib

# All four are read when TensorFlow, CUDA or matplotlib is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # tolerances and bit-for-bit tests are for CPUs
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import hypothesis
import keras
import pytest
import tensorflow as tf

# Two logical CPUs, so that MirroredStrategy has two replicas to mirror; must precede TensorFlow's
# start. Everything else runs on CPU:0. One thread per operation keeps the order of floating-point
# sums fixed; two between operations, because mirrored replicas wait for each other.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(2)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# Same examples in every run, and no deadline: the first example pays for tracing.
hypothesis.settings.register_profile("tnet_keras", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tnet_keras")

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = REPOSITORY.parent / "shared" / "golden" / "tnet"


@pytest.fixture(autouse=True)
def fresh_keras():
    """Starts each test from seed 0, fresh layer names and float32, whatever the last one did."""
    keras.utils.clear_session(free_memory=False)  # without the collection it takes microseconds
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def freed_memory():
    """Frees the models of a test file when it is done; per test it would cost 0.1 s each."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def golden():
    """Folder of the numbers recorded from the original TNet, which a plain clone does not have."""
    if not GOLDEN.is_dir():
        pytest.skip("recorded numbers of the original TNet are absent: ../shared/golden/tnet")
    return GOLDEN


@pytest.fixture(scope="session")
def repository():
    """Root folder of the repository."""
    return REPOSITORY
