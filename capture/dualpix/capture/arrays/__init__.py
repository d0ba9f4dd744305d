"""Arrays that somebody else wrote (NumPy, HDF5, deflate): sizes are looked at before memory is taken."""
