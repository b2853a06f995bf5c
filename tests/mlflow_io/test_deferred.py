"""The run is opened late, misses nothing, and is closed as what happened."""

import pytest

from fedprofile.errors import ConfigError
from fedprofile.mlflow_io.deferred import DeferredRun


class Recorder:
    """Stands for a TrackingRun: what was called, in order."""

    run_id = "r"

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *given: self.calls.append((name, *given))

    def __exit__(self, kind, error, trace):
        self.calls.append(("exit", kind))


def test_opens_with_the_second_round_and_keeps_the_order():
    opened = []

    def start():
        opened.append(Recorder())
        return opened[-1]

    with DeferredRun(start) as run:
        run.log_config({"a": 1}, "sha")
        run.log_dataset("d", "digest", {})
        run.log_round(1, {"loss": 2.0})
        assert not opened
        run.log_round(2, {"loss": 1.0})
        assert len(opened) == 1
        run.log_round(3, {"loss": 0.5})
    names = [call[0] for call in opened[0].calls]
    assert names == ["log_config", "log_dataset", "log_round", "log_round", "log_round", "exit"]
    assert [call[1] for call in opened[0].calls if call[0] == "log_round"] == [1, 2, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_early_end_still_leaves_a_run(error):
    recorder = Recorder()

    def fails():
        with DeferredRun(lambda: recorder) as run:
            run.log_config({}, "sha")
            raise error

    with pytest.raises(error):
        fails()
    assert recorder.calls == [("log_config", {}, "sha"), ("exit", error)]


def test_a_store_that_cannot_be_used_never_hides_what_ended_the_run(caplog):
    def start():
        raise ConfigError("tracking.uri", "MLflow cannot use this store")

    with pytest.raises(ZeroDivisionError), DeferredRun(start):
        raise ZeroDivisionError
    assert "MLflow cannot use this store" in caplog.text
    with pytest.raises(ConfigError), DeferredRun(start) as run:
        run.log_config({}, "sha")
