"""The stages of the work on a project: what a notebook cell or a command does.

Each stage joins the modules to the project's folders, says in one line what it did, and knows when it is already done:
run again with the same inputs it returns at once, and with `redo=True` it does the work again. `say` takes the lines
(`print` unless set).
"""

from hlkit.stages.class_table import classes
from hlkit.stages.common import ASIDE_EPOCHS, DEFAULT_EPOCHS, DEFAULT_RUN, DEFAULT_WINDOW_SECONDS, Say
from hlkit.stages.comparison import compare
from hlkit.stages.explaining import explain
from hlkit.stages.exporting import export
from hlkit.stages.files import (
    FileScores,
    decide_files,
    file_sheet,
    infer_files,
    join_decisions,
    sort,
    sort_files,
    unsort,
)
from hlkit.stages.intake import box, channel, download, frames
from hlkit.stages.judged_files import compare_files, judge_files
from hlkit.stages.keeping import delete, link, pull, push, status, verify
from hlkit.stages.labelling import label, label_spans, label_text
from hlkit.stages.learning import infer, train
from hlkit.stages.look import contact_sheet, label_sheet, overview, score_chart, training_chart
from hlkit.stages.marking import box_picker, explorer, labeller, reviewer
from hlkit.stages.matched import match, match_clips
from hlkit.stages.results import reel, timeline
from hlkit.stages.reviewing import relearn, review, review_chart
from hlkit.stages.scorecard import report_pages, score
from hlkit.stages.sharing import agree, export_labels
from hlkit.stages.sorted_pictures import changes, defects, pictures

__all__ = [
    "ASIDE_EPOCHS",
    "DEFAULT_EPOCHS",
    "DEFAULT_RUN",
    "DEFAULT_WINDOW_SECONDS",
    "FileScores",
    "Say",
    "agree",
    "box",
    "box_picker",
    "changes",
    "channel",
    "classes",
    "compare",
    "compare_files",
    "contact_sheet",
    "decide_files",
    "defects",
    "delete",
    "download",
    "explain",
    "explorer",
    "export",
    "export_labels",
    "file_sheet",
    "frames",
    "infer",
    "infer_files",
    "join_decisions",
    "judge_files",
    "label",
    "label_sheet",
    "label_spans",
    "label_text",
    "labeller",
    "link",
    "match",
    "match_clips",
    "overview",
    "pictures",
    "pull",
    "push",
    "reel",
    "relearn",
    "report_pages",
    "review",
    "review_chart",
    "reviewer",
    "score",
    "score_chart",
    "sort",
    "sort_files",
    "status",
    "timeline",
    "train",
    "training_chart",
    "unsort",
    "verify",
]
