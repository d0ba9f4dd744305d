"""Rendered data: RGB-D pictures or procedural scenes through a camera, as files that training reads.

What is asked for is plain data (:mod:`.settings`); one sample is a pure function of it (:mod:`.sample`); files and
shards are written from samples (:mod:`.store`); :mod:`.work` is what processes and clusters run.
"""
