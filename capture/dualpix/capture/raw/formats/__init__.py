"""One decoder a module, and the form that all of them have (:mod:`.plugin`)."""
