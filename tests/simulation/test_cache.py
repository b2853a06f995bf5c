"""What an earlier run computed is found again, exactly, and made only once."""

import numpy as np

from fedprofile.simulation.cache import Cache


def test_probabilities_are_made_once_and_come_back_exactly(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"network": {"tier": np.array([[0.1, 0.9]]), "need": np.array([[1 / 3, 2 / 3]])}}

    cache = Cache(tmp_path / "cache")
    first, second = (cache.probabilities(["a", 1], make) for _ in range(2))
    assert made == [1]
    for found in (first, second):
        assert found["network"]["need"].tolist() == [[1 / 3, 2 / 3]]
    cache.probabilities(["a", 2], make)
    assert made == [1, 1]


def test_the_banks_models_come_back_with_equal_predictions(tmp_path, fused):
    bank, table = fused.bank, fused.data.table
    cache = Cache(tmp_path)
    for _ in range(2):
        kept = cache.bank(["k"], lambda: bank)
        for task, p in bank.predict(table).items():
            assert np.array_equal(kept.predict(table)[task], p)
        assert np.array_equal(kept.log_odds(table), bank.log_odds(table))
    assert [f.suffix for f in tmp_path.iterdir()] == [".safetensors"]
