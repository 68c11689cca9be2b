"""What a project holds of its videos: their lengths, labels, labelled frames and scores, read as tables.

Each reader says which stage makes what is missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from hlkit.chat import read_chat
from hlkit.frames import read_index
from hlkit.labels import (
    BACKGROUND,
    DEFAULT_LABEL,
    SPAN_SCHEMA,
    Rest,
    label_frames,
    merge_spans,
    partly_seen,
    read_labels,
)
from hlkit.project import HlkitError, HlkitWarning, Project, fingerprint
from hlkit.records import check_columns, read_record, read_table
from hlkit.spans import quoted
from hlkit.stages.runs import learned_from
from hlkit.stages.views import read_extraction, same_frame_settings
from hlkit.video import frame_rate, probe


def chosen_videos(project: Project, videos: Sequence[str] | None) -> list[str]:
    """The named videos, or all of the project.

    Raises:
        HlkitError: when one is not there, or the project has none.
    """
    for video in videos or ():
        project.video(video)
    chosen = list(videos or project.video_ids())
    if not chosen:
        raise HlkitError(f"{project.root} has no videos. Download one first (notebook 01, or `hlkit download`).")
    return chosen


def length(project: Project, video: str) -> float:
    """Seconds of a video: of its recording, or of its frames where the recording is not here."""
    if video in project.video_ids() or not project.index(video).is_file():
        return probe(project.video(video)).duration
    made = read_extraction(project, video)
    return made["frames"] / float(frame_rate(made["fps"]))


class Lengths(Mapping[str, float]):
    """The seconds of every video of a project, or of whose frames are here; each is read when it is asked for."""

    def __init__(self, project: Project) -> None:
        self.project = project
        stored = {index.parent.name for index in project.frames.glob("*/index.parquet")}
        self.ids = sorted(stored | set(project.video_ids()))
        self.known: dict[str, float] = {}

    def __getitem__(self, video: str) -> float:
        if video not in self.ids:
            raise KeyError(video)
        if video not in self.known:
            self.known[video] = length(self.project, video)
        return self.known[video]

    def __contains__(self, video: object) -> bool:
        return video in self.ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def source_of(project: Project, video: str) -> str:
    """Where a video was downloaded from, as it was given: a link, a number or a path.

    Raises:
        HlkitError: when the project does not know.
    """
    file = project.videos / f"{video}.json"
    return read_record(file, {"source": str}, remedy=f"Where '{video}' came from is not known.")["source"]


def content(project: Project, video: str) -> str:
    """A short name for what a video shows, from its recording or, where that is not here, its frames.

    Raises:
        HlkitError: when neither is here.
    """
    has_frames_only = video not in project.video_ids() and project.index(video).is_file()
    return fingerprint(project.index(video) if has_frames_only else project.video(video))


# Besides the label files, `reels` has LosslessCut's lists and what each reel shows.
OTHER_LISTS = (".losslesscut.csv", ".cuts.csv")


def labels_of(project: Project, video: str) -> pl.DataFrame | None:
    """The highlights that are labelled in a video; None when nobody has labelled it.

    Spans of one label that touch are one highlight: what a file and a hand said of it stands side by side in the marks.
    """
    spans = marks_of(project, video)
    return (
        None if spans is None else merge_spans(spans.filter(pl.col("label") != BACKGROUND).select(SPAN_SCHEMA.names()))
    )


def marks_of(project: Project, video: str) -> pl.DataFrame | None:
    """All that somebody said of a video: its label spans with those of background, which were looked at and rejected.

    Returns:
        Columns of `SPAN_SCHEMA`, and `origin` where the file has it; None when nobody has labelled the video.
    """
    file = project.labels(video)
    if not file.is_file():
        return None
    return read_labels(file, video=video, durations={video: length(project, video)})


def chat_of(project: Project, video: str) -> pl.DataFrame | None:
    """The chat of a video, as `hlkit.chat.read_chat` gives it; None where there is none."""
    file = project.chat(video)
    return read_chat(file) if file.is_file() else None


def labelled_videos(project: Project) -> list[str]:
    """The ids of the videos that have a label file, sorted."""
    folder = project.root / "labels"
    return sorted(file.stem for file in folder.glob("*.csv")) if folder.is_dir() else []


def train_videos(project: Project, videos: Sequence[str] | None = None) -> list[str]:
    """The videos to learn from: the named ones, else the project's `train_videos`, else every labelled one.

    Raises:
        HlkitError: when there is none, or one has no labels or frames.
    """
    labelled = labelled_videos(project)
    chosen = list(videos or project.settings().get("train_videos", ()) or labelled)
    if not chosen or not set(chosen) <= set(labelled):
        missing = ", ".join(sorted(set(chosen) - set(labelled))) or project.root
        raise HlkitError(f"{missing}: no labels. Mark some highlights first (notebook 04, or `hlkit label FILE`).")
    same_frame_settings(project, chosen)
    return chosen


def new_videos(project: Project, run: str) -> list[str]:
    """The videos, or stored frames of one, that a run did not learn from; all of them when it learned from all."""
    stored = {index.parent.name for index in project.frames.glob("*/index.parquet")}
    known = sorted(stored | set(project.video_ids())) or chosen_videos(project, None)
    learned = learned_from(project, run)
    return [video for video in known if video not in learned] or known


def labelled_frames(
    project: Project,
    videos: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    rest: Rest = "auto",
    frames: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The frames of the videos with their `label` (i8), and the names of the classes, background first.

    Args:
        project: must hold frames and labels.
        videos: their ids.
        classes: those that count, the first one being what background is called; labels of others are passed over. All
            labels that there are, unless given.
        rest: what time counts as that no span covers (see `hlkit.labels.Rest`); -1 stands for what nobody looked at.
        frames: these, with `video` and `time`, in place of the stored ones.

    Raises:
        HlkitError: when one of them has no labels, since all of it would count as dull, or when no span has one of the
            classes that are given.
    """
    marks = {video: marks_of(project, video) for video in videos}
    if missing := ", ".join(video for video, table in marks.items() if table is None):
        raise HlkitError(f"{missing}: no labels. Mark some highlights first (notebook 04, or `hlkit label FILE`).")
    spans = pl.concat([table for table in marks.values() if table is not None], how="diagonal")
    if classes is None:
        classes = (BACKGROUND, *(sorted(set(spans["label"]) - {BACKGROUND}) or [DEFAULT_LABEL]))
    else:
        classes, held = tuple(classes), sorted(set(spans["label"]))
        if missing := set(classes[1:]) - set(held):
            raise HlkitError(
                f"No span is labelled {quoted(missing)}; the labels are {quoted(held)}. Correct the classes."
            )
        spans = spans.with_columns(pl.col("label").replace(BACKGROUND, classes[0]))
        spans = spans.filter(pl.col("label").is_in(classes))
    if frames is None:
        frames = pl.concat([read_index(project.frames / video) for video in videos])
    return label_frames(frames, spans, classes=classes, rest=rest), tuple(classes)


