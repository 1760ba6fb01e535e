"""Trains one model with every way to learn where to look, and lays the results side by side.

    python experiments/compare_selectors.py --task=needle_digits
    python experiments/compare_selectors.py --task=billiards

A model of saved_models/ gives what it has learned but where to look: that is learned anew, with
every other weight learning on beside it. So a short training tells the ways apart, instead of how
long the reading takes. Each run is a run of imagenet_tnet.py or billiards_topk.py with its own
folder; those that are finished are not trained again, so the command can be stopped and given
again; finished runs of other flags are refused. The page and the picture that are written to
--output hold what has been run so far.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
from absl import flags

from tnet_keras.evaluation.report import atomic_path
from tnet_keras.training import command

FLAGS = flags.FLAGS
HERE = pathlib.Path(__file__).resolve().parent

flags.DEFINE_enum("task", "needle_digits", ["needle_digits", "billiards"], "What is learned.")
flags.DEFINE_list("seeds", ["1", "2", "3"], "Seeds.")
flags.DEFINE_string("runs", "runs/compare_selectors", "Folder of the runs.")
flags.DEFINE_string("output", "docs", "Folder of the page and the picture.")
flags.DEFINE_bool("train", True, "Train what is missing; else only lay out what is there.")

PERTURBED = {f"perturbed Top-K, {mode}": mode for mode in ("full", "full_baseline", "diagonal")}
OTHERS = {"REINFORCE": "reinforce", "Sinkhorn Top-K": "sinkhorn", "random": "random"}
LABELS = ("REINFORCE", *PERTURBED, "Sinkhorn Top-K", "random")
ROOT = HERE.parent
TASKS = {
    "needle_digits": (
        "imagenet_tnet",
        [f"--flagfile={HERE / 'flagfiles/needle_digits.flags'}", "--baseline_epochs=0",
         f"--warm_start={ROOT / 'saved_models/needle_digits_tnet/model.keras'}",
         "--warm_start_exclude=location_module,baseline", "--num_train_examples=6400",
         "--epochs=2", "--learning_rate=1e-3", "--num_test_examples=1000", "--eval_locations=2"],
    ),
    "billiards": (
        "billiards_topk",
        [f"--flagfile={HERE / 'flagfiles/billiards_demo.flags'}",
         f"--warm_start={ROOT / 'saved_models/billiards_topk/model.keras'}",
         "--warm_start_exclude=scorer,baseline", "--scorer_delay=0", "--warmup_examples=0",
         "--epochs=2", "--steps_per_epoch=150", "--learning_rate=1e-3", "--warmup_steps=50",
         "--num_test_examples=1000"],
    ),
}  # fmt: skip


def selector_flags(task, label):
    """The flags that make a run of a task learn where to look in the named way."""
    mode = PERTURBED.get(label)
    if task == "billiards":
        return [
            f"--selector={OTHERS.get(label, 'perturbed')}",
            *([f"--mode={mode}"] if mode else []),
        ]
    options = {"mode": mode, "num_samples": 100} if mode else {}
    return [
        f"--selector={OTHERS.get(label, 'perturbed')}",
        *([f"--selector_options={json.dumps(options)}"] if options else []),
    ]


def folder_of(label, seed):
    """Where a run goes."""
    name = label.lower().replace(", ", "_").replace(" ", "_").replace("-", "_")
    return pathlib.Path(FLAGS.runs) / FLAGS.task / f"{name}_{seed}"


def train(label, seed):
    """Makes one run, unless it is finished.

    Raises:
        ValueError: If the run fails, or a finished one was made by another command.
    """
    folder = folder_of(label, seed)
    script, shared = TASKS[FLAGS.task]
    line = [
        sys.executable, str(HERE / f"{script}.py"), *shared, *selector_flags(FLAGS.task, label),
        f"--seed={seed}", f"--workdir={folder}", "--noexport", "--overwrite",
    ]  # fmt: skip
    # The interpreter and the place of the clone make no other run.
    given = "\n".join([script, *line[2:]]).replace(f"{ROOT}/", "") + "\n"
    record = folder / "command.txt"
    if (folder / "report.json").is_file():
        if not record.is_file() or record.read_text(encoding="utf-8") != given:
            raise ValueError(
                "`runs` must hold runs of the same flags: give another folder, or remove this "
                f"run. Received: runs={FLAGS.runs}, which holds {folder}"
            )
        return
    print(f"{label}, seed {seed}", flush=True)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{label} with seed {seed} failed: {last}")
    record.write_text(given, encoding="utf-8")


def collect():
    """Reads what has been run: dict from label to the reports."""
    found = {}
    for label in LABELS:
        files = [folder_of(label, seed) / "report.json" for seed in FLAGS.seeds]
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
        if reports:
            found[label] = reports
    return found


def spread(values):
    """Mean and standard deviation of the seeds, as text."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def values_of(reports, name):
    """One figure of each report; of those by number of locations the model's own."""
    return [
        report[name][str(report["locations"])] if isinstance(report[name], dict) else report[name]
        for report in reports
    ]


