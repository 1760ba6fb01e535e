"""One worker of `test_distributed_loop.py`, in a process of its own: trains a small TNet.

    python -m tests.training.worker FOLDER

TF_CONFIG says who it is; without it the process is alone and takes the whole batches. Its weights
and what its callbacks saw go to FOLDER.
"""

import json
import os
import pathlib
import sys

import numpy as np
import tensorflow as tf


def main(folder):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    from tests.models.small_models import DETERMINISTIC, batch, own_backbone, tnet
    from tnet_keras import training

    alone = "TF_CONFIG" not in os.environ
    strategy = training.make_strategy("one_device" if alone else "multi_worker")
    index = 0 if alone else strategy.cluster_resolver.task_id
    with strategy.scope():
        model = tnet(own_backbone(), **DETERMINISTIC)
        # Every process has its own names, so its own starting weights: broadcast makes them alike.
        random = np.random.default_rng(0)
        model.set_weights([random.normal(0, 0.3, w.shape).astype(w.dtype) for w in model.weights])
        model.baseline.assign(0.5)
        model.compile(training.make_optimizer("sgd", 0.1, 6, weight_decay=0.01))
    images, labels = batch(24)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8, drop_remainder=True)
    workdir = folder / "run"
    workdir.mkdir(exist_ok=True)
    result = training.fit(
        model, data.repeat(), 2, 3, workdir, data.take(2), checkpoint_steps=2, verbose=0
    )
    np.savez(folder / f"weights{index}.npz", *[w.numpy() for w in model.weights])
    (folder / f"history{index}.json").write_text(json.dumps(result.history))
    # Every worker finds its way back from what the chief wrote.
    progress = training.restore(model, workdir)
    assert (progress["epochs"], progress["step"]) == (2, 0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
