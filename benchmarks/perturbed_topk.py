"""Perturbed Top-K against straightforward versions of it that keep every sample as a one-hot row.

Forward and backward pass with either gradient, the whole Jacobian product (`full`) and what the
paper's authors released (`diagonal`), all taking turns in one process, so that a drift of the
machine's speed hits all of them:

* `ours`: `tnet_keras.ops.perturbed_top_k`,
* `one_hot`: TensorFlow, a dense `[B, samples, K, N]` and the equation as an `einsum`, summed in the
  cheapest order, see below,
* `jacobian`: the same as the paper has it: first the Jacobian, then its product with the gradient,
* `torch`: `one_hot` in PyTorch, where that is installed (it is no dependency of this package).

    python benchmarks/perturbed_topk.py            # table, ratios, and one CSV

A second case has the size of the traffic sign images, 39 x 52 candidates, for `ours` only: one-hot
rows would take 649 MB. Memory is that of a fresh process each: peak resident memory during the
first call less the resident memory before it, after a call on one image. Timings depend on the
machine; the ratios are the usable part.
"""

import csv
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
import tensorflow as tf
from absl import app, flags

from tnet_keras.ops import normalize_scores, perturbed_top_k

_WARM_UP = flags.DEFINE_integer("warm_up", 5, "Calls before timing.", lower_bound=1)
_RUNS = flags.DEFINE_integer("runs", 12, "Turns of each implementation.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "benchmarks/results", "Folder of the CSV file.")
_MEMORY_OF = flags.DEFINE_string("memory_of", None, "Only run this one, print its extra memory.")
_CASE = flags.DEFINE_string("case", "small", "With --memory_of: the case.")

SIGMA, SAMPLES = 0.05, 500
_CALLS = 4  # timed in a turn
# Batch, candidates and k of each case, and what is measured in it: implementation and gradient.
CASES = {
    "small": (
        (16, 192, 10),
        ("ours full", "one_hot full", "jacobian full", "torch full")
        + ("ours diagonal", "one_hot diagonal", "torch diagonal"),
    ),
    "traffic": ((32, 2028, 5), ("ours full", "ours diagonal")),
}
# Upstream gradients `bkn`, one-hot rows `bskn` and noise `bsn` or `bsm` → the scores' gradient.
# The first is the cheapest order for the product, the second goes by the whole Jacobian `bknm`, the
# third is what the authors' release computes.
EQUATIONS = {
    "full": ("bskn,bkn->bs", "bs,bsm->bm"),
    "jacobian": ("bskn,bsm->bknm", "bknm,bkn->bm"),
    "diagonal": ("bskn,bsn->bkn", "bkn,bkn->bn"),
}


def one_hot_gradient(einsum, mode, rows, noise, upstream):
    """The scores' gradient from one-hot rows, with the `einsum` of either library."""
    first, second = EQUATIONS[mode]
    if mode == "full":
        return einsum(second, einsum(first, rows, upstream), noise) / (SAMPLES * SIGMA)
    return einsum(second, einsum(first, rows, noise), upstream) / (SAMPLES * SIGMA)


def ours(candidates, k, mode):
    """Scores and upstream gradients → indicators and the scores' gradient, by our op."""
    return compiled(
        lambda scores: perturbed_top_k(scores, k, SIGMA, SAMPLES, mode=mode), candidates, k
    )


def jacobian(candidates, k, mode):
    """`one_hot`, with the Jacobian as a tensor."""
    del mode  # "full" only
    return one_hot(candidates, k, "jacobian")


def one_hot(candidates, k, mode):
    """The same, as one would write it down: every sample a one-hot row, kept for the gradient."""

    @tf.custom_gradient
    def top_k(scores):
        noise = tf.random.normal([tf.shape(scores)[0], SAMPLES, candidates])
        indices = tf.math.top_k(scores[:, None] + SIGMA * noise, k, sorted=False).indices
        rows = tf.one_hot(tf.sort(indices, axis=-1), candidates)
        return tf.reduce_mean(rows, axis=1), lambda upstream: one_hot_gradient(
            tf.einsum, mode, rows, noise, upstream
        )

    return compiled(top_k, candidates, k)


def compiled(top_k, candidates, k):
    """A graph for any batch: the call on one image traces it for the large batch too."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, candidates]), tf.TensorSpec([None, k, candidates])]
    )
    def step(scores, upstream):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            indicators = top_k(scores)
        return indicators, tape.gradient(indicators, scores, upstream)

    return lambda scores, upstream: [x.numpy() for x in step(scores, upstream)]


def torch_one_hot(candidates, k, mode):
    """The same as `one_hot`, in PyTorch."""
    import torch

    torch.set_num_threads(int(os.environ["TF_NUM_INTRAOP_THREADS"]))

    class TopK(torch.autograd.Function):
        @staticmethod
        def forward(context, scores):
            noise = torch.randn(len(scores), SAMPLES, candidates)
            indices = torch.topk(scores[:, None] + SIGMA * noise, k, sorted=False).indices
            indices = torch.sort(indices, dim=-1).values
            rows = torch.nn.functional.one_hot(indices, candidates).float()
            context.save_for_backward(rows, noise)
            return rows.mean(dim=1)

        @staticmethod
        def backward(context, upstream):
            return one_hot_gradient(torch.einsum, mode, *context.saved_tensors, upstream)

    def step(scores, upstream):
        scores = torch.tensor(np.asarray(scores), requires_grad=True)
        indicators = TopK.apply(scores)
        indicators.backward(torch.tensor(np.asarray(upstream)))
        return indicators.detach(), scores.grad

    return step


def build(name, candidates, k):
    """The step function of a name like "ours full"."""
    implementation, mode = name.split()
    builders = {"ours": ours, "one_hot": one_hot, "jacobian": jacobian, "torch": torch_one_hot}
    return builders[implementation](candidates, k, mode)


def prepare(case):
    """Names of what can run here, their arguments and the sizes of a case."""
    (batch, candidates, k), names = CASES[case]
    if importlib.util.find_spec("torch") is None:
        names = [name for name in names if not name.startswith("torch")]
    random = np.random.default_rng(0)
    scores = normalize_scores(random.standard_normal((batch, candidates)).astype(np.float32))
    upstream = tf.constant(random.standard_normal((batch, k, candidates)), tf.float32)
    return names, (scores, upstream), (batch, candidates, k)


def measure(case):
    """Milliseconds of every call, by implementation, the implementations taking turns.

    A turn is a call that is not timed and four that are, as a training calls its own op only: what
    another implementation left in the caches and in the allocator is not counted.
    """
    names, arguments, (_, candidates, k) = prepare(case)
    steps = {name: build(name, candidates, k) for name in names}
    for step in steps.values():
        for _ in range(_WARM_UP.value):
            step(*arguments)
    times = {name: [] for name in names}
    for _ in range(_RUNS.value):
        for name, step in steps.items():
            step(*arguments)
            for _ in range(_CALLS):
                start = time.perf_counter()
                step(*arguments)
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def resident_megabytes(field):
    """A field of this process's memory, "VmRSS" (now) or "VmHWM" (peak); Linux only."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(dict(line.split(":", 1) for line in status.splitlines())[field].split()[0]) / 1024


def own_extra_megabytes(name, case):
    """Extra peak memory of one implementation's first call in this process."""
    _, (scores, upstream), (_, candidates, k) = prepare(case)
    step = build(name, candidates, k)
    step(scores[:1], upstream[:1])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident_megabytes("VmRSS")
    step(scores, upstream)
    return resident_megabytes("VmHWM") - before


def extra_megabytes(name, case):
    """The same in a fresh process; NaN where memory is not to be read."""
    if not pathlib.Path("/proc/self/clear_refs").exists():
        return float("nan")
    command = [sys.executable, __file__, f"--memory_of={name}", f"--case={case}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads(lines[-1])["extra_megabytes"]


def main(_):
    if _MEMORY_OF.value:
        extra = own_extra_megabytes(_MEMORY_OF.value, _CASE.value)
        print(json.dumps({"extra_megabytes": round(extra, 1)}))
        return
    rows = []
    for case, (sizes, _) in CASES.items():
        times = measure(case)
        for name, values in times.items():
            p10, median, p90 = np.percentile(values, [10, 50, 90]).round(2)
            extra = extra_megabytes(name, case)
            rows.append([name, *sizes, SAMPLES, median, p10, p90, extra])
            print("{:16s} b={} n={} k={} samples={}  median {:8.2f} ms  p10 {:8.2f}  p90 {:8.2f}  "
                  "extra {} MB".format(*rows[-1]))  # fmt: skip
        for name in times:
            implementation, mode = name.split()
            if implementation != "ours":
                # Pair by pair: each ratio is of calls that ran in the same turn.
                pairs = np.median(np.divide(times[name], times[f"ours {mode}"]))
                ratio = np.median(times[name]) / np.median(times[f"ours {mode}"])
                print(f"{mode}: {implementation} / ours {ratio:.2f} (pairwise {pairs:.2f})")
    folder = pathlib.Path(_OUTPUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    path = folder / f"perturbed-topk-tf{tf.__version__}-fp32-cpu{cores}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["implementation", "batch", "candidates", "k", "samples"]
            + ["median_ms", "p10_ms", "p90_ms", "extra_mb"]
        )
        writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
