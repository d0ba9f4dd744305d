"""``dualpix demo``: the whole way on a simulated camera."""
