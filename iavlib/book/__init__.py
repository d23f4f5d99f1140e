"""Making the book: pages of what notebooks left, assembled, built with warnings as errors, checked.

:mod:`iavlib.book.site` is the way in. What is run, and whether it is still current, is decided by
:mod:`iavlib.book`; here nothing computed is changed.

What a paper says, beside what was measured.

``book/claims.yml`` lists the claims; a notebook measures one by
:func:`record`; :func:`iavlib.book.claims.ledger` sets both side by side with
a verdict. The ledger is not imported here: notebooks do not depend on it.

Running notebooks headlessly, one by one or as a batch, and keeping what each run did.

A notebook run counts as done only when its process ended well *and* the
notebook's last cell wrote a valid manifest (:mod:`iavlib.book.manifest`).
Whether a run is still current is decided by its fingerprint
(:mod:`iavlib.book.fingerprint`). This package decides what is done; it
schedules nothing.

A notebook itself needs two modules: :mod:`iavlib.book.manifest` in its
last cell and :mod:`iavlib.book.pages` for the banner at its top.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
