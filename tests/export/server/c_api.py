"""Runs a SavedModel through TensorFlow's C API by ctypes, without the Python package `tensorflow`.

    python c_api.py LIBRARY FOLDER < request.json > answer.json

The request holds `input` and `outputs` (names of tensors in the graph) and `pixels`, nested lists.
"""

import ctypes
import json
import sys

import numpy as np
import numpy.random  # noqa: F401 (before the library: after it, importing it crashes)

DTYPES = {1: np.float32, 3: np.int32}  # TF_FLOAT, TF_INT32
UINT8 = 4  # TF_UINT8


class Output(ctypes.Structure):
    """TF_Output: a tensor of the graph."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def main(library, folder):
    """Reads a request, prints the answer."""
    request = json.load(sys.stdin)
    # RTLD_GLOBAL would mix its symbols with those of other libraries and crash.
    api = ctypes.CDLL(library, ctypes.RTLD_LOCAL)
    for name in (
        "TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel",
        "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData",
    ):  # fmt: skip
        getattr(api, name).restype = ctypes.c_void_p
    api.TF_Message.restype = ctypes.c_char_p
    api.TF_Dim.restype = ctypes.c_int64
    status = ctypes.c_void_p(api.TF_NewStatus())
    graph = ctypes.c_void_p(api.TF_NewGraph())

    def check():
        if api.TF_GetCode(status):
            sys.exit(api.TF_Message(status).decode())

    def tensor(name):
        operation, _, index = name.partition(":")
        found = api.TF_GraphOperationByName(graph, operation.encode())
        return Output(found, int(index))

    options = ctypes.c_void_p(api.TF_NewSessionOptions())
    tags = (ctypes.c_char_p * 1)(b"serve")
    session = ctypes.c_void_p(
        api.TF_LoadSessionFromSavedModel(
            options, None, folder.encode(), tags, 1, graph, None, status
        )
    )
    check()
    pixels = np.array(request["pixels"], np.uint8)
    sides = (ctypes.c_int64 * pixels.ndim)(*pixels.shape)
    size = ctypes.c_size_t(pixels.nbytes)
    value = ctypes.c_void_p(api.TF_AllocateTensor(UINT8, sides, pixels.ndim, size))
    ctypes.memmove(api.TF_TensorData(value), pixels.ctypes.data, pixels.nbytes)
    names = request["outputs"]
    outputs = (Output * len(names))(*map(tensor, names.values()))
    values = (ctypes.c_void_p * len(names))()
    api.TF_SessionRun(
        session, None,
        (Output * 1)(tensor(request["input"])), (ctypes.c_void_p * 1)(value), 1,
        outputs, values, len(names), None, 0, None, status,
    )  # fmt: skip
    check()
    answer = {}
    for name, found in zip(names, map(ctypes.c_void_p, values), strict=True):
        shape = [api.TF_Dim(found, axis) for axis in range(api.TF_NumDims(found))]
        array = np.empty(shape, DTYPES[api.TF_TensorType(found)])
        ctypes.memmove(array.ctypes.data, api.TF_TensorData(found), array.nbytes)
        answer[name] = array.tolist()
    assert "tensorflow" not in sys.modules
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
