"""Running notebooks headlessly, one by one or as a batch, and keeping what each run did.

A notebook run counts as done only when its process ended well *and* the
notebook's last cell wrote a valid manifest (:mod:`iavlib.execution.manifest`).
Whether a run is still current is decided by its fingerprint
(:mod:`iavlib.execution.fingerprint`). This package decides what is done; it
schedules nothing.

A notebook itself needs two modules: :mod:`iavlib.execution.manifest` in its
last cell and :mod:`iavlib.execution.pages` for the banner at its top.
"""
