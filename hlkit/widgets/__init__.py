"""Marking in the page: the widget that is labeller, reviewer and timeline explorer, and what stands behind it.

`marks` plans what a mark changes (pure), `journal` keeps every mark at once, `video_server` brings the recording to the
browser, `pictures` the stored frames, and `span_widget` joins them to a page.
`box_widget` draws the part of the picture that counts. `pages` says which JavaScript files a page is put together of.
"""
