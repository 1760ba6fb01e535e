"""What the stand-in for TensorFlow Serving holds: versions of models, loaded as it loads them."""

import pathlib
import threading

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import get_model_status_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

State = get_model_status_pb2.ModelVersionStatus.State


class Refused(Exception):
    """An error that is answered.

    Args:
        code: Name of a gRPC status code, such as "NOT_FOUND".
        text: What is wrong.
    """

    def __init__(self, code, text):
        super().__init__(text)
        self.code, self.text = code, text


class Version:
    """One loaded version; its warm-up requests have been answered when it is there.

    Args:
        folder: `…/name/1`.
        number: The version.
    """

    def __init__(self, folder, number):
        self.number, self.folder = number, folder
        self._loaded = tf.saved_model.load(str(folder))
        self.signatures = self._loaded.signatures
        self.warmed = 0
        requests = folder / "assets.extra" / "tf_serving_warmup_requests"
        if requests.is_file():
            for record in tf.data.TFRecordDataset(str(requests)).as_numpy_iterator():
                log = prediction_log_pb2.PredictionLog.FromString(record)
                assert log.WhichOneof("log_type") == "predict_log"
                request = log.predict_log.request
                assert request.model_spec.name == folder.parent.name
                inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
                self.run(request.model_spec.signature_name, inputs)
                self.warmed += 1

    def signature(self, name):
        """The callable of a signature; `Refused` if there is none."""
        name = name or "serving_default"
        if name not in self.signatures:
            raise Refused("INVALID_ARGUMENT", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def inputs(self, name):
        """dict from input name to its `tf.TensorSpec`."""
        return self.signature(name).structured_input_signature[1]

    def run(self, name, inputs):
        """Arrays in, arrays out."""
        specs = self.inputs(name)
        if specs.keys() != inputs.keys():
            raise Refused(
                "INVALID_ARGUMENT", f"inputs must be {sorted(specs)}, got {sorted(inputs)}"
            )
        tensors = {}
        for key, value in inputs.items():
            spec = specs[key]
            try:
                tensors[key] = tf.convert_to_tensor(value, spec.dtype)
            except (TypeError, ValueError, tf.errors.OpError) as error:
                raise Refused("INVALID_ARGUMENT", f"{key}: {error}") from error
            if not spec.shape.is_compatible_with(tensors[key].shape):
                raise Refused(
                    "INVALID_ARGUMENT", f"{key}: {tensors[key].shape} is not {spec.shape}"
                )
        try:
            outputs = self.signature(name)(**tensors)
        except tf.errors.OpError as error:
            raise Refused("INVALID_ARGUMENT", error.message) from error
        return {key: value.numpy() for key, value in outputs.items()}


class Servables:
    """Models by name, their versions by number, by the rules of a model config file.

    The folders are looked at before each request, where TensorFlow Serving looks every second.

    Args:
        config: Text of a model config file.
    """

    def __init__(self, config):
        self._configs, self._versions, self._ended = {}, {}, {}
        self._lock = threading.Lock()
        self.configure(config)

    def configure(self, config):
        """Takes a new text of the model config file, and loads what it asks for."""
        parsed = text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
        with self._lock:
            self._configs = {one.name: one for one in parsed.model_config_list.config}
            for name in self._configs:
                self._versions.setdefault(name, {})
                self._ended.setdefault(name, set())
                self._look(name)

    def find(self, name, version=None, label=None):
        """The `Version` to ask: that of a number or a label, or the newest."""
        with self._lock:
            versions = self._look(name)
            if label:
                labels = self._configs[name].version_labels
                if label not in labels:
                    raise Refused(
                        "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"
                    )
                version = labels[label]
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            number = max(versions, default=None) if version is None else version
            if number not in versions:
                raise Refused("NOT_FOUND", f"Servable not found for request: {wanted}")
            return versions[number]

    def states(self, name, version=None):
        """dict from number to `State` of all versions that are or were there."""
        with self._lock:
            versions = self._look(name)
            states = dict.fromkeys(self._ended[name], State.END)
            states |= dict.fromkeys(versions, State.AVAILABLE)
            if version is not None:
                states = {key: value for key, value in states.items() if key == version}
            if not states:
                text = f"Could not find any versions of model {name}"
                raise Refused("NOT_FOUND", text)
            return dict(sorted(states.items(), reverse=True))

    def _look(self, name):
        if name not in self._configs:
            raise Refused("NOT_FOUND", f"Servable not found for request: Latest({name})")
        config, versions = self._configs[name], self._versions[name]
        folder = pathlib.Path(config.base_path)
        there = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
        policy = config.model_version_policy
        kind = policy.WhichOneof("policy_choice") or "latest"
        if kind == "all":
            wanted = set(there)
        elif kind == "specific":
            wanted = set(there) & set(policy.specific.versions)
        else:
            wanted = set(sorted(there)[-(policy.latest.num_versions or 1) :])
        # The new one first: there is always one that answers.
        for number in sorted(wanted - versions.keys()):
            versions[number] = Version(folder / str(number), number)
        for number in versions.keys() - wanted:
            del versions[number]
            self._ended[name].add(number)
        self._ended[name] -= wanted
        return versions


def as_text(value):
    """A NumPy string array's entries as nested lists of str."""
    return np.vectorize(lambda text: text.decode("utf-8"), otypes=[object])(value).tolist()


def signature_defs(folder):
    """dict from name to `SignatureDef`, as the file of a version has them."""
    content = (folder / "saved_model.pb").read_bytes()
    return dict(saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def)
