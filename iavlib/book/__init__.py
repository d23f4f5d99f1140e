"""From notebooks to the book: run them, compare their results with the papers' claims, build pages.

- :mod:`iavlib.book.plan` makes what is asked for: experiments, notebooks, the book, in this order;
- :mod:`iavlib.book.notebooks` runs one notebook (:mod:`iavlib.book.jobs` defines when its last
  result holds, :mod:`iavlib.book.parameters` its parameters);
- :mod:`iavlib.book.claims` compares ``book/claims.yml`` with what was measured;
- :mod:`iavlib.book.site` builds the book from what runs left.

A notebook itself needs :func:`record` for what it measured, :func:`keep` for tables that are to be
stored and :func:`stored_tables` for those that are, :func:`banner`, :class:`InShort` and
:func:`figure` for what it shows, and :func:`finish` in its last cell.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
