"""What can be wrong with a method for several annotators, or with what it is given."""


class MethodError(ValueError):
    """A method, one of its settings, or what it is asked for is not there or does not fit."""
