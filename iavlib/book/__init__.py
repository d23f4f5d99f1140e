"""Making the book: pages of what notebooks left, assembled, built with warnings as errors, checked.

:mod:`iavlib.book.site` is the way in. What is run, and whether it is still current, is decided by
:mod:`iavlib.execution`; here nothing computed is changed.
"""
