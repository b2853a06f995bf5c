import re
import subprocess

from fedprofile.registry import provenance


def git(folder, *words):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_of_the_checkout_and_whether_it_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "fedprofile" / "simulation"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("1")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x", "--no-gpg-sign")
    commit = provenance.git_commit()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert commit == git(tmp_path, "rev-parse", "HEAD")
    (package / "provenance.py").write_text("2")
    assert provenance.git_commit() == commit + "-dirty"


def test_outside_a_checkout_or_without_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None
