"""What all tests share: hypothesis without a clock, a project on which every stage has been run, an S3 server.

Its recordings are plain, and a sequence model begins as a linear one that is fitted exactly, so the project's networks
learn from `LESSONS` batches instead of 200. How well one learns from all is the matter of `test_sequence.py`.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes share the cores; what they start takes this from them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from stored import KEYS

from hlkit import stages
from hlkit.project import Project
from hlkit.video import find_ffmpeg

# A test fails for what it finds and not for a machine that is busy.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

LESSONS = 80
SECONDS = 90
HIGHLIGHTS = {"learn": [(8, 14), (37, 44), (66, 75)], "judge": [(15, 23), (50, 57)]}


def make_recording(path: Path, spans: list[tuple[int, int]], *, seed: int) -> None:
    """A noisy blue recording with a quiet tone; in the spans it is red and loud."""
    red = "+".join(f"between(t,{start},{end}-0.001)" for start, end in spans)
    noise = f"noise=alls=30:all_seed={seed}:allf=t"
    picture = (
        f"color=c=0x3030c0:s=64x64:r=10:d={SECONDS},drawbox=c=0xc03030:t=fill:enable='{red}',{noise},format=yuv420p"
    )
    sound = f"aevalsrc=exprs='(0.02+0.3*({red}))*sin(440*2*PI*t)':s=16000:d={SECONDS}"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-c:a", "aac"]
    subprocess.run([find_ffmpeg(), "-y", "-loglevel", "error", *inputs, *codecs, str(path)], check=True)


def write_label_file(path: Path, video: str) -> Path:
    rows = [f"{video},{start},{end},highlight\n" for start, end in HIGHLIGHTS[video]]
    path.write_text("video,start,end,label\n" + "".join(rows))
    return path


def prepare(project: Project, sources: Path, *, say=lambda line: None) -> None:
    """Bring both recordings into the project, up to labels."""
    for video in HIGHLIGHTS:
        stages.download(project, str(sources / f"{video}.mp4"), progress=False, say=say)
        stages.label(project, sources / f"{video}.csv", say=say)
    stages.frames(project, size=32, progress=False, say=say)


def finish(project: Project, *, say=lambda line: None) -> None:
    """Learn from one recording, and cut the other one's reel."""
    stages.train(project, videos=["learn"], epochs=4, progress=False, say=say)
    stages.infer(project, progress=False, say=say)
    stages.timeline(project, window_seconds=2, say=say)
    stages.reel(project, progress=False, say=say)
    stages.score(project, say=say)
    stages.explain(project, say=say)


@pytest.fixture(scope="session")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for seed, (video, spans) in enumerate(HIGHLIGHTS.items()):
        make_recording(folder / f"{video}.mp4", spans, seed=seed)
        write_label_file(folder / f"{video}.csv", video)
    return folder


def shorten_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    from hlkit.sequence_training import fit_sequence

    monkeypatch.setitem(fit_sequence.__kwdefaults__, "steps", LESSONS)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, sources) -> tuple[Project, list[str]]:
    """A project on which every stage has been run, and the lines that they said. Tests must not change it."""
    project, said = Project(tmp_path_factory.mktemp("finished")), []
    prepare(project, sources, say=said.append)
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten_lessons(monkeypatch)
        finish(project, say=said.append)
    return project, said


@pytest.fixture
def copied(finished, tmp_path, monkeypatch) -> Project:
    """A copy of the finished project, which a test may change, and train again as shortly."""
    shorten_lessons(monkeypatch)
    return Project(Path(shutil.copytree(finished[0].root, tmp_path / "project")))


@pytest.fixture(scope="session")
def s3_endpoint():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint, monkeypatch, request):
    """A client, the name of its fresh bucket, and the address of a prefix in it; the environment is set for hlkit."""
    import boto3

    from hlkit.object_store import VARIABLES

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**KEYS, "HLKIT_S3_ENDPOINT": s3_endpoint, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    bucket = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, **keys)
    client.create_bucket(Bucket=bucket)
    return client, bucket, f"r2://{bucket}/my/stream"


@pytest.fixture(params=["folder", "s3"])
def address(request, tmp_path):
    return request.getfixturevalue("s3")[2] if request.param == "s3" else str(tmp_path / "store")


@pytest.fixture
def impatient(monkeypatch):
    """The waits between tries, a hundredth as long: their order is the same, and what they wait for is not."""
    from botocore.retries import standard

    real = standard.ExponentialBackoff.delay_amount
    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *args: real(*args) / 100)
