"""What a paper says, beside what was measured.

``book/claims.yml`` lists the claims; a notebook measures one by
:func:`record`; :func:`iavlib.claims.ledger.ledger` sets both side by side with
a verdict. The ledger is not imported here: notebooks do not depend on it.
"""

from iavlib.claims.recording import record

__all__ = ["record"]
