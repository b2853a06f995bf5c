"""Tracking and the model registry: the only room that imports mlflow, and only inside its functions.

Holds names, sums and finished reports; never a table, a label, a key or a partner's single value.
"""
