"""Hydra YAML, one folder a group; shipped as ``fedprofile.configs``. Holds no code."""
