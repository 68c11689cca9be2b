"""The form that says where a project is kept."""

import os
import sys
import types
from pathlib import Path

import pytest

from hlkit import notebook
from hlkit.object_store import VARIABLES
from hlkit.project import HlkitError, Project

PROJECT = Project(Path("/streams/my-stream"))
SECRETS = dict.fromkeys(notebook.R2_SECRETS, "x")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*VARIABLES, "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_nothing_chosen_is_a_folder_beside_the_project():
    assert notebook.choose_store(PROJECT, "try it") == "/streams/my-stream-store"


def test_a_folder():
    assert notebook.choose_store(PROJECT, "folder", " /media/usb ") == "/media/usb/my-stream"
    with pytest.raises(HlkitError, match="Type the folder's name"):
        notebook.choose_store(PROJECT, "folder")


@pytest.mark.parametrize(
    ("name", "address"), [("my-bucket", "r2://my-bucket/my-stream"), ("s3://other/x", "s3://other/x")]
)
def test_a_bucket(name, address, environment):
    for key, value in SECRETS.items():
        environment.setenv(key, value)
    assert notebook.choose_store(PROJECT, "Cloudflare R2", name) == address


def test_missing_secrets_and_bucket_are_named_in_plain_words(environment):
    with pytest.raises(HlkitError, match=r"R2_ACCOUNT_ID and R2_ACCESS_KEY_ID and R2_SECRET.*key symbol.*R2\.md"):
        notebook.choose_store(PROJECT, "Cloudflare R2", "my-bucket")
    environment.setenv("HLKIT_S3_ENDPOINT", "https://s3.example.org")
    with pytest.raises(HlkitError, match=r"^R2 needs R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY\. "):
        notebook.choose_store(PROJECT, "Cloudflare R2", "my-bucket")
    for key, value in SECRETS.items():
        environment.setenv(key, value)
    with pytest.raises(HlkitError, match="Type your bucket's name"):
        notebook.choose_store(PROJECT, "Cloudflare R2")


@pytest.fixture
def mounted(environment):
    """Colab, as far as it is asked for here: what was mounted, and a store of secrets."""
    mounted, colab = [], types.ModuleType("google.colab")
    userdata = types.SimpleNamespace(get=SECRETS.__getitem__, SecretNotFoundError=OSError, NotebookAccessError=OSError)
    colab.__dict__.update(drive=types.SimpleNamespace(mount=mounted.append), userdata=userdata)
    environment.setitem(sys.modules, "google.colab", colab)
    environment.setattr(notebook, "find_spec", lambda name: True)
    environment.setenv("COLAB_RELEASE_TAG", "x")
    for name in SECRETS:
        environment.setenv(name, "")
    return mounted


def test_drive_is_refused_outside_colab():
    with pytest.raises(HlkitError, match="in Colab alone"):
        notebook.choose_store(PROJECT, "Google Drive")


@pytest.mark.parametrize(
    ("store", "mounts"), [("/content/drive/MyDrive/hlkit/x", ["/content/drive"]), ("r2://my-bucket/x", []), ("/x", [])]
)
def test_opening_a_project_makes_its_store_usable(store, mounts, mounted, environment, tmp_path):
    environment.setenv("HLKIT_HOME", str(tmp_path))
    Project(tmp_path / "mine").save_settings(store=store)
    notebook.open_project("mine")
    assert mounted == mounts
    assert {name for name in SECRETS if os.environ[name]} == (set(SECRETS) if store.startswith("r2:") else set())


def test_drive_is_mounted_in_colab(mounted):
    assert notebook.choose_store(PROJECT, "Google Drive") == "/content/drive/MyDrive/hlkit/my-stream"
    assert mounted == ["/content/drive"]


def test_names_in_a_field():
    assert notebook.names(" a, b c,") == ["a", "b", "c"]
    assert notebook.names("") == []
