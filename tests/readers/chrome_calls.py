"""Reads Chrome's trace events, as the format's description has them."""

import json
import sys

import jsonschema
from calls import Lanes, nanoseconds

NUMBER = {"type": "number"}
EVENT = {
    "type": "object",
    "required": ["ph", "pid", "tid", "name"],
    "properties": {
        "ph": {"enum": ["B", "E", "M", "C", "s", "f"]},
        "pid": {"type": "integer"},
        "tid": {"type": "integer"},
        "ts": {"type": "string", "pattern": "^[0-9]+[.][0-9]{3}$"},
        "name": {"type": "string"},
        "cat": {"type": "string"},
        "args": {"type": "object"},
    },
}
END = {**EVENT, "required": ["ph", "pid", "tid", "ts"]}

with open(sys.argv[1], encoding="utf-8") as file:
    # Numbers with a point stay text: their digits are nanoseconds.
    trace = json.load(file, parse_float=str)

check = {True: jsonschema.Draft202012Validator(END), False: jsonschema.Draft202012Validator(EVENT)}
lanes, owners, flows, last = Lanes(), {}, {}, {}
for number, event in enumerate(trace["traceEvents"]):
    if number < 20_000 or event["ph"] not in "BE":
        check[event["ph"] == "E"].validate(event)
    tid, lane, phase = event["tid"], (event["pid"], event["tid"]), event["ph"]
    if phase == "M" and event["name"] == "thread_name" and ", stack " in event["args"]["name"]:
        owners[tid] = int(event["args"]["name"].rsplit(", stack ", 1)[0].rsplit(" ", 1)[1])
    elif phase in "BE":
        at = nanoseconds(event["ts"])
        assert at >= last.get(lane, 0), "time goes back"
        last[lane] = at
        if phase == "B":
            lanes.begin(owners.get(tid, tid), lane, at, event["name"])
            made = event["name"]
        else:
            lanes.end(lane, at)
    elif phase == "s":
        flows[event["id"]] = made
    elif phase == "f":
        print(f"# flow {flows[event['id']]} {tid}")
lanes.finish()
