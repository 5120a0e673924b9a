"""Recipes compared on tasks: the same first weights and order of the data, seeds, statistics, a report."""
