import json
import warnings
from fractions import Fraction

import pytest
import torch
import torchvision
from torch import nn

from hlkit.backbones import IMAGENET_MEAN, IMAGENET_STD, backbones, load_file
from hlkit.models import ModelConfig, ResNetClassifier, RNNClassifier, build_model
from hlkit.project import HlkitError, HlkitWarning

QUICK = ["resnet18", "mobilenet_v3_small"]
SLOW = [
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "regnet_y_400mf",
    "densenet121",
    "shufflenet_v2_x0_5",
    "swin_t",
]
FAMILIES = QUICK + [pytest.param(name, marks=pytest.mark.slow) for name in SLOW]


@pytest.fixture(autouse=True)
def one_thread():
    """On pictures this small a second thread waits more than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# In double precision, so that nothing but another order of sums is forgiven.
ROUNDING = 1e-9


def seen(model, images):
    """The model as after training: its batch normalisation has statistics, so that pictures make a difference."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
    return model.eval()


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("rnn", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_clips_logits_are_the_same_alone_and_in_any_batch(backbone, rnn, bidirectional):
    torch.manual_seed(1)
    clips = torch.rand(5, 4, 3, 32, 32).double()
    model = RNNClassifier(backbone, 3, rnn=rnn, bidirectional=bidirectional, hidden_size=16, image_size=32)
    model = seen(model.double(), clips)
    with torch.inference_mode():
        alone = torch.cat([model(clip[None]) for clip in clips])
        together = model(clips)
        backwards = model(clips.flip(0)).flip(0)
        by_parts = model.classify(torch.stack([model.features(clip) for clip in clips]))
    assert alone.shape == (5, 3)
    scale = alone.std(dim=0).mean()
    differences = torch.cdist(alone, alone) + torch.eye(5)
    assert differences.min() > 1e6 * ROUNDING * scale  # else the comparisons below would see nothing
    for other in (together, backwards, by_parts):
        assert (other - alone).abs().max() < ROUNDING * scale


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_pictures_logits_are_the_same_alone_and_in_any_batch(backbone):
    torch.manual_seed(1)
    images = torch.rand(6, 3, 32, 32).double()
    model = seen(ResNetClassifier(backbone, 4, image_size=32).double(), images)
    with torch.inference_mode():
        alone = torch.cat([model(image[None]) for image in images])
        together = model(images)
        features = model.features(images)
    assert features.shape == (6, model.backbone.num_features)
    assert model.classifier.in_features == model.backbone.num_features
    assert (together - alone).abs().max() < ROUNDING * alone.std(dim=0).mean()


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("resnet18", 512), ("mobilenet_v3_small", 1024), pytest.param("resnet50", 2048, marks=pytest.mark.slow)],
)
def test_the_feature_width_is_read_from_the_network(backbone, width):
    assert RNNClassifier(backbone).backbone.num_features == width


def test_the_answer_is_for_the_centre_frame_when_both_directions_meet_there():
    model = RNNClassifier("resnet18", 2, hidden_size=8).eval()
    features = torch.randn(1, 5, 512)
    states, _ = model.rnn(features)
    assert torch.equal(model.classify(features), model.classifier(states[:, 2]))
    forwards = RNNClassifier("resnet18", 2, hidden_size=8, bidirectional=False).eval()
    states, _ = forwards.rnn(features)
    assert torch.equal(forwards.classify(features), forwards.classifier(states[:, 4]))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_every_frame_of_a_clip_counts(bidirectional):
    torch.manual_seed(0)
    model = RNNClassifier("resnet18", 2, hidden_size=8, bidirectional=bidirectional).eval()
    features = torch.randn(1, 6, 512, requires_grad=True)
    model.classify(features)[0, 0].backward()
    assert (features.grad[0].abs().sum(dim=1) > 0).all()


def test_normalisation_is_inside_and_the_same_for_bytes_and_fractions():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    model = ResNetClassifier().eval()
    reference = torchvision.models.resnet18()
    reference.load_state_dict(model.backbone.network.state_dict(), strict=False)
    reference.fc = nn.Identity()
    normalised = torchvision.transforms.functional.normalize(pixels / 255, IMAGENET_MEAN, IMAGENET_STD)
    with torch.inference_mode():
        assert torch.equal(model(pixels), model(pixels / 255))
        torch.testing.assert_close(model.features(pixels), reference.eval()(normalised), rtol=1e-4, atol=1e-5)


