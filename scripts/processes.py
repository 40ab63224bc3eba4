"""What the scripts need that start programs."""

import socket


def stop(process):
    process.kill()
    process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
