"""What stands between the accelerator and a board: host link, memory, the core of every top."""
