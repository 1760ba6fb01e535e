"""Export: models as files that other programs run."""

from tnet_keras.export.saved_model import export_for_serving
from tnet_keras.export.warmup import write_warmup

__all__ = ["export_for_serving", "write_warmup"]
