"""``dualpix export``: what is asked, carried out and shown."""
