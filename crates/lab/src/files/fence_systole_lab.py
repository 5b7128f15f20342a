#!/usr/bin/python3
"""Fence agent of the systole lab: asks the lab, which is the power switch, to cut a node's power.

Reads key=value lines on standard input as Pacemaker's fencer writes them (FenceAgentAPI), or --long=options.
Exit codes: 0 done (or on), 1 failed, 2 off (status only).
"""
import json
import socket
import sys

SOCKET = "/run/systole-lab-power/power.sock"
METADATA = """<?xml version="1.0" ?>
<resource-agent name="fence_systole_lab" shortdesc="Fence agent for the systole lab">
<longdesc>Asks the power switch of the rehearsal lab. It answers when every process of the node is dead.</longdesc>
<vendor-url></vendor-url>
<parameters>
<parameter name="action" unique="0" required="1"><getopt mixed="-o, --action=[action]"/><content type="string" default="reboot"/><shortdesc lang="en">Fencing action</shortdesc></parameter>
<parameter name="plug" unique="0" required="0" obsoletes="port"><getopt mixed="-n, --plug=[id]"/><content type="string"/><shortdesc lang="en">Node to act on</shortdesc></parameter>
<parameter name="port" unique="0" required="0" deprecated="1"><getopt mixed="-n, --plug=[id]"/><content type="string"/><shortdesc lang="en">Node to act on</shortdesc></parameter>
</parameters>
<actions>
<action name="on" automatic="0"/>
<action name="off"/>
<action name="reboot"/>
<action name="status"/>
<action name="monitor"/>
<action name="list"/>
<action name="metadata"/>
<action name="validate-all"/>
</actions>
</resource-agent>
"""


def options():
    found = {}
    for word in sys.argv[1:]:
        if word.startswith("--") and "=" in word:
            key, value = word[2:].split("=", 1)
            found[key] = value
        elif word.startswith("--"):
            found["action"] = word[2:]
    if len(sys.argv) == 1:
        for line in sys.stdin:
            line = line.strip()
            if line and not line.startswith("#") and "=" in line:
                key, value = line.split("=", 1)
                found[key] = value
    return found


def ask(op, node=None):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as switch:
        switch.settimeout(50)
        switch.connect(SOCKET)
        request = {"op": op, "by": socket.gethostname()}
        if node is not None:
            request["node"] = node
        switch.sendall((json.dumps(request) + "\n").encode())
        answer = b""
        while not answer.endswith(b"\n"):
            part = switch.recv(65536)
            if not part:
                raise OSError("the power switch closed the connection without an answer")
            answer += part
    answer = json.loads(answer)
    if not answer.get("ok"):
        raise OSError(answer.get("error", "refused without a reason"))
    return answer


def main():
    given = options()
    action = given.get("action", given.get("option", "reboot")).lower()
    node = given.get("plug") or given.get("port") or given.get("nodename")
    if action in ("metadata", "meta-data"):
        sys.stdout.write(METADATA)
        return 0
    if action == "validate-all":
        return 0
    try:
        if action == "monitor":
            ask("status")
            return 0
        if action in ("list", "list-status"):
            for entry in ask("status")["nodes"]:
                tail = "," + ("on" if entry["on"] else "off") if action == "list-status" else ","
                sys.stdout.write(entry["name"] + tail + "\n")
            return 0
        if not node:
            sys.stderr.write("fence_systole_lab: no node given (plug=...)\n")
            return 1
        if action == "status":
            power = {entry["name"]: entry["on"] for entry in ask("status")["nodes"]}
            if node not in power:
                raise OSError("%s is not a node of this lab" % node)
            return 0 if power[node] else 2
        ops = {"off": "power_off", "on": "power_on", "reboot": "power_cycle"}
        if action not in ops:
            sys.stderr.write("fence_systole_lab: unknown action %s\n" % action)
            return 1
        ask(ops[action], node)
        return 0
    except (OSError, ValueError, KeyError) as problem:
        sys.stderr.write("fence_systole_lab: %s %s: %s\n" % (action, node or "", problem))
        return 1


sys.exit(main())
