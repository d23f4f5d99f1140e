"""What can be wrong with a network, its heads or its weights, and the mend."""


class ModelError(ValueError):
    """A network was asked for that cannot be built, or tensors do not fit it."""


class UnknownBackboneError(ModelError):
    """No backbone of this name; the message names the near ones."""


class WeightsUnavailable(ModelError):
    """Weights were asked for that are neither on this machine nor to be had from it."""

    def __init__(self, backbone: str, source: str, reason: str, mend: str):
        self.backbone, self.source, self.reason, self.mend = backbone, source, reason, mend
        super().__init__(
            f"weights {source!r} of backbone {backbone!r} cannot be had: {reason}. "
            f"To get them: {mend}."
        )
