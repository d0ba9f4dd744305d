"""A module of the user's own: the function that gives it, its data, metric and states, as the flow takes them."""
