"""The record of a run: `report.json`, a table for people, and accuracy against compute.

Every file is written under another name and then renamed, so a report is there or not there, never
half there.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import tempfile

import numpy as np

_PACKAGES = (
    "tensorflow",
    "keras",
    "keras-cv",
    "tensorflow-datasets",
    "tensorflow-probability",
    "numpy",
    "tnet_keras",
)
_BASELINE = "full-image baseline"


def versions():
    """Versions of what a result depends on.

    Returns:
        dict from name to version, of Python and of the packages that are installed.
    """
    result = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            result[name] = importlib.metadata.version(name)
    return result


@contextlib.contextmanager
def atomic_path(path):
    """Gives a temporary path beside `path` that becomes `path` when the block ends well.

    Args:
        path: File to write; its folder must exist.

    Yields:
        `pathlib.Path` to write to. It has the same suffix. If the block raises, it is removed.
    """
    path = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix
    )
    os.close(handle)
    try:
        yield pathlib.Path(temporary)
        # `mkstemp` makes files that only their owner can read; a report is for everybody whom
        # the umask lets.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_report(report, folder):
    """Writes `report.json`, `report.md` and `accuracy_vs_compute.png`.

    Args:
        report: dict of JSON types: what `evaluate_policy` returns, and `name`, `command`, `seed`,
            `parameters`, `train_seconds`, `versions`, `baseline_accuracy`, `baseline_macs` as far
            as they are known. `model` and `unit` name the model and what it looks at ("TNet" and
            "location" without; a unit of None is for models that look at nothing); `rivals` is a
            dict of dicts with a `label`, `accuracy` and `macs`.
        folder: Existing folder to write to.

    Raises:
        ValueError: If the report holds a number that JSON cannot (NaN or infinite).
    """
    folder = pathlib.Path(folder)
    try:
        text = json.dumps(report, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"`report` must hold finite numbers only. Received: {report}") from error
    with atomic_path(folder / "report.md") as path:
        path.write_text(markdown(report), encoding="utf-8")
    with atomic_path(folder / "accuracy_vs_compute.png") as path:
        plot_accuracy_vs_compute(report, path)
    # Last, because its presence says that a run is complete.
    with atomic_path(folder / "report.json") as path:
        path.write_text(text + "\n", encoding="utf-8")


def markdown(report):
    """Lays a report out as a page.

    Args:
        report: As for `write_report`.

    Returns:
        Markdown text.
    """
    random = report.get("accuracy_random_locations", {})
    attended = report.get("accuracy_attended_only_by_locations", {})
    coverage = report.get("coverage", {})
    model, unit = report.get("model", "TNet"), report.get("unit", "location")
    rows = [
        [
            f"{model}, {key} {_plural(unit, key)}" if unit else model,
            _percent(report["accuracy"][key]),
            _percent(random.get(key)),
            _percent(attended.get(key)),
            _percent(coverage.get(key)),
            _millions(report.get("macs", {}).get(key)),
        ]
        for key in _keys(report)
    ]
    if report.get("baseline_accuracy") is not None:
        macs = _millions(report.get("baseline_macs"))
        rows.append([_BASELINE, _percent(report["baseline_accuracy"]), "", "", "100.0 %", macs])
    for rival in report.get("rivals", {}).values():
        macs = _millions(rival.get("macs"))
        rows.append([rival["label"], _percent(rival["accuracy"]), "", "", "", macs])
    units = _plural(unit or "location", 2)
    header = [
        "model",
        "accuracy",
        f"with random {units}",
        "attended only",
        "seen at full resolution",
        "million multiply-adds per image",
    ]
    lines = [f"# {report.get('name', 'Report')}", "", *_table(header, rows), ""]
    if "object_coverage" in report:
        hit = "Centre of a true box is in a chosen patch"
        random_hit = "… in one of as many random patches"
    else:
        hit, random_hit = "Most probable box contains the object's centre", "… a random box does"
    facts = [
        ("Share of the most frequent class", "majority", _percent),
        ("Right class among the five most probable", "top_5_accuracy", _percent),
        ("Accuracy with the right location given", "accuracy_oracle_location", _percent),
        (hit, "hit_rate", _percent),
        (random_hit, "hit_rate_random", _percent),
        ("Share of the true boxes that chosen patches cover", "object_coverage", _percent),
        ("Entropy of the policy (nats)", "policy_entropy", "{:.3f}".format),
        ("Entropy of the uniform policy (nats)", "policy_entropy_uniform", "{:.3f}".format),
        ("Test images", "images", "{:,}".format),
        ("Unreadable images left out", "bad_images", _counts),
        (f"{units.capitalize()} in training", "locations", str),
        ("Parameters", "parameters", "{:,}".format),
        ("Trainable parameters", "trainable_parameters", "{:,}".format),
        ("Training time", "train_seconds", _seconds),
        ("Training time of the full-image baseline", "baseline_train_seconds", _seconds),
        ("Training images of the full-image baseline", "baseline_examples", "{:,}".format),
        ("Seed", "seed", str),
        ("Hardware", "hardware", str),
    ]
    known = [
        [label, show(report[name])] for label, name, show in facts if report.get(name) is not None
    ]
    lines += [*_table(["measured", "value"], known), ""]
    if report.get("command"):
        lines += ["Made by", "", "```", report["command"], "```", ""]
    if report.get("versions"):
        named = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        lines += [f"Versions: {named}.", ""]
    return "\n".join(lines)


def plot_accuracy_vs_compute(report, path):
    """Draws accuracy over multiply-adds: learned locations, random ones and the full image.

    Args:
        report: As for `write_report`.
        path: PNG file to write.
    """
    # The object interface draws without a display and leaves the caller's pyplot state alone.
    from matplotlib.figure import Figure

    keys = [key for key in _keys(report) if key in report.get("macs", {})]
    model, unit = report.get("model", "TNet"), report.get("unit", "location")
    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    macs = np.array([report["macs"][key] for key in keys]) / 1e6
    accuracy = np.array([report["accuracy"][key] for key in keys])
    random = report.get("accuracy_random_locations", {})
    attended = [key for key in keys if key != "0" and key in random]
    if attended:
        axes.plot(
            [report["macs"][key] / 1e6 for key in attended],
            [random[key] for key in attended],
            color="#9aa0a6",
            marker="o",
            linestyle="--",
            label=f"{model}, random {_plural(unit, 2)}",
        )
    axes.plot(macs, accuracy, color="#1a5fb4", marker="o", linewidth=2, label=model)
    for key, x, y in zip(keys, macs, accuracy, strict=True):
        axes.annotate(
            ("0 (context only)" if key == "0" else key) if unit else "",
            (x, y),
            textcoords="offset points",
            xytext=(7, -14),
            fontsize=9,
            color="#1a5fb4",
        )
    if report.get("baseline_accuracy") is not None and report.get("baseline_macs"):
        axes.plot(
            [report["baseline_macs"] / 1e6],
            [report["baseline_accuracy"]],
            color="#c64600",
            marker="s",
            markersize=8,
            linestyle="",
            label="same backbone on the full image",
        )
    markers = iter("Dv^PX<>*")
    for rival in report.get("rivals", {}).values():
        if rival.get("macs"):
            axes.plot(
                [rival["macs"] / 1e6],
                [rival["accuracy"]],
                marker=next(markers, "."),
                linestyle="",
                label=rival["label"],
            )
    if report.get("accuracy_oracle_location") is not None and "1" in keys:
        axes.plot(
            [report["macs"]["1"] / 1e6],
            [report["accuracy_oracle_location"]],
            color="#26a269",
            marker="*",
            markersize=12,
            linestyle="",
            label=f"{model}, right {unit} given",
        )
    axes.set_xscale("log")
    _plain_log_ticks(axes)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel("million multiply-adds per image (log scale)")
    axes.set_ylabel("test accuracy")
    what = f"; numbers are {_plural(unit, 2)} per image" if unit else ""
    axes.set_title(f"Accuracy against compute{what}", fontsize=11, loc="left")
    axes.grid(True, which="major", color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", framealpha=1.0, edgecolor="none", fontsize=9)
    figure.savefig(path, format="png")


def _plain_log_ticks(axes):
    """Ticks at 1, 2 and 5 per decade, written out: a log axis of one decade has one tick else."""
    from matplotlib import ticker

    axes.xaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def _keys(report):
    return sorted(report.get("accuracy", {}), key=int)


def _table(header, rows):
    return [
        "| " + " | ".join(header) + " |",
        "|---" * len(header) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _plural(unit, count):
    if str(count) == "1":
        return unit
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"


def _percent(value):
    return "" if value is None else f"{100 * value:.1f} %"


def _millions(value):
    return "" if value is None else f"{value / 1e6:,.2f}"


def _counts(values):
    return ", ".join(f"{name} {count:,}" for name, count in values.items())


def _seconds(value):
    return f"{value:,.0f} s"
