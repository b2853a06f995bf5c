"""Work that is spread over threads: every job once, buffers once a thread, errors are not lost."""

from __future__ import annotations

import pytest

from fedprofile.secagg.threads import spread


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("jobs", [0, 1, 3, 100])
def test_every_job_is_done_once(threads, jobs):
    parts = spread(list, range(jobs), threads)
    assert sorted(j for part in parts for j in part) == list(range(jobs))
    assert len(parts) == max(1, min(threads, jobs))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_any_thread_is_raised(threads):
    def work(jobs):
        for job in jobs:
            if job == 7:
                raise ArithmeticError("seven")

    with pytest.raises(ArithmeticError, match="seven"):
        spread(work, range(20), threads)
