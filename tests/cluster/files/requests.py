# Clients that connect for each request, as PHP does: requests.py PORT COMMAND... carries COMMAND out when it is given (a client program,
# which connects to PORT itself), or writes to Redis at 127.0.0.1:PORT. Until SIGTERM; then it prints what became of the requests:
# done, failed, the slowest in ms, and what the first failures were.
import signal
import socket
import subprocess
import sys
import threading
import time

port, command = int(sys.argv[1]), sys.argv[2:]
stop = threading.Event()
# Waited for, and not handled: which thread a handler would interrupt is the kernel's choice.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
lock = threading.Lock()
done, failed, slowest = 0, [], 0.0


def redis(name):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
        s.sendall(f"SET requests:{name} {time.time()}\r\n".encode())
        answer = s.recv(200)
        if answer != b"+OK\r\n":
            raise OSError(f"answered {answer!r}")


def program(_):
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
    if ended.returncode:
        raise OSError(ended.stderr.decode(errors="replace").strip())


def client(name):
    global done, slowest
    while not stop.is_set():
        begun = time.monotonic()
        try:
            (program if command else redis)(name)
            why = None
        except (OSError, subprocess.TimeoutExpired) as e:
            why = str(e)
        took = time.monotonic() - begun
        with lock:
            slowest = max(slowest, took)
            if why is None:
                done += 1
            else:
                failed.append(f"{time.strftime('%H:%M:%S')} after {took:.3f} s: {why}")
        time.sleep(0.02)


threads = [threading.Thread(target=client, args=(n,)) for n in range(2)]
for t in threads:
    t.start()
signal.sigwait({signal.SIGTERM})
stop.set()
for t in threads:
    t.join()
print(done, len(failed), int(slowest * 1000))
for line in failed[:10]:
    print(line)
