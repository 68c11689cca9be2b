import io
import math

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from hlkit.explain import Explanation, explain_frame, find_frame, lime_figure, read_picture
from hlkit.frames import FrameReader
from hlkit.models import ModelConfig, build_model
from hlkit.project import HlkitError

SIZE = 64
CONFIG = ModelConfig(size=SIZE)


class StripedCorner(torch.nn.Module):
    """Scores how striped the upper left quarter is; a hidden part is flat, so what speaks for it is known."""

    def __init__(self, num_classes=2):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(4.0))
        self.num_classes = num_classes

    def forward(self, images):
        assert not self.training
        assert images.dtype == torch.uint8
        half = images.shape[-1] // 2
        stripes = images[:, :, :half, :half].float().diff(dim=-1).abs().mean((1, 2, 3)) / 255
        rest = [torch.zeros_like(stripes)] * (self.num_classes - 2)
        return torch.stack([torch.zeros_like(stripes), self.slope * (stripes - 0.25), *rest], dim=1)


@pytest.fixture
def picture():
    """Upright stripes, one pixel wide, 127 apart."""
    picture = np.full((SIZE, SIZE, 3), 60, dtype=np.uint8)
    picture[:, ::2] = 187
    return picture


def probability(stripes):
    return 1 / (1 + math.exp(-4 * (stripes - 0.25)))


def test_the_heat_lies_where_the_model_looks(picture):
    found = explain_frame(StripedCorner(), CONFIG, picture)
    assert found.score == pytest.approx(probability(127 / 255), abs=1e-6)
    assert found.class_name == "highlight"
    half = SIZE // 2
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[:half, :half] = True
    share = np.array([inside[found.segments == part].mean() for part in range(len(found.weights))])
    assert (share == 0).sum() > 10
    assert (share > 0.5).sum() > 4
    assert np.abs(found.weights[share == 0]).max() < 0.003
    assert found.weights[share > 0.5].min() > 0.01
    assert found.heat[:half, :half].sum() > 0.8 * found.heat.sum()
    assert found.fit > 0.95


def test_two_seeds_agree(picture):
    first, second = (explain_frame(StripedCorner(), CONFIG, picture, seed=seed) for seed in (0, 1))
    assert (first.weights != second.weights).any()
    assert np.corrcoef(first.weights, second.weights)[0, 1] > 0.95
    loudest = [set(np.argsort(-each.weights)[:4].tolist()) for each in (first, second)]
    assert len(loudest[0] & loudest[1]) >= 3


def test_weights_add_up_to_what_hiding_all_parts_changes(picture):
    found = explain_frame(StripedCorner(), CONFIG, picture)
    assert found.weights.sum() == pytest.approx(probability(127 / 255) - probability(0), rel=0.1)


def test_same_seed_same_explanation_and_batches_do_not_matter(picture):
    first = explain_frame(StripedCorner(), CONFIG, picture, seed=3)
    again = explain_frame(StripedCorner(), CONFIG, picture, seed=3)
    other = explain_frame(StripedCorner(), CONFIG, picture, seed=4)
    small = explain_frame(StripedCorner(), CONFIG, picture, seed=3, batch_size=7)
    np.testing.assert_array_equal(first.weights, again.weights)
    np.testing.assert_allclose(first.weights, small.weights, atol=1e-6)
    assert np.abs(first.weights - other.weights).max() > 1e-4


def test_parts_are_hidden_at_random_and_the_first_variant_is_whole(picture):
    seen = []

    class Recorder(StripedCorner):
        def forward(self, images):
            seen.append(images.permute(0, 2, 3, 1).numpy())
            return super().forward(images)

    explain_frame(Recorder(), CONFIG, picture, num_samples=200)
    variants = np.concatenate(seen[1:])  # the first call scores the picture itself
    assert len(variants) == 200
    np.testing.assert_array_equal(variants[0], picture)
    shown = (variants == picture).all(axis=(1, 2, 3))
    assert shown.sum() == 1
    assert (variants == picture).mean() == pytest.approx(0.5, abs=0.05)


def test_no_progress_bar_and_the_model_is_left_as_it_was(picture, capfd):
    model = StripedCorner().train()
    explain_frame(model, CONFIG, picture, num_samples=100)
    assert model.training
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_the_picture_is_brought_to_the_models_size(picture):
    found = explain_frame(StripedCorner(), ModelConfig(size=32), picture, num_samples=100)
    assert found.picture.shape == (32, 32, 3)


def test_the_most_probable_class_that_is_not_background_is_explained(picture):
    config = ModelConfig(size=SIZE, classes=("background", "kill", "death"))
    model = StripedCorner(3)
    assert explain_frame(model, config, picture * 0, num_samples=100).class_name == "death"
    assert explain_frame(model, config, picture, num_samples=100).class_name == "kill"
    assert explain_frame(model, config, picture, class_name="background", num_samples=100).class_name == "background"


def test_a_real_clip_model_sees_the_still_picture_repeated(picture):
    torch.manual_seed(0)
    config = ModelConfig(kind="clip", backbone="shufflenet_v2_x0_5", size=32, num_frames_per_clip=3, hidden_size=8)
    model = build_model(config)
    still = explain_frame(model, config, picture[:32, :32], num_samples=100)
    clip = np.stack([picture[:32, :32]] * 3)
    moving = explain_frame(model, config, clip[1], clip=clip, num_samples=100, batch_size=16)
    assert still.score == pytest.approx(moving.score, abs=1e-3)
    np.testing.assert_allclose(still.weights, moving.weights, atol=0.1 * np.abs(moving.weights).max())
    clip[0] //= 8
    changed = explain_frame(model, config, clip[1], clip=clip, num_samples=100)
    np.testing.assert_array_equal(changed.picture, picture[:32, :32])
    assert changed.score != still.score


