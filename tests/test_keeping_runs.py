"""What the training stage pushes while it runs, without training anything."""

import pytest
from stored import tree, write

from hlkit import stages
from hlkit.project import HlkitWarning, Project
from hlkit.stages import keeping

RUN = {"models/first/last.ckpt": b"epoch 0", "models/first/best.ckpt": b"epoch 0", "models/first/metrics.csv": b"0"}


@pytest.fixture
def project(tmp_path) -> Project:
    files = {"labels/a.csv": b"a", "models/other/model.ckpt": b"other"}
    project = Project(write(tmp_path / "project", files))
    stages.push(project, str(tmp_path / "store"), only=["labels"], progress=False, say=lambda line: None)
    write(project.root, RUN)
    return project


def models(project: Project) -> dict[str, bytes]:
    store = project.root.with_name("store")
    return {key: data for key, data in tree(store).items() if key.startswith("models/")}


def test_without_a_store_nothing_is_kept(tmp_path):
    assert keeping.checkpoint_keeper(Project(tmp_path), "first") is None
    keeping.keep_finished_run(Project(tmp_path), "first")


def test_checkpoints_are_pushed_once_in_five_minutes(project, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(keeping.time, "monotonic", lambda: now[0])
    keep = keeping.checkpoint_keeper(project, "first")
    assert keep is not None
    now[0] += 299
    keep()
    assert models(project) == {}
    now[0] += 1
    keep()
    assert models(project) == RUN
    write(project.root, {"models/first/last.ckpt": b"epoch 1"})
    keep()
    assert models(project) == RUN
    now[0] += 300
    keep()
    assert models(project)["models/first/last.ckpt"] == b"epoch 1"


def test_a_machine_that_is_lost_leaves_what_a_new_one_resumes_from(project, tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "CHECKPOINT_SECONDS", 0)
    keep = keeping.checkpoint_keeper(project, "first")
    assert keep is not None
    keep()
    new = Project(tmp_path / "new")
    stages.pull(new, str(tmp_path / "store"), runs=["first"], progress=False, say=lambda line: None)
    assert {key: data for key, data in tree(new.root).items() if key in RUN} == RUN


def test_a_finished_run_takes_the_place_of_its_checkpoints(project, monkeypatch):
    monkeypatch.setattr(keeping, "CHECKPOINT_SECONDS", 0)
    keep = keeping.checkpoint_keeper(project, "first")
    assert keep is not None
    keep()
    for name in ("last", "best"):
        (project.root / f"models/first/{name}.ckpt").unlink()
    write(project.root, {"models/first/model.ckpt": b"best"})
    keeping.keep_finished_run(project, "first")
    assert models(project) == {"models/first/model.ckpt": b"best", "models/first/metrics.csv": b"0"}


def test_a_store_that_is_gone_does_not_end_the_training(project, monkeypatch):
    monkeypatch.setattr(keeping, "CHECKPOINT_SECONDS", 0)
    (project.root.with_name("store") / "manifest.json").write_bytes(b"{broken")
    keep = keeping.checkpoint_keeper(project, "first")
    assert keep is not None
    with pytest.warns(HlkitWarning, match=r"checkpoints of first were not pushed: .*manifest\.json"):
        keep()
