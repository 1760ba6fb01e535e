"""Two ways to reach a model server, with one face: JSON over HTTP, and gRPC."""

import base64
import http.client
import json
import re
import urllib.error
import urllib.request

import numpy as np
import tensorflow as tf

_NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def transport(server, model, version, timeout):
    """Chooses the way by the address.

    Args:
        server: "http://host:8501" or "https://…" for REST; "host:8500" or "grpc://host:8500" for
            gRPC.
        model: Name that the model is served under.
        version: int, or None for the newest.
        timeout: Seconds to wait for an answer.

    Returns:
        `Rest` or `Grpc`.

    Raises:
        ValueError: If `server` is no such address.
        ImportError: If gRPC is asked for without the extra `serving`.
    """
    if isinstance(server, str):
        scheme, mark, address = server.rpartition("://")
        host, _, port = address.partition("/")[0].rpartition(":")
        if scheme in ("http", "https") and address.strip("/"):
            return Rest(server, model, version, timeout)
        if mark == "" or scheme == "grpc":
            if host and port.isdecimal() and "/" not in address:
                return Grpc(address, model, version, timeout)
    raise ValueError(
        "`server` must be http://host:port for REST or host:port for gRPC. "
        f"Received: server={server!r}"
    )


class Rest:
    """JSON over HTTP, by the standard library alone.

    Args:
        server: "http://host:8501", or a longer prefix of the path `/v1/models`.
        model: See `transport`.
        version: See `transport`.
        timeout: See `transport`.
    """

    def __init__(self, server, model, version, timeout):
        self._server, self._model, self._version = server, model, version
        self._timeout = timeout
        path = f"/v1/models/{urllib.request.quote(model, safe='')}"
        self._every = server.rstrip("/") + path
        self._one = self._every if version is None else f"{self._every}/versions/{version}"

    def predict(self, signature, inputs):
        """Asks the model.

        Args:
            signature: Name of the signature.
            inputs: dict from the names of its inputs to a list of B bytes, or an array whose first
                axis is B.

        Returns:
            dict of arrays whose first axis is B; strings are str.

        Raises:
            OSError: If the server cannot be reached or takes too long.
            ValueError: If the server does not hold the model, version or signature.
            RuntimeError: If it refuses the request for another reason, or its answer is no answer.
        """
        columns = {
            name: values.tolist()
            if isinstance(values, np.ndarray)
            else [{"b64": base64.b64encode(value).decode("ascii")} for value in values]
            for name, values in inputs.items()
        }
        # By columns: an empty list of boxes is still a list per image.
        question = {"signature_name": signature, "inputs": columns}
        answer = self._ask(f"{self._one}:predict", signature, json.dumps(question).encode("ascii"))
        outputs = answer.get("outputs")
        if not isinstance(outputs, dict):
            raise RuntimeError(
                f"The answer of server={self._server!r} holds no named outputs: "
                f"{_one_line(str(answer))}"
            )
        return {key: _array(value) for key, value in outputs.items()}

    def versions(self):
        """The versions that the server knows.

        Returns:
            dict from int to a state such as "AVAILABLE".

        Raises:
            OSError: If the server cannot be reached or takes too long.
            ValueError: If the server does not hold the model.
            RuntimeError: If it refuses the request for another reason.
        """
        states = self._ask(self._every, None).get("model_version_status", [])
        return {int(state["version"]): state["state"] for state in states}

    def close(self):
        """Does nothing: each request has its own connection."""

    def _ask(self, url, signature, data=None):
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(signature, error.code, error.read()) from error
        except TimeoutError as error:
            raise _too_slow(self._server, self._timeout) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _too_slow(self._server, self._timeout) from error
            raise _unreachable(self._server, error.reason) from error
        except OSError as error:
            raise _unreachable(self._server, error) from error
        except http.client.HTTPException as error:  # such as a gRPC port
            raise self._no_rest(f"{type(error).__name__}: {error}") from error
        answer = _parsed(body)
        if not isinstance(answer, dict):
            raise self._no_rest(_text(body))
        return answer

    def _no_rest(self, text):
        return RuntimeError(
            "`server` must speak the REST interface of TensorFlow Serving. "
            f"Received: server={self._server!r}, which answered {_one_line(text)!r}"
        )

    def _refusal(self, signature, code, body):
        answer = _parsed(body)
        text = answer.get("error") if isinstance(answer, dict) else None
        # A page of another server says nothing about models.
        known = text is not None
        text = f"HTTP {code}: {text if known else _text(body)}"
        return _refusal(
            self._server, self._model, self._version, signature, known and code == 404, text
        )