def test_a_real_frame_model_is_explained(picture):
    config = ModelConfig(backbone="shufflenet_v2_x0_5", size=32)
    found = explain_frame(build_model(config), config, picture, num_samples=100)
    assert 0 < found.score < 1
    assert np.isfinite(found.weights).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"picture": np.zeros((8, 8), np.uint8)}, r"shape \(H, W, 3\).*\(8, 8\)"),
        ({"picture": np.zeros((8, 8, 3), np.float32)}, "uint8.*float32"),
        ({"picture": np.zeros((0, 8, 3), np.uint8)}, r"\(0, 8, 3\)"),
        ({"clip": np.zeros((4, 8, 8, 3), np.uint8)}, "single frames"),
        ({"class_name": "kill"}, "background, highlight"),
        ({"num_samples": 3}, "at least 100"),
        ({"num_segments": 1}, "2 segments"),
    ],
)
def test_what_cannot_be_explained(picture, change, reason):
    with pytest.raises(HlkitError, match=reason):
        explain_frame(StripedCorner(), CONFIG, **{"picture": picture, **change})


def test_an_explanation_checks_itself_and_prints_its_shape():
    picture, segments = np.zeros((2, 3, 3), np.uint8), np.array([[0, 0, 1], [0, 1, 1]])
    good = Explanation(picture, segments, np.array([0.5, -0.25]), "kill", 0.75, 0.9)
    assert good.heat.tolist() == [[0.5, 0.5, -0.25], [0.5, -0.25, -0.25]]
    assert repr(good) == "Explanation('kill', score=0.750, fit=0.90, 3x2 px, 2 parts)"
    with pytest.raises(HlkitError, match="3 weights"):
        Explanation(picture, segments, np.zeros(3), "kill", 0.75, 0.9)
    with pytest.raises(HlkitError, match="do not fit"):
        Explanation(picture[:1], segments, np.zeros(2), "kill", 0.75, 0.9)


def test_lime_figure_shows_what_speaks_for_and_against():
    segments = np.repeat(np.arange(4), 16).reshape(8, 8)
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    found = Explanation(picture, segments, np.array([0.5, -0.2, 0.01, 0.0]), "kill$", 0.75, 0.9)
    figure = lime_figure(found, title="a $b")
    left, middle, right = figure.axes[:3]
    np.testing.assert_array_equal(left.get_images()[0].get_array(), picture)
    np.testing.assert_array_equal(middle.get_images()[1].get_array(), found.heat)
    assert middle.get_images()[1].get_clim() == (-0.5, 0.5)
    assert [text.get_text() for text in right.texts] == ["+0.50", "-0.20"]
    assert [contour.linestyles for contour in right.collections] == ["solid", "dashed"]
    assert "0.75" in figure.get_suptitle()
    figure.savefig(io.BytesIO(), dpi=20)


def test_small_weights_keep_two_digits():
    segments = np.repeat(np.arange(2), 8).reshape(4, 4)
    found = Explanation(np.zeros((4, 4, 3), np.uint8), segments, np.array([0.0046, -0.002]), "kill", 0.2, 0.8)
    assert [text.get_text() for text in lime_figure(found).axes[2].texts] == ["+0.0046", "-0.0020"]


def test_lime_figure_of_a_model_that_sees_nothing():
    found = Explanation(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), int), np.zeros(1), "kill", 0.5, float("nan"))
    figure = lime_figure(found)
    assert list(figure.axes[2].texts) == []
    figure.savefig(io.BytesIO(), dpi=20)


FRAMES = pl.DataFrame({"video": "vod", "frame": range(9), "time": [frame / 3 for frame in range(9)]})


@pytest.mark.parametrize(("time", "frame"), [(0, 0), (0.333, 1), (0.6, 1), (1, 3), (2.7, 8), (2.99, 8)])
def test_find_frame_takes_what_is_on_screen(time, frame):
    assert find_frame(FRAMES, video="vod", time=time)["frame"] == frame


@pytest.mark.parametrize(
    ("video", "time", "reason"),
    [("vod", 3.5, "0:00:00 to 0:00:03"), ("vod", -1, "no frame at -0:00:01"), ("other", 1, "stored of: vod")],
)
def test_there_is_no_such_frame(video, time, reason):
    with pytest.raises(HlkitError, match=reason):
        find_frame(FRAMES, video=video, time=time)


def test_no_frame_is_found_in_a_hole():
    with pytest.raises(HlkitError, match="no frame at 0:00:01"):
        find_frame(FRAMES.filter(~pl.col("frame").is_between(2, 6)), video="vod", time=1.5)


def test_a_picture_is_read_and_a_damaged_one_is_named(tmp_path):
    (tmp_path / "vod").mkdir()
    Image.new("RGB", (8, 4), (250, 10, 10)).save(tmp_path / "vod" / "a.jpg")
    data = (tmp_path / "vod" / "a.jpg").read_bytes()
    (tmp_path / "vod" / "b.jpg").write_bytes(data[:4] + b"rubbish" * 9)
    row = {"video": "vod", "shard": "a.jpg", "offset": 0, "size": len(data), "time": 61.0}
    picture = read_picture(FrameReader(tmp_path), row)
    assert picture.shape == (4, 8, 3)
    np.testing.assert_allclose(picture.mean((0, 1)), [250, 10, 10], atol=3)
    with pytest.raises(HlkitError, match=r"b.jpg of 'vod' at 0:01:01.0 is damaged"):
        read_picture(FrameReader(tmp_path), row | {"shard": "b.jpg", "size": 67})
