from datetime import UTC, datetime

import numpy as np
import pytest

from fedprofile.errors import ConfigError
from fedprofile.governance.permits import permit_named


def test_simulated_consent_covers_everybody():
    permit = permit_named("simulated")
    allowed = permit.allowed(np.array(["a", "b"]), "training", datetime.now(UTC))
    assert allowed.tolist() == [True, True]
    assert allowed.dtype == np.bool_


def test_no_other_consent_is_made_up():
    with pytest.raises(ConfigError) as error:
        permit_named("ledger")
    assert error.value.key == "federation.consent"
