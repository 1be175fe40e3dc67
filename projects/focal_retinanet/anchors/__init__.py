"""Do the anchors fit a data set? Their assignment, its coverage, advice, a report."""
