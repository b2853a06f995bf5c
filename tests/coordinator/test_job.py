from fedprofile.coordinator.job import Job


def test_a_job_survives_its_file(roles):
    again = Job.from_json(roles.job.to_json())
    assert again == roles.job
    assert (again.plan.hash, again.roster.hash) == (roles.job.plan.hash, roles.job.roster.hash)
    assert again.to_json() == roles.job.to_json()