def marked_share(project: Project, run: str) -> float:
    """The share of what was looked at, 0 to 1, that is highlight in the videos that a run learned from."""
    videos = train_videos(project, learned_from(project, run))
    spans = pl.concat([table for video in videos if (table := labels_of(project, video)) is not None])
    return _seconds(spans) / sum(length(project, video) - unseen_seconds(project, video) for video in videos)


def unseen_seconds(project: Project, video: str) -> float:
    """How much of a video nobody looked at: what no span covers if it is one of `partly_seen`, and else nothing."""
    marks = marks_of(project, video)
    if marks is None or partly_seen(marks).is_empty():
        return 0.0
    return max(length(project, video) - _seconds(merge_spans(marks.with_columns(label=pl.lit("")))), 0.0)


def _seconds(spans: pl.DataFrame) -> float:
    return float((spans["end"] - spans["start"]).sum())


def scored_videos(project: Project, run: str, videos: Sequence[str] | None = None) -> list[str]:
    """The named videos, or all that a run has scored.

    Raises:
        HlkitError: when the run has scored none, or not one that is named.
    """
    for video in videos or ():
        if not project.scores(run, video).is_file():
            content(project, video)  # says so where the video is what is missing
            raise _unscored(video, run)
    chosen = list(videos or sorted(file.stem for file in project.scores(run, "any").parent.glob("*.parquet")))
    if not chosen:
        raise HlkitError(
            f"No video in {project.root} is scored by '{run}' yet. Score one first (notebook 06, or `hlkit infer`)."
        )
    return chosen


def _unscored(video: str, run: str) -> HlkitError:
    return HlkitError(f"'{video}' has no scores by '{run}'. Score it first (notebook 06, or `hlkit infer`).")


def highlight_videos(project: Project, videos: Sequence[str] | None = None) -> list[str]:
    """The named videos, or all whose highlights are picked.

    Raises:
        HlkitError: when there is none.
    """
    tables = (file for file in project.reel("any").parent.glob("*.csv") if not file.name.endswith(OTHER_LISTS))
    chosen = list(videos or sorted(file.stem for file in tables))
    for video in videos or ():
        project.video(video)  # says so where the recording is what is missing
    missing = ", ".join(video for video in chosen if not project.reel(video, ".csv").is_file())
    if missing or not chosen:
        whose = f" of {missing}" if missing else ""
        raise HlkitError(f"No highlights{whose} are picked yet. Pick them first (notebook 07, or `hlkit timeline`).")
    return chosen


def read_scores(project: Project, video: str, *, run: str) -> pl.DataFrame:
    """The score table of a video by a run, with a column `score`: the probability of any class but the background.

    A score that is missing or no number is null, and an `HlkitWarning` says so.

    Raises:
        HlkitError: when the run has not scored it, or its table is damaged.
    """
    file = project.scores(run, video)
    if not file.is_file():
        raise _unscored(video, run)
    remedy = "Score the video again: `hlkit infer --redo`."
    scores = read_table(file, texts=["video"], numbers=["time"], remedy=remedy)
    classes = [name for name in scores.columns if name.startswith("score_")]
    if "score" in scores.columns or not classes:
        check_columns(scores, file, numbers=["score"], remedy=remedy)
    else:
        check_columns(scores, file, numbers=classes, remedy=remedy)
        scores = scores.with_columns(score=pl.sum_horizontal(classes, ignore_nulls=False))
    known = scores["score"].is_finite().fill_null(False)
    if not known.any():
        raise HlkitError(f"{file} has no score that is a number. {remedy}")
    if not known.all():
        reason = f"'{video}' has no score by '{run}' in {(~known).sum()} of {len(known)} frames, which count as unknown"
        warnings.warn(f"{reason}. {remedy}", HlkitWarning, stacklevel=2)
    return scores.with_columns(score=pl.when(known).then("score"))
