"""The bundle: a fused model as files that are verified before they are parsed, safetensors and JSON only.

No training, no network, no tracking server: those rooms call this one.
"""
