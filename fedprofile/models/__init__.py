"""What is learnt: features, networks, trees, fusion and their measures, as pure functions of arrays.

No file, socket, id, key or configuration may appear here; only ``types``, ``errors`` and ``aggregation`` are imported.
"""
