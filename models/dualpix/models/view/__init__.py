"""Results where people look at them: a page that needs no server, and pictures focused anew.

``results`` finds what a user named, ``scene`` holds one capture with all that is known of it, ``codes`` and ``page``
make a single HTML file of it; ``refocus`` renders through a synthetic aperture, ``animation`` writes many such pictures.
"""
