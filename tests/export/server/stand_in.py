"""A stand-in for TensorFlow Serving, whose own server no package registry has.

The same messages over gRPC and the same JSON over HTTP, around `tf.saved_model.load`: enough to
drive clients. It is no server for use: it does not batch, and it checks nothing that is not tested.
"""

import base64
import collections
import concurrent.futures
import http.server
import json
import re
import threading

import grpc
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.export.server.servables import Refused, Servables, as_text, signature_defs

_HTTP_CODES = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}
_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>/metadata|:predict)?"
)


class StandIn:
    """Both servers on free ports of this machine, from `with` to its end.

    Args:
        config: Text of a model config file.

    Attributes:
        grpc: "localhost:port".
        rest: "http://localhost:port".
        servables: `Servables`.
    """

    def __init__(self, config):
        self.servables = Servables(config)
        self.counts = collections.Counter()

    def __enter__(self):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        pool = concurrent.futures.ThreadPoolExecutor(2)
        self._grpc = grpc.server(pool, options=options)
        service = _Service(self.servables, self.counts)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, self._grpc)
        self.grpc = f"localhost:{self._grpc.add_insecure_port('localhost:0')}"
        self._grpc.start()
        self._rest = http.server.ThreadingHTTPServer(("localhost", 0), _Handler)
        self._rest.service = service
        self.rest = f"http://localhost:{self._rest.server_address[1]}"
        self._thread = threading.Thread(target=self._rest.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *raised):
        self._grpc.stop(grace=None).wait()
        self._rest.shutdown()
        self._rest.server_close()
        self._thread.join()


def _answering(method):
    """Turns `Refused` into a gRPC status."""

    def answer(self, request, context):
        try:
            return method(self, request)
        except Refused as error:
            return context.abort(getattr(grpc.StatusCode, error.code), error.text)

    return answer


class _Service(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    def __init__(self, servables, counts):
        self._servables, self.counts = servables, counts

    def find(self, spec):
        version = spec.version.value if spec.HasField("version") else None
        return self._servables.find(spec.name, version, spec.version_label)

    def predict(self, request):
        name = request.model_spec.name
        try:
            version = self.find(request.model_spec)
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            outputs = version.run(request.model_spec.signature_name, inputs)
        except Refused as error:
            self.counts[name, error.code] += 1
            raise
        self.counts[name, "OK"] += 1
        return version, outputs

    @_answering
    def Predict(self, request):
        version, outputs = self.predict(request)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        response.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
        for key, value in outputs.items():
            if not request.output_filter or key in request.output_filter:
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def metadata(self, request):
        version = self.find(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in signature_defs(version.folder).items():
            signatures.signature_def[name].CopyFrom(definition)
        return version, signatures

    @_answering
    def GetModelMetadata(self, request):
        version, signatures = self.metadata(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version.number
        response.metadata["signature_def"].Pack(signatures)
        return response

    def status(self, request):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state in self._servables.states(spec.name, version).items():
            one = response.model_version_status.add(version=number, state=state)
            one.status.error_code = 0
        return response

    @_answering
    def GetModelStatus(self, request):
        return self.status(request)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/monitoring/prometheus/metrics":
            lines = ["# TYPE :tensorflow:serving:request_count counter"]
            for (name, code), count in sorted(self.server.service.counts.items()):
                labels = f'model_name="{name}",status="{code}"'
                lines.append(f":tensorflow:serving:request_count{{{labels}}} {count}")
            return self._send(200, "text/plain", "\n".join(lines) + "\n")
        return self._answer({"/metadata": self._metadata, None: self._status})

    def do_POST(self):
        return self._answer({":predict": self._predict})

    def _answer(self, verbs):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match = _PATH.fullmatch(self.path)
        try:
            if not match or match["verb"] not in verbs:
                raise Refused("NOT_FOUND", f"Malformed request: {self.command} {self.path}")
            request = predict_pb2.PredictRequest()
            spec = request.model_spec
            spec.name = match["name"]
            if match["version"]:
                spec.version.value = int(match["version"])
            if match["label"]:
                spec.version_label = match["label"]
            code, answer = 200, verbs[match["verb"]](request, body)
        except Refused as error:
            code, answer = _HTTP_CODES[error.code], {"error": error.text}
        return self._send(code, "application/json", json.dumps(answer, indent=1) + "\n")

    def _send(self, code, kind, text):
        content = text.encode("utf-8")
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    def _status(self, request, _):
        response = self.server.service.status(request)
        return json_format.MessageToDict(
            response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    def _metadata(self, request, _):
        version, signatures = self.server.service.metadata(request)
        spec = {"name": request.model_spec.name, "signature_name": "", "version": version.number}
        shown = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        return {"model_spec": spec, "metadata": {"signature_def": shown}}

    def _predict(self, request, body):
        """The JSON of a request by rows ("instances") or by columns ("inputs")."""
        try:
            question = json.loads(body)
            rows = "instances" in question
            values = question["instances" if rows else "inputs"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
        signature = question.get("signature_name", "serving_default")
        request.model_spec.signature_name = signature
        specs = self.server.service.find(request.model_spec).inputs(signature)
        if rows:
            if isinstance(values[0], dict) and values[0].keys() != {"b64"}:
                values = {name: [row[name] for row in values] for name in values[0]}
            else:
                values = {next(iter(specs)): values}
        elif not isinstance(values, dict) or values.keys() == {"b64"}:
            values = {next(iter(specs)): values}
        for name, value in values.items():
            dtype = specs[name].dtype if name in specs else None
            try:
                tensor = tf.make_tensor_proto(_decoded(value), dtype)
            except (TypeError, ValueError) as error:
                raise Refused("INVALID_ARGUMENT", f"JSON Value of {name}: {error}") from error
            request.inputs[name].CopyFrom(tensor)
        _, outputs = self.server.service.predict(request)
        outputs = {name: _encoded(name, value) for name, value in outputs.items()}
        (only,) = outputs.values() if len(outputs) == 1 else (None,)
        if not rows:
            return {"outputs": outputs if only is None else only}
        columns = zip(*outputs.values(), strict=True)
        by_row = [dict(zip(outputs, column, strict=True)) for column in columns]
        return {"predictions": by_row if only is None else only}


def _decoded(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [_decoded(one) for one in value] if isinstance(value, list) else value


def _encoded(name, value):
    if value.dtype != object:
        return value.tolist()
    if name.endswith("_bytes"):
        return [{"b64": base64.b64encode(one).decode("ascii")} for one in value.reshape(-1)]
    return as_text(value)
