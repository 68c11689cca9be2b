"""Marking in the page: the widget that is labeller, reviewer and timeline explorer, and what stands behind it.

`marks` plans what a mark changes (pure), `journal` keeps every mark at once, `video_server` brings the recording to the
browser, `pictures` the stored frames, and `span_widget` joins them to one JavaScript and one CSS file without a build.
`box_widget` draws the part of the picture that counts.
"""
