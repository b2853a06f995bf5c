"""The bundle as an MLflow model: signature, input example, pinned requirements, registration.

``scorer_model.py`` is its code (models-from-code), the bundle's folder its only artefact: nothing is pickled.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprofile.mlflow_io.store import quiet_mlflow
from fedprofile.types import Task

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

    from fedprofile.registry.bundle import Bundle

ALIAS = "challenger"
ARTEFACT = "bundle"
TRUST, HOME = "trust", "home"
SCORING_NEEDS = ("cryptography", "mlflow", "numpy", "pandas", "scipy", "safetensors", "lightgbm", "torch")
CODE = Path(__file__).with_name("scorer_model.py")


def probability_columns(task: Task) -> list[str]:
    """``<task>.p`` of a need (that it is there), ``<task>.p0`` … of a tier."""
    return [f"{task.name}.p"] if task.kind == "binary" else [f"{task.name}.p{k}" for k in range(task.classes)]


def signature(bundle: Bundle) -> ModelSignature:
    """Inputs by name, of any type and optional; outputs as doubles and, for the likeliest class, longs.

    MLflow's own check of inputs is left nothing to refuse: its error repeats the rows that it was given, and it
    refuses whole numbers, truth values and all-missing columns for a double. ``Bundle.score_columns`` checks
    instead, by column name, without a value. Kinds and what is required are in the model's metadata (``columns``).
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    inputs: list[Any] = [ColSpec(AnyType(), name, required=False) for name in bundle.frame_columns]
    outputs: list[Any] = []
    for task in bundle.tasks:
        outputs += [ColSpec(DataType.double, name) for name in probability_columns(task)]
        outputs.append(ColSpec(DataType.long, task.name))
    return ModelSignature(Schema(inputs), Schema(outputs))


def input_example(bundle: Bundle) -> pd.DataFrame:
    """One made-up row, no customer's: zeros, an unseen category, every role knowing the customer."""
    import pandas as pd

    row: dict[str, Any] = dict.fromkeys(bundle.frame_columns, 0.0)
    row |= dict.fromkeys(bundle.schema.categorical, "other")
    row |= {name: 1.0 for name in bundle.view_columns if name.startswith("known.")}
    return pd.DataFrame([row])


def columns(bundle: Bundle) -> dict[str, list[str]]:
    """Names by kind; ``optional`` ones are numbers that come all or not at all."""
    return {
        "numeric": list(bundle.schema.numeric),
        "categorical": list(bundle.schema.categorical),
        "optional": list(bundle.view_columns),
    }


def requirements() -> list[str]:
    """What scoring needs, as installed here; local build tags such as ``+cpu`` are dropped, as no index has them."""
    pinned = [f"{name}=={version(name).split('+')[0]}" for name in SCORING_NEEDS]
    return [f"fedprofile=={_own_version()}", *pinned]


def log_bundle(
    client: MlflowClient, uri: str, run_id: str, step: int, bundle: Path, register_as: str | None
) -> str | None:
    """Log ``bundle`` as model of the run; returns the new version if registered, with alias ``challenger``.

    The model takes over the run's metrics of ``step``.
    """
    from fedprofile.registry.bundle import open_bundle
    from fedprofile.registry.serving import served

    opened = open_bundle(bundle)
    mlflow = quiet_mlflow()
    run = client.get_run(run_id)
    # created here, as MLflow would otherwise file it under the global default experiment
    logged = client.create_logged_model(
        run.info.experiment_id, name="model", source_run_id=run_id, params=dict(run.data.params)
    )
    with _tracking_at(uri):
        mlflow.models.Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            model_id=logged.model_id,
            step=step,
            python_model=str(CODE),
            artifacts={ARTEFACT: str(bundle.resolve())},
            signature=signature(opened),
            input_example=input_example(opened),
            pip_requirements=requirements(),
            # MLflow lets a caller set at load only what was there when the model was logged
            model_config={TRUST: [], HOME: ""},
            metadata={"columns": columns(opened), "served": served(opened.meta)},
        )
        return None if register_as is None else _register(client, register_as, run_id, logged.model_id)


def _register(client: MlflowClient, name: str, run_id: str, model_id: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(name, f"models:/{model_id}", run_id, model_id=model_id)
    client.set_registered_model_alias(name, ALIAS, str(made.version))
    return str(made.version)


def _own_version() -> str:
    try:
        return version("fedprofile")
    except PackageNotFoundError:
        # a source tree that is run without being installed
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["version"])


@contextmanager
def _tracking_at(uri: str) -> Iterator[None]:
    # logging and registering a model know only MLflow's global store, which is the user's own setting
    mlflow = quiet_mlflow()
    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
