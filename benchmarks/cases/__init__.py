"""The cases, one module each.

Each module has

- ``add_arguments(parser)``: adds the flags of the case;
- ``make_cases(args)``: yields a :class:`~harness.contest.Case` for each set of
  sizes;
- ``CONTESTANTS``: by name, the function that makes a
  :class:`~harness.contest.Contestant` of a case's inputs; ours is the first.
"""
