"""Lists of two-minute blocks: the YAML in which a stream's good blocks are named by hour and minute.

Convention (the lists of the first highlight finders): `0:0`, `0:2`, `1:2` are the blocks that begin at 0 h 0 min,
0 h 2 min and 1 h 2 min; each lasts two minutes. A list stands under the id of its video, or alone for the one video
that the caller names:

    vod_a: [0:0, 0:2, 1:2]
    vod_b:
      - 0:14

Values are read as text: YAML 1.1 takes `1:2` for 62, counting by sixties (yaml.org/type/int). A block that reaches over
the end of the video ends with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hlkit.entries import Findings, Hints, need_video, one_line, shown
from hlkit.project import HlkitError

if TYPE_CHECKING:
    from yaml import Node

BLOCK_SECONDS = 120.0

_BLOCK = re.compile(r"(\d{1,4}):(\d{1,2})")
_ITEMS = r"[\"']?\d+:\d+[\"']?(\s*,\s*[\"']?\d+:\d+[\"']?)*"
_LINE = re.compile(rf"\s*(- +)?([^:\[\]]+:( +|$))?(\[\s*)?(?P<items>{_ITEMS})?\s*,?(\s*\])?\s*(#.*)?")


def is_blocks(text: str) -> bool:
    """Whether a text looks like lists of blocks: its first line is of such a list, and a line has nothing but `h:m`."""
    lines = [one_line(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    matches = [_LINE.fullmatch(line) for line in lines]
    return bool(matches) and matches[0] is not None and any(match and match["items"] for match in matches)


def read_blocks(text: str, hints: Hints) -> Findings:
    """Read lists of two-minute blocks.

    Raises:
        HlkitError: when the text is no YAML, or neither a list nor lists under names.
    """
    from yaml import BaseLoader, MappingNode, YAMLError, compose

    found = Findings("line")
    try:
        root = compose(text, Loader=BaseLoader)
    except (YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HlkitError(f"{hints.source} is no YAML ({reason}). Write it as in 'vod_a: [0:0, 0:2, 1:2]'.") from error
    if isinstance(root, MappingNode):
        lists = [(str(name.value), node) for name, node in root.value]
    else:
        lists = [] if root is None else [(need_video(hints, "a list of blocks without a name"), root)]
    for video, node in lists:
        for place, item in _items(node):
            _add_block(place, video, item, hints, found)
    return found


def _items(node: Node) -> Iterator[tuple[int, str]]:
    """The values of a list, or of a text with commas, with their lines."""
    from yaml import ScalarNode, SequenceNode

    nodes = node.value if isinstance(node, SequenceNode) else [node]
    for each in nodes:
        line = each.start_mark.line + 1
        if isinstance(each, ScalarNode):
            yield from ((line, item.strip()) for item in str(each.value).split(",") if item.strip())
        else:
            yield line, "a list in a list"


def _add_block(place: int, video: str, item: str, hints: Hints, found: Findings) -> None:
    match = _BLOCK.fullmatch(item)
    if match is None or int(match[2]) > 59:
        found.fault(place, f"{shown(item)} is no block; allowed is h:m, as in 1:2 for the block at 1 h 2 min")
        return
    start = int(match[1]) * 3600.0 + int(match[2]) * 60.0
    end = start + BLOCK_SECONDS
    length = hints.length(video)
    found.add(place, video, start, end if length is None or start >= length else min(end, length))
