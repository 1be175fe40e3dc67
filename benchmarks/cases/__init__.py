"""What each sub-command compares: ``build(args)`` gives its cases, one by one."""
