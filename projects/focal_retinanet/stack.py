def check_stack():
    pass
