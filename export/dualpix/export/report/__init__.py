"""Self-contained HTML pages: of an export, a training, an evaluation, and of accuracy against cost."""
