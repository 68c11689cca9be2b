"""The sequence model of a run: `models/<run>/sequence.ckpt`, learned from all that the videos offer, and its scores."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hlkit.project import HlkitError, HlkitWarning, Project, atomic_path, fingerprint, write_text
from hlkit.records import read_table
from hlkit.stages import runs, tables, views
from hlkit.stages.materials import stored_material, streamed_material

if TYPE_CHECKING:
    from hlkit.features import Recipe
    from hlkit.sequence import RNNKind, SequenceModel, Sources

ROUNDS_SCHEMA = pl.Schema(
    {
        "round": pl.Int64,
        "looked_minutes": pl.Float64,
        "highlight_minutes": pl.Float64,
        "val_ap": pl.Float64,
        "val_base_rate": pl.Float64,
    }
)

CARD_TITLE, PICTURE_TITLE = "## Sequence model", "## Picture network"


# Beside a run's `model.ckpt`.
SEQUENCE_NAME = "sequence.ckpt"


def sequence_file(project: Project, run: str) -> Path:
    """Where a run's sequence model lies."""
    return project.model(run) / SEQUENCE_NAME


def rounds_file(project: Project, run: str) -> Path:
    """Where a run keeps what each of its lessons led to: a row each time that it learned."""
    return project.model(run) / "rounds.parquet"


def has_sequence(project: Project, run: str) -> bool:
    """Whether a run's scores are a sequence model's.

    Raises:
        HlkitError: when they should be, but the model is not there.
    """
    file = sequence_file(project, run)
    if runs.run_config(project, run).get("sequence", "none") != "none" and not file.is_file():
        raise HlkitError(
            f"{file} is missing, so '{run}' is not whole. Train it again: `hlkit train --run {run} --redo`."
        )
    return file.is_file()


def train_sequence(
    project: Project,
    run: str,
    videos: Sequence[str],
    *,
    rnn: RNNKind,
    with_pictures: bool,
    seed: int,
    progress: bool,
) -> dict[str, float]:
    """Learn the sequence model of a run and return what it reached on chunks that were held back.

    Writes `sequence.ckpt`, `held_out.parquet` (the frames with `label` and `score`, each scored by a network that had
    not learned from it), a section of `card.md`, and a row of `rounds.parquet`: `round` from 1, `looked_minutes` of
    video that somebody judged, `highlight_minutes` of it, `val_ap` and `val_base_rate`, null where they are not known.

    Args:
        project: must hold frames and labels of the videos, and the run's picture model.
        run: the name of the run.
        videos: what to learn from.
        rnn: "gru" or "lstm".
        with_pictures: whether the picture model's features are a source.
        seed: of all draws.
        progress: show a progress bar.
    """
    import torch

    from hlkit.features import learn_recipe
    from hlkit.sequence import to_checkpoint
    from hlkit.sequence_training import fit_sequence
    from hlkit.video import frame_rate

    labelled, classes = tables.labelled_frames(project, videos, classes=runs.chosen_classes(project, run))
    fps = views.same_frame_settings(project, videos).fps
    picture_model = runs.checkpoint(project, run) if with_pictures else None
    materials = [stored_material(project, video, checkpoint=picture_model, progress=progress) for video in videos]
    order = [each.frames.join(labelled, on=["video", "frame"], how="left", maintain_order="left") for each in materials]
    recipe = learn_recipe(materials, [table["label"].to_numpy() for table in order], seed=seed)
    sources = {video: recipe.sources(material) for video, material in zip(videos, materials, strict=True)}
    frames = pl.concat([table.select("video", "frame", "time", "label") for table in order])
    fit = fit_sequence(frames, sources, classes=classes, fps=fps, rnn=rnn, seed=seed)
    target = sequence_file(project, run)
    content: dict[str, Any] = {"sequence": to_checkpoint(fit.model), "recipe": recipe.to_checkpoint()}
    content["picture_model"] = None if picture_model is None else fingerprint(picture_model)
    with atomic_path(target.with_name("held_out.parquet")) as temporary:
        fit.held_out.write_parquet(temporary)
    with atomic_path(target) as temporary:
        torch.save(content, temporary)
    note_round(rounds_file(project, run), frames["label"], float(frame_rate(fps)), fit.metrics)
    _add_to_card(target.with_name("card.md"), fit.model, fit.metrics)
    return fit.metrics


def load_sequence(project: Project, run: str) -> tuple[SequenceModel, Recipe, bool]:
    """A run's sequence model, its recipe, and whether it reads the picture model's features.

    Raises:
        HlkitError: when it is damaged, or was made with another picture model than the run has now.
    """
    from hlkit.backbones import load_file
    from hlkit.features import Recipe
    from hlkit.sequence import from_checkpoint

    file = sequence_file(project, run)
    content = load_file(file)
    try:
        model, recipe = from_checkpoint(content["sequence"]), Recipe.from_checkpoint(content["recipe"])
        made_with = content["picture_model"]
    except KeyError as error:
        raise HlkitError(
            f"{file} is no sequence model (it lacks {error}). Train again: `hlkit train --redo`."
        ) from error
    if made_with is not None and made_with != fingerprint(runs.checkpoint(project, run)):
        raise HlkitError(f"{file} was made with another model.ckpt. Train again: `hlkit train --redo`.")
    return model, recipe, made_with is not None


