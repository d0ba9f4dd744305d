"""Pictures for people and other programs: display, colour maps, point clouds."""
