"""Flags of the data: what has no effect is refused in one line, what is given is heeded."""

import importlib
import json

import experiment
import pytest
import running
import tensorflow as tf
from absl import flags

from tests.integration import commands
from tests.integration.commands import one_line
from tests.integration.test_imagenet_tnet import write_images
from tnet_keras import datasets
from tnet_keras.training import command


def parsed(script, monkeypatch, *arguments):
    """The experiment of a script, its flags parsed and nothing run."""
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(running, "_main", found.append)
        commands.run_here(importlib.import_module(script), *arguments)
    return found[0]


@pytest.fixture
def opened(monkeypatch):
    """What data sets are opened with: a list of dicts."""
    seen = []

    def load(name, split, *_, **options):
        seen.append({"name": name, "split": split, **options})

    for function in ("load", "load_billiards", "load_traffic_signs", "load_megapixel_mnist"):
        monkeypatch.setattr(experiment.datasets, function, load)
    return seen


FOLDER = "FOLDER"  # stands for a folder that exists


@pytest.mark.parametrize(
    ("script", "dataset", "flag", "named"),
    [
        ("imagenet_tnet", "needle_digits", "--augmentation=crop_flip", "augmentation=crop_flip"),
        ("imagenet_tnet", "needle_digits", "--on_bad_image=skip", "on_bad_image=skip"),
        ("imagenet_tnet", "needle_digits", "--data_dir=/data", "data_dir=/data"),
        ("imagenet_tnet", "needle_digits", "--warmup_examples=9", "warmup_examples=9"),
        ("imagenet_tnet", "needle_digits", "--warmup_scale=2", "warmup_scale=2.0"),
        ("imagenet_tnet", "needle_digits", "--cache=disk", "cache=disk"),
        ("imagenet_tnet", "needle_digits", "--cache_dir=/kept", "cache_dir=/kept"),
        ("imagenet_tnet", FOLDER, "--cache_dir=/kept", "cache_dir=/kept"),
        ("imagenet_tnet", FOLDER, "--random_shift=4", "random_shift=4"),
        ("imagenet_tnet", FOLDER, "--warmup_scale=2", "warmup_scale=2.0"),
        ("imagenet_tnet", FOLDER, "--data_dir=/data", "data_dir=/data"),
        ("imagenet_tnet", "imagenet2012", "--warmup_examples=9", "warmup_examples=9"),
        ("birds_tnet", "needle_digits", "--augmentation=birds", "augmentation=birds"),
        ("fmow_tnet", "fmow_rgb", "--random_shift=4", "random_shift=4"),
        ("full_image", "needle_digits", "--warmup_examples=9", "warmup_examples=9"),
        ("full_image", "megapixel_mnist", "--random_shift=4", "random_shift=4"),
        ("full_image", "traffic_signs", "--cache", "cache=memory"),
        ("cub_nts_topk", "needle_digits", "--resize=600,600", "resize="),
        ("cub_nts_topk", "caltech_birds2011", "--random_shift=4", "random_shift=4"),
        ("billiards_topk", "billiards", "--augmentation=crop_flip", "augmentation=crop_flip"),
        ("billiards_topk", FOLDER, "--cache", "cache="),
        ("billiards_topk", FOLDER, "--on_bad_image=skip", "on_bad_image=skip"),
        ("billiards_topk", "kubric_billiards", "--random_shift=4", "random_shift=4"),
        ("billiards_topk", "kubric_billiards/sum_modulo_10", "--label=rightmost_number", "label="),
        ("traffic_signs_topk", "traffic_signs", "--label_rule=ats", "label_rule=ats"),
        ("traffic_signs_topk", "traffic_signs", "--cache", "cache="),
        ("traffic_signs_topk", "swedish_traffic_signs", "--random_contrast", "random_contrast=T"),
        ("traffic_signs_topk", FOLDER, "--augmentation=none", "augmentation=none"),
        ("megapixel_mnist_topk", "megapixel_mnist", "--random_shift=4", "random_shift=4"),
        ("megapixel_mnist_topk", FOLDER, "--digits=sklearn", "digits=sklearn"),
        ("megapixel_mnist_topk", "attention_sampling_mnist", "--digits=mnist", "digits=mnist"),
    ],
)  # fmt: skip
def test_flag_without_effect_is_refused(script, dataset, flag, named, capsys, tmp_path):
    dataset = str(tmp_path) if dataset == FOLDER else dataset
    for more in ([], ["--dry_run"]):
        with pytest.raises(SystemExit) as raised:
            commands.run_here(
                importlib.import_module(script), f"--dataset={dataset}", flag,
                f"--workdir={tmp_path}/run", *more,
            )  # fmt: skip
        assert raised.value.code == 2
        line = one_line(capsys)
        assert f"has no effect on the data set {dataset}. Received: {named}" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("imagenet_tnet", ["--dataset=needle_digits", "--cache", "--random_shift=3",
                           "--num_train_examples=9"],
         {"cache": True, "random_shift": 3, "num_examples": 9}),
        ("imagenet_tnet", ["--dataset=needle_digits", "--warmup_examples=5", "--warmup_scale=2"],
         {"warmup_examples": 5, "warmup_scale": 2.0}),
        ("birds_tnet", ["--dataset=nabirds", "--on_bad_image=skip", "--cache", "--data_dir=/data"],
         {"on_bad_image": "skip", "cache": "memory", "data_dir": "/data", "augmentation": "birds"}),
        ("birds_tnet", ["--dataset=needle_digits", "--random_shift=2"], {"random_shift": 2}),
        ("imagenet_tnet", ["--dataset=FOLDER", "--cache=disk", "--workdir=some/run"],
         {"cache": "disk", "cache_dir": "some/run/cache"}),
        ("imagenet_tnet", ["--dataset=FOLDER", "--cache=disk", "--cache_dir=/kept"],
         {"cache": "disk", "cache_dir": "/kept"}),
        ("imagenet_tnet", ["--dataset=FOLDER", "--nocache"], {"cache": "none"}),
        ("full_image", ["--dataset=billiards", "--cache", "--warmup_examples=4"],
         {"cache": True, "warmup_examples": 4}),
        ("cub_nts_topk", ["--dataset=caltech_birds2011", "--resize=60,80"], {"resize": (60, 80)}),
        ("cub_nts_topk", ["--dataset=needle_digits", "--random_shift=2"], {"random_shift": 2}),
        ("billiards_topk", ["--dataset=billiards", "--cache", "--label=sum_modulo_10"],
         {"cache": True, "label": "sum_modulo_10", "with_boxes": False}),
        ("billiards_topk", ["--dataset=FOLDER", "--random_shift=5"],
         {"label": "max_left_right", "random_shift": 5}),
        ("billiards_topk", ["--dataset=kubric_billiards", "--label=sum_modulo_10",
                            "--augmentation=none", "--data_dir=/data"],
         {"name": "kubric_billiards/sum_modulo_10", "augmentation": "none", "data_dir": "/data"}),
        ("traffic_signs_topk", ["--dataset=traffic_signs", "--random_contrast"],
         {"random_contrast": True, "with_boxes": False}),
        ("traffic_signs_topk", ["--dataset=swedish_traffic_signs", "--label_rule=ats"],
         {"name": "swedish_traffic_signs/ats"}),
        ("megapixel_mnist_topk", ["--dataset=megapixel_mnist", "--digits=sklearn"],
         {"source": "sklearn"}),
        ("megapixel_mnist_topk", ["--dataset=attention_sampling_mnist/easy", "--cache"],
         {"name": "attention_sampling_mnist/easy", "cache": "memory"}),
    ],
)  # fmt: skip
def test_flag_with_an_effect_is_heeded(script, arguments, expected, monkeypatch, opened, tmp_path):
    arguments = [text.replace(FOLDER, str(tmp_path)) for text in arguments]
    made = parsed(script, monkeypatch, *arguments)
    experiment.check_data_flags(made)
    made.load("train", (64, 64), 4)
    (options,) = opened
    assert expected.items() <= options.items()


