"""Export: models as files that other programs run."""

from tnet_keras.export.saved_model import export_saved_model

__all__ = ["export_saved_model"]
