"""Test cameras: servers that speak a camera's protocol on loopback, in front of one hidden lens and scene.

Each runs as a process of its own, prints one line of JSON with its port, and takes the same arguments::

    python -m dualpix.capture.cameras.testing.eos --port 0 --seed 3 --faults faults.json --state state.jsonl
"""
