"""Linear algebra on the rows of a data set: factors, least squares, paths of descent."""
