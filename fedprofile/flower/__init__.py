"""The only room that imports flwr: one ServerApp, one ClientApp, and the places they run in."""

import os

# flwr reads these when it is imported: a bank's run tells nobody that it happens.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
