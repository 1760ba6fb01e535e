"""Export: models as files that other programs run."""

from tnet_keras.export.predictor import Predictor, load_predictor
from tnet_keras.export.saved_model import export_saved_model
from tnet_keras.export.tflite import export_tflite

__all__ = ["Predictor", "export_saved_model", "export_tflite", "load_predictor"]
