"""Runs a program that is written in Python, again and again, in processes that have its modules already. Their import is
a third of what crmsh takes to load a file, and nearly all that pcs takes for a command.

    warm.py NAME BEGIN REST    begins, and is ready when it ends; what stays behind waits at /run/bed/NAME.socket

BEGIN and REST are what the program's file in /usr/sbin consists of. files/ask-warm.py asks there for a run, with its
own arguments, environment, directory, root and streams. A fork takes them and does the rest.
"""
import gc
import marshal
import os
import signal
import socket
import sys

name, begin, rest = sys.argv[1:]
# As it is for the program. Here it is where this file is.
sys.path[0] = "/usr/sbin"
exec(begin)
# What is there already is not looked through for garbage in each fork, which would copy its pages.
gc.freeze()
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(f"/run/bed/{name}.socket")
listener.listen()
if os.fork():
    os._exit(0)
# Nobody waits for those who wait for the runs.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    asked, _ = listener.accept()
    if not os.fork():
        break
    asked.close()
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
listener.close()
request, (root, *streams), _, _ = socket.recv_fds(asked, 1 << 20, 4)
run = os.fork()
if run:
    asked.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]))
    os._exit(0)
asked.close()
words, environment, directory = marshal.loads(request)
os.fchdir(root)
os.chroot(".")
os.chdir(directory)
for number, stream in enumerate(streams):
    os.dup2(stream, number)
for descriptor in (root, *streams):
    os.close(descriptor)
os.environ.clear()
os.environ.update(environment)
sys.argv = words
exec(rest)
