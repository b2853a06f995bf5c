"""`fedprofile ui`: the MLflow UI on the tracking store, with one worker and no job runners."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb `ui`."""
    parser = subparsers.add_parser(
        "ui",
        help="look at runs and models in MLflow's UI",
        description="Start MLflow's UI, light, until Ctrl-C.",
        epilog="example:\n  fedprofile ui --port 5001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--uri", metavar="URI", help="tracking store (default: mlflow.db under FEDPROFILE_HOME)")
    parser.add_argument("--port", type=int, default=5000, help="port on this machine (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from fedprofile.config.folder import home
    from fedprofile.errors import UsageError
    from fedprofile.mlflow_io.store import default_uri, sqlite_path
    from fedprofile.mlflow_io.ui import serve

    uri = args.uri or default_uri(home())
    file = sqlite_path(uri)
    if file is not None and not file.is_file():
        raise UsageError(f"there is no tracking store at {file} yet", "Run `fedprofile train` first, or name --uri.")
    return serve(uri, args.port)
