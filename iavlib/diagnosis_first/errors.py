"""What can be wrong with diagnosis-first networks, or with what they are given."""


class DiagnosisFirstError(ValueError):
    """A tensor, a name or a setting does not fit; the message says which and what to give."""
