"""What a run is made of: typed configuration, its checks, and its composition from YAML and overrides.

The only room that imports Hydra; nothing is ever instantiated from a config.
"""