class Grpc:
    """gRPC, with the messages of the package `tensorflow-serving-api`.

    Args:
        server: "host:8500".
        model: See `transport`.
        version: See `transport`.
        timeout: See `transport`.
    """

    def __init__(self, server, model, version, timeout):
        try:
            import grpc
            from tensorflow_serving.apis import (
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ImportError as error:
            raise ImportError(
                "A gRPC client needs the packages grpcio and tensorflow-serving-api: "
                "pip install 'tnet_keras[serving]'"
            ) from error
        self._server, self._model, self._version = server, model, version
        self._timeout = timeout
        self._grpc, self._predict, self._status = grpc, predict_pb2, get_model_status_pb2
        self._channel = grpc.insecure_channel(server, options=_NO_LIMIT)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature, inputs):
        """Asks the model; as `Rest.predict`.

        Args:
            signature: Name of the signature.
            inputs: dict from the names of its inputs to a list of B bytes, or an array whose first
                axis is B.

        Returns:
            dict of arrays whose first axis is B; strings are str.

        Raises:
            OSError: If the server cannot be reached or takes too long.
            ValueError: If the server does not hold the model, version or signature.
            RuntimeError: If it refuses the request for another reason.
        """
        request = self._predict.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = signature
        if self._version is not None:
            request.model_spec.version.value = self._version
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        response = self._ask(self._predictions.Predict, request, signature)
        outputs = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
        return {
            key: np.vectorize(lambda text: text.decode("utf-8", "replace"), otypes=[object])(value)
            if value.dtype == object
            else value
            for key, value in outputs.items()
        }

    def versions(self):
        """The versions that the server knows; as `Rest.versions`.

        Returns:
            dict from int to a state such as "AVAILABLE".

        Raises:
            OSError: If the server cannot be reached or takes too long.
            ValueError: If the server does not hold the model.
            RuntimeError: If it refuses the request for another reason.
        """
        request = self._status.GetModelStatusRequest()
        request.model_spec.name = self._model
        states = self._ask(self._models.GetModelStatus, request, None).model_version_status
        names = self._status.ModelVersionStatus.State
        return {state.version: names.Name(state.state) for state in states}

    def close(self):
        """Closes the connection."""
        self._channel.close()

    def _ask(self, method, request, signature):
        try:
            return method(request, timeout=self._timeout)
        except self._grpc.RpcError as error:
            code, text = error.code(), _one_line(error.details() or "")
            codes = self._grpc.StatusCode
            if code == codes.UNAVAILABLE:
                raise _unreachable(self._server, text) from error
            if code == codes.DEADLINE_EXCEEDED:
                raise _too_slow(self._server, self._timeout) from error
            text = f"{code.name}: {text}"
            raise _refusal(
                self._server, self._model, self._version, signature, code == codes.NOT_FOUND, text
            ) from error


def _array(value):
    """Strings as objects, numbers in 32 bit, as the model computed them."""
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return array.astype(object)
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))


def _parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return None


def _text(body):
    return _one_line(body[:200].decode("utf-8", "replace"))


def _one_line(text):
    return " ".join(text.split())[:500]


def _unreachable(server, reason):
    return ConnectionError(
        f"`server` must be reachable. Received: server={server!r} ({_one_line(str(reason))})"
    )


def _too_slow(server, timeout):
    return TimeoutError(
        f"`timeout` must be long enough for an answer. Received: timeout={timeout} seconds, "
        f"server={server!r}"
    )


def _refusal(server, model, version, signature, missing, text):
    """What to raise when the server answers, but not what was asked."""
    text = _one_line(text)
    if signature is not None and re.search("signature.*not found", text, re.IGNORECASE):
        return ValueError(
            f"`signature` must be one that the model has. Received: signature={signature!r} "
            f"({text})"
        )
    if missing:
        return ValueError(
            "`model` and `version` must be served there. "
            f"Received: model={model!r}, version={version}, server={server!r} ({text})"
        )
    return RuntimeError(f"The server {server!r} refused the request ({text})")
