"""What stops a prediction, said with the place and the mend."""

from iavlib.errors import PlacedError
from iavlib.execution.errors import ExecutionError


class PredictionError(PlacedError, ExecutionError, ValueError):
    """A model, an output folder or what lies beside a model is not what is needed.

    A single image that cannot be used is no error but a row of the result.
    """
