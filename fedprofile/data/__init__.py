"""From files and packages to a checked Federation of numpy tables, and back.

Knows nothing of models, nodes or Flower; polars is imported only inside functions; no error shows a value of a row.
"""
