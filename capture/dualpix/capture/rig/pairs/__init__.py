"""Pictures that two cameras took at one moment: taken, with their clocks, and read."""