def score_sequence(
    project: Project, run: str, video: str, *, wanted: range | None = None, progress: bool = True
) -> tuple[pl.DataFrame, list[str]]:
    """The score table of a video by a run's sequence model, of the frames `wanted` or all, and the sources it lacks."""
    from hlkit.predict import score_table
    from hlkit.video import frame_count, frame_rate

    model, recipe, with_pictures = load_sequence(project, run)
    picture_model = runs.checkpoint(project, run) if with_pictures else None
    settings = runs.wanted_settings(project, run, video)
    if wanted is None and views.frames_fit(views.frame_settings(project, video), settings):
        material = stored_material(project, video, checkpoint=picture_model, progress=progress)
    else:
        total = frame_count(tables.length(project, video), frame_rate(settings.fps))
        reach = model.reach(wanted or range(total), total)
        material = streamed_material(
            project, video, settings=settings, wanted=reach, checkpoint=picture_model, progress=progress
        )
    sources = recipe.sources(material)
    found = model.probabilities(sources, material.frames)
    chosen = pl.Series([True] * len(found))
    if wanted is not None:
        chosen = material.frames["frame"].is_between(wanted.start, wanted.stop, closed="left")
    missing = [name for name in model.config.widths if sources.get(name) is None]
    return score_table(material.frames.filter(chosen), found[chosen.to_numpy()], model.config.classes), missing


def reads_pictures(project: Project, run: str) -> bool:
    """Whether the picture network has a part in a run's scores."""
    return not has_sequence(project, run) or load_sequence(project, run)[2]


def explains_peaks(project: Project, run: str, video: str) -> bool:
    """Whether a run has a sequence model, and the stored frames of a video fit it."""
    made = views.frame_settings(project, video)
    if made is None or not has_sequence(project, run):
        return False
    return views.frames_fit(made, runs.wanted_settings(project, run, video))


def stored_sources(project: Project, run: str, video: str) -> tuple[SequenceModel, Sources, pl.DataFrame]:
    """A run's sequence model, and the sources and frames (`video`, `frame`, `time`) of a video with stored frames."""
    model, recipe, with_pictures = load_sequence(project, run)
    picture_model = runs.checkpoint(project, run) if with_pictures else None
    material = stored_material(project, video, checkpoint=picture_model, progress=False)
    return model, recipe.sources(material), material.frames


def learned_chat_delay(project: Project, run: str) -> float:
    """Seconds by which the chat lags, as the run learned it; 0 where it learned from no chat."""
    if not has_sequence(project, run):
        return 0.0
    _, recipe, _ = load_sequence(project, run)
    return recipe.chat_delay or 0.0


def held_out_scores(project: Project, run: str) -> pl.DataFrame:
    """What a run's sequence model says of its own labelled frames, each scored by a network that had not seen it.

    Raises:
        HlkitError: when the run has no sequence model, or too few highlights to hold some back.
    """
    file = sequence_file(project, run).with_name("held_out.parquet")
    remedy = (
        f"'{run}' has no scores of frames that were held back, so its precision is not known. Train a sequence model "
        "on two highlights or more, or give a threshold."
    )
    return read_table(file, texts=["video"], numbers=["time", "label", "score"], remedy=remedy)


def note_round(file: Path, labels: pl.Series, fps: float, metrics: Mapping[str, float]) -> None:
    """Add a row to the run's rounds: `labels` are those of all its frames, `metrics` what it reached."""
    earlier = pl.DataFrame(schema=ROUNDS_SCHEMA)
    if file.is_file():
        try:
            earlier = read_rounds(file).cast(ROUNDS_SCHEMA)
        except (HlkitError, pl.exceptions.PolarsError) as error:
            # What was learned must not be lost for a chart.
            reason = str(error).partition("\n")[0]
            warnings.warn(f"The chart of rounds begins anew, for {reason}", HlkitWarning, stacklevel=4)
    minutes = [float((labels >= least).sum()) / fps / 60 for least in (0, 1)]
    row = (len(earlier) + 1, *minutes, metrics.get("val_ap"), metrics.get("val_base_rate"))
    with atomic_path(file) as temporary:
        pl.concat([earlier, pl.DataFrame([row], schema=ROUNDS_SCHEMA, orient="row")]).write_parquet(temporary)


def read_rounds(file: Path) -> pl.DataFrame:
    """What `train_sequence` has written there, with the columns of `ROUNDS_SCHEMA`.

    Raises:
        HlkitError: when it is missing or damaged.
    """
    remedy = "Each lesson adds a row: `hlkit train` or `hlkit relearn`."
    return read_table(file, texts=[], numbers=ROUNDS_SCHEMA.names(), remedy=remedy).select(ROUNDS_SCHEMA.names())


def _add_to_card(card: Path, model: SequenceModel, metrics: dict[str, float]) -> None:
    config = model.config
    direction = "Bidirectional " if config.bidirectional else ""
    sources = ", ".join(f"{name} ({kept} components)" for name, (_, kept) in config.widths.items())
    lines = [
        CARD_TITLE,
        "",
        f"{direction}{config.rnn.upper()} of width {config.hidden_size}, {config.members} members, over {sources}; "
        f"each moment set off against its surroundings, scores smoothed over {config.smoothing_seconds:g} s. The run's "
        "scores are this model's.",
        "",
    ]
    if metrics:
        lines += [
            f"Average precision on chunks held back from the network that answers: **{metrics['val_ap']:.3f}** (random "
            f"scores get the base rate, {metrics['val_base_rate']:.3f}). Temperature {metrics['temperature']:.2f}. The "
            "chunks are of the same videos, so expect less on another one.",
            "",
        ]
    title, _, rest = card.read_text(encoding="utf-8").partition("\n\n")
    # What an earlier training of the same run wrote stands before the picture network.
    picture_network = rest.rpartition(f"{PICTURE_TITLE}\n\n")[2]
    write_text(card, "\n".join([title, "", *lines, PICTURE_TITLE, "", picture_network]))
