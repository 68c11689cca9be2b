"""The list of what a store holds, and how several writers keep it together.

A store holds each file under its path in the project, its *key*, and beside them `manifest.json`:

    {"version": 1, "files": {"labels/vod_a.csv": {"size": 83, "sha256": "9f86..."}}}

The manifest is written last, so whatever it names is there in full. Before files that it already names are
overwritten, their new sizes and hashes are announced in it under `arriving`; when such a push is cut off, a pull takes
each of them in the old version or in the new one, whichever is there.

A writer states which manifest its own was made from. When another one has come first, the store refuses, and the change
is made again to what that one wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from hlkit.project import HlkitError
from hlkit.stores import MANIFEST, ChangedMeanwhileError, FileRecord, Store, check_key

# Each refusal means that another writer got on, so this many are at work before one of them gives up.
UPDATE_ATTEMPTS = 50


@dataclass(frozen=True)
class Manifest:
    """What a store holds: a record for each key (`files`), and those of new versions on their way (`arriving`)."""

    files: dict[str, FileRecord] = field(default_factory=dict)
    arriving: dict[str, FileRecord] = field(default_factory=dict)
    version: str | None = field(default=None, compare=False)

    @classmethod
    def read(cls, store: Store) -> Self | None:
        """The store's manifest; None when nothing has been pushed to it yet.

        Raises:
            HlkitError: when it is damaged, or names a file that must not enter a project.
        """
        found = store.read(MANIFEST)
        if found is None:
            return None
        try:
            content = json.loads(found.data)
            groups = [content["files"], content.get("arriving", {})]
            files, arriving = ({check_key(key): FileRecord(**r) for key, r in group.items()} for group in groups)
        except (ValueError, TypeError, KeyError, AttributeError, HlkitError) as error:
            advice = "Delete it there and push again; files that are there in full are not sent again"
            raise HlkitError(f"{MANIFEST} of {store.address} can't be used ({error}). {advice}.") from error
        return cls(files, arriving, found.version)

    def to_json(self) -> bytes:
        """The same records give the same bytes."""
        groups = {"files": self.files} | ({"arriving": self.arriving} if self.arriving else {})
        content = {name: {key: asdict(group[key]) for key in sorted(group)} for name, group in groups.items()}
        return (json.dumps({"version": 1, **content}, indent=1) + "\n").encode()

    def versions(self, key: str) -> list[FileRecord]:
        """The records that the object `key` may have; none when it is not named."""
        return [group[key] for group in (self.files, self.arriving) if key in group]


def update_manifest(store: Store, seen: Manifest | None, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Write what `change` makes of the store's manifest; returns that.

    Args:
        store: where it goes.
        seen: the manifest as it was last read or written; None when there was none.
        change: is called again, with what another writer has written meanwhile, until the store takes the result.

    Raises:
        HlkitError: when others keep writing.
    """
    for _ in range(UPDATE_ATTEMPTS):
        manifest = change(seen or Manifest())
        try:
            version = store.write(MANIFEST, manifest.to_json(), seen.version if seen else None)
            return replace(manifest, version=version)
        except ChangedMeanwhileError:
            seen = Manifest.read(store)
            # A write that went through though its answer was lost is refused when it is tried again.
            if seen is not None and seen == manifest:
                return seen
    raise HlkitError(f"Others keep writing to {store.address}. Run this again when they have ended.")