@pytest.mark.parametrize(
    ("given", "written"),
    [("--cache", "--cache"), ("--cache=memory", "--cache"), ("--nocache", "--nocache"),
     ("--cache=none", "--nocache"), ("--cache=disk", "--cache=disk")],
)  # fmt: skip
def test_cache_is_written_down_as_it_can_be_read(given, written, monkeypatch, tmp_path):
    for _ in range(2):
        parsed("imagenet_tnet", monkeypatch, f"--dataset={tmp_path}", given)
        lines = command.serialize_flags("experiment").splitlines()
        assert [line for line in lines if line.startswith(("--cache", "--nocache"))] == [written]
        given = written


def test_unknown_cache_is_refused(capsys):
    with pytest.raises(SystemExit):
        commands.run_here(importlib.import_module("imagenet_tnet"), "--cache=tape", "--dry_run")
    assert "one of none, memory, disk" in one_line(capsys)


def test_what_an_experiment_sets_itself_is_neither_refused_nor_recorded(monkeypatch, tmp_path):
    made = parsed("birds_tnet", monkeypatch, "--dataset=needle_digits")
    experiment.check_data_flags(made)
    # Left out of the record: recorded flags are given flags when a run is repeated.
    assert experiment.without_effect(made) == ["augmentation"]


def test_dry_run_of_a_full_image_network_has_the_size_that_is_asked_for(capsys):
    import full_image

    commands.run_here(full_image, "--dry_run", "--image_size=48,80")
    *lines, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["input_shape"] == [48, 80, 3]
    assert "images of 48 x 80 pixels" in " ".join(lines)
    with pytest.raises(SystemExit):
        commands.run_here(full_image, "--dry_run", "--image_size=48,0")
    assert "Received: image_size=(48, 0)" in one_line(capsys)


def folder_with_a_bad_image(path, good):
    """Images of two classes, `good` in all that can be read, and one that cannot; all for tests."""
    for split in ("train", "test"):
        write_images(path / split, count=good // 2)
        (path / split / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    return str(path)


def test_images_left_out_are_counted_before_replicas_share_batches(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    folder = folder_with_a_bad_image(tmp_path / "few", good=10)
    options = {"on_bad_image": "skip"}
    data = datasets.load(folder, "test", 8, 4, **options)
    assert data.num_examples == 11
    assert running.images_of_a_pass(tf.distribute.get_strategy(), data) == 11
    assert running.images_of_a_pass(strategy, data) == 10
    flags.FLAGS([__file__, "--batch_size=4", "--eval_batch_size=3"])
    # 11 would leave two for the last batch, and there is one.
    running.check_batches(tf.distribute.get_strategy(), 10, {})
    with pytest.raises(ValueError, match="`eval_batch_size` must be a multiple of the 2 replicas"):
        running.check_batches(strategy, 10, {})
    flags.FLAGS([__file__, "--batch_size=4", "--eval_batch_size=4"])
    running.check_batches(strategy, 10, {})
    with pytest.raises(
        ValueError, match="no last batch of fewer images than the 2 replicas. Recei"
    ):
        running.check_batches(strategy, 9, {})
