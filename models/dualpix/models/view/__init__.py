"""Results where people look at them: a page that needs no server, and pictures focused anew.

``find`` sorts what a user named, ``read`` makes a ``scene`` of it: one capture with all that is known of it. ``codes``
and ``page`` make an HTML file of scenes; ``refocus`` renders through a synthetic aperture, ``animation`` writes many
such pictures as one file.
"""