def page(found):
    """Lays the results out as Markdown."""
    columns = ("accuracy", "accuracy_random_locations", "hit_rate")
    images = next(iter(found.values()))[0]["images"]
    seeds = f" --seeds={','.join(FLAGS.seeds)}" if FLAGS.seeds != FLAGS["seeds"].default else ""
    lines = [
        f"# Ways to learn where to look: {FLAGS.task}", "",
        "Every model starts from the weights of the one in `saved_models/`, except of what chooses "
        "its places, and learns for the same number of steps. Accuracy and hit rate are of "
        f"{images:,} test images: mean ± standard deviation of the seeds; dots are runs.", "",
        "| learned by | seeds | accuracy | at random places | hit rate |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for label, reports in found.items():
        cells = [spread(values_of(reports, name)) for name in columns]
        lines.append("| " + " | ".join([label, str(len(reports)), *cells]) + " |")
    lines += [
        "", f"![Accuracy and hit rate of every run](selectors_{FLAGS.task}.png)", "", "Made by", "",
        "```", f"python experiments/compare_selectors.py --task={FLAGS.task}{seeds}", "```", "",
        f"on {next(iter(found.values()))[0]['hardware']}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(found, path):
    """Draws accuracy and hit rate of every run and their means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), dpi=150, layout="constrained")
    for axes, name, title in zip(
        figure.subplots(1, 2, sharey=True), ("accuracy", "hit_rate"), ("test accuracy", "hit rate"),
        strict=True,
    ):  # fmt: skip
        for row, reports in enumerate(found.values()):
            values = values_of(reports, name)
            axes.plot(values, [row] * len(values), "o", color="#9aa0a6", markersize=5)
            axes.plot(
                [np.mean(values)], [row], "|", color="#1a5fb4", markersize=16, markeredgewidth=3
            )
        axes.set_xlim(0, 1)
        axes.set_title(title, fontsize=11, loc="left")
        axes.grid(True, axis="x", color="#e4e4e4")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(range(len(found)), list(found))
    figure.axes[0].invert_yaxis()
    figure.savefig(path, format="png")


def main():
    output = pathlib.Path(FLAGS.output)
    if FLAGS.train:
        # Seed by seed, so that a run that is stopped early has compared like with like.
        for seed in FLAGS.seeds:
            for label in LABELS:
                train(label, seed)
    found = collect()
    if not found:
        raise ValueError(f"`runs` must hold finished runs. Received: runs={FLAGS.runs}")
    output.mkdir(parents=True, exist_ok=True)
    text = page(found)
    with atomic_path(output / f"selectors_{FLAGS.task}.md") as path:
        path.write_text(text, encoding="utf-8")
    with atomic_path(output / f"selectors_{FLAGS.task}.png") as path:
        draw(found, path)
    print(text)


if __name__ == "__main__":
    command.run(main)
