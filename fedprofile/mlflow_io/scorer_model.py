"""The models-from-code script of the registered model: MLflow copies this file into the artefact and runs it at load.

Rows of bank features, with or without the partners' summed scores, to probabilities. Everything it needs
lies in the bundle beside it: safetensors, JSON and boosters in their text form.
"""

from __future__ import annotations

import logging
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from fedprofile.mlflow_io.model import ARTEFACT, HOME, TRUST, probability_columns
from fedprofile.node.home import NodeHome
from fedprofile.registry.bundle import open_bundle
from fedprofile.registry.seal import parse_keys
from fedprofile.registry.serving import kept_runs, why_bank_alone

log = logging.getLogger(__name__)


class ProfileScorer(PythonModel):
    """Tier and need probabilities of a bundle."""

    def load_context(self, context: Any) -> None:
        """Verify and open the bundle; raises DataError where it is damaged or not signed by a trusted key.

        ``mlflow.pyfunc.load_model(uri, model_config={"trust": ["<64 hex digits>"]})`` names the keys that are trusted;
        ``"home": DIR``, the label owner's, lets it know which runs' encoders the partners still keep.
        """
        settings = context.model_config or {}
        keys, home = settings.get(TRUST), settings.get(HOME)
        trust = parse_keys(keys, f"model_config[{TRUST!r}]") if keys else None
        self.bundle = open_bundle(context.artifacts[ARTEFACT], trust)
        self.alone = why_bank_alone(self.bundle.meta, kept_runs(NodeHome(home)) if home else None)
        if self.alone:
            log.warning("the model is served bank alone, whatever columns of partners it is given: %s", self.alone)
        if not self.bundle.seal.pinned:
            log.warning("the bundle is signed by the key inside it; model_config={'trust': [KEY]} asks for one")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """(n, columns) to one row a customer, same index.

        A tier of K classes gives ``<task>.p0`` … ``<task>.p<K-1>``, a need ``<task>.p``; ``<task>`` is the most
        likely class. Missing values are NaN or None. The partners' columns (``score.…``, ``known.…``) come all
        or not at all; without them, where they are missing in a row, or where the partners do not keep this
        version's encoders, the score is that of the bank alone.
        """
        taken = self.bundle.schema.columns if self.alone else self.bundle.frame_columns
        wanted = [name for name in taken if name in model_input]
        scores = self.bundle.score_columns({name: model_input[name].to_numpy() for name in wanted})
        out: dict[str, Any] = {}
        for task in self.bundle.tasks:
            names, p = probability_columns(task), scores[task.name]
            # of a need's two columns only the last, that it is there
            out |= dict(zip(names, p.T[-len(names) :], strict=True))
            out[task.name] = self.bundle.decide(task, p)
        return pd.DataFrame(out, index=model_input.index)


mlflow.models.set_model(ProfileScorer())
