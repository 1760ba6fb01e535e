"""Export: models as files that other programs run."""

from tnet_keras.export.onnx import export_onnx
from tnet_keras.export.predictor import Predictor, load_predictor
from tnet_keras.export.saved_model import export_for_serving
from tnet_keras.export.tflite import export_tflite
from tnet_keras.export.warmup import write_warmup

__all__ = [
    "Predictor",
    "export_for_serving",
    "export_onnx",
    "export_tflite",
    "load_predictor",
    "write_warmup",
]