def test_pretrained_weights_that_cannot_be_fetched_are_a_warning(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setenv("no_proxy", "")
    with pytest.warns(HlkitWarning, match="resnet18 could not be had .*random weights"):
        model = ResNetClassifier("resnet18", weights="DEFAULT")
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    assert capsys.readouterr().out == ""


def test_pretrained_weights_come_from_the_cache(monkeypatch, tmp_path):
    donor = torchvision.models.mobilenet_v3_small()
    weights = torchvision.models.get_model_weights("mobilenet_v3_small")["DEFAULT"]
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(donor.state_dict(), folder / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = ResNetClassifier("mobilenet_v3_small", weights="DEFAULT")
    assert torch.equal(model.backbone.network.features[0][0].weight, donor.features[0][0].weight)


def test_weights_come_from_a_state_dict_or_an_hlkit_checkpoint(tmp_path):
    torch.manual_seed(3)
    donor = torchvision.models.resnet18()
    torch.save(donor.state_dict(), tmp_path / "plain.pt")
    model = ResNetClassifier("resnet18", 5, weights=tmp_path / "plain.pt")
    assert torch.equal(model.backbone.network.conv1.weight, donor.conv1.weight)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "hlkit": {}}, tmp_path / "model.ckpt")
    clip = RNNClassifier("resnet18", weights=str(tmp_path / "model.ckpt"))
    assert torch.equal(clip.backbone.network.layer4[1].conv2.weight, donor.layer4[1].conv2.weight)
    with pytest.raises(HlkitError, match=r"plain.pt do not fit resnet34"):
        ResNetClassifier("resnet34", weights=tmp_path / "plain.pt")


@pytest.mark.slow
def test_a_vision_transformers_weights_fit_another_size(tmp_path):
    donor = torchvision.models.vit_b_16(image_size=64)
    torch.save(donor.state_dict(), tmp_path / "vit.pt")
    model = ResNetClassifier("vit_b_16", weights=tmp_path / "vit.pt", image_size=32)
    assert torch.equal(model.backbone.network.conv_proj.weight, donor.conv_proj.weight)
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 2)


def test_bad_weights_files_are_named(tmp_path):
    torch.save(ResNetClassifier("mobilenet_v3_small").state_dict(), tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    contents = {"short": whole[: len(whole) // 2], "flipped": bytes(flipped), "text": b"hello", "empty": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(HlkitError, match=f"{name} is damaged or not a checkpoint"):
            load_file(tmp_path / name)
    with pytest.raises(HlkitError, match="There is no file"):
        load_file(tmp_path / "nowhere.pt")
    for content in (b"junk", b"i", b"\x80\x02c", b"r\x00", b"(d", b"0", b"u.", b"\x8a\xff"):
        (tmp_path / "junk.mp4").write_bytes(content)
        with pytest.raises(HlkitError, match=r"junk\.mp4 is damaged or not a checkpoint"):
            load_file(tmp_path / "junk.mp4")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(HlkitError, match="holds a list"):
        load_file(tmp_path / "list.pt")


class Trap:
    """Code that would run if a checkpoint were unpickled without care."""

    def __reduce__(self):
        return (warnings.warn, ("the trap has sprung", RuntimeWarning))


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(HlkitError, match="damaged or not a checkpoint"):
            load_file(tmp_path / "trap.pt")


def test_names_and_sizes_that_do_not_fit_say_what_does():
    with pytest.raises(HlkitError, match=r"no backbone 'resnet81'; .*resnet18"):
        ResNetClassifier("resnet81")
    with pytest.raises(HlkitError, match="multiple of 16 px; 40 px is not"):
        ResNetClassifier("vit_b_16", image_size=40)
    assert {"resnet18", "resnext50_32x4d", "convnext_tiny", "vit_b_16", "efficientnet_b0"} <= set(backbones())


def test_a_config_checks_itself_and_survives_json():
    config = ModelConfig(kind="clip", classes=("background", "kill", "win"), fps="30000/1001", rnn="lstm")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.frame_rate == Fraction(30000, 1001)
    assert ModelConfig(fps=Fraction(1, 2)).fps == "1/2"
    assert ModelConfig(fps=3).fps == "3"
    for values, message in (
        ({"kind": "video"}, "kind is 'video'; frame and clip"),
        ({"fps": "fast"}, "fast"),
        ({"fps": 0}, "0"),
        ({"classes": ("one",)}, "two or more"),
        ({"classes": ("a", "b", "a")}, "different"),
        ({"rnn": "rwkv"}, "lstm and gru"),
        ({"size": 0}, "size is 0"),
        ({"num_frames_per_clip": 0}, "num_frames_per_clip is 0"),
    ):
        with pytest.raises(HlkitError, match=message):
            ModelConfig(**values)
    with pytest.raises(HlkitError, match=r"\['depth'\].*update hlkit"):
        ModelConfig.from_dict({"depth": 3})


def test_build_model_follows_the_config():
    frame = build_model(ModelConfig(backbone="mobilenet_v3_small", classes=("a", "b", "c")))
    assert isinstance(frame, ResNetClassifier)
    assert frame(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    clip = build_model(
        ModelConfig(kind="clip", backbone="mobilenet_v3_small", rnn="lstm", bidirectional=False, hidden_size=7)
    )
    assert isinstance(clip, RNNClassifier)
    assert isinstance(clip.rnn, nn.LSTM)
    assert clip.classifier.in_features == 7
    assert clip(torch.rand(2, 4, 3, 32, 32)).shape == (2, 2)
