"""Reads a speedscope profile: by speedscope's own schema, and call by call."""

import json
import re
import sys

import jsonschema
from calls import Lanes

with open(sys.argv[1], encoding="utf-8") as file:
    profile = json.load(file)
if len(sys.argv) > 2:
    with open(sys.argv[2], encoding="utf-8") as file:
        jsonschema.validate(profile, json.load(file))

frames = profile["shared"]["frames"]
lanes = Lanes()
for lane, one in enumerate(profile["profiles"]):
    tid = int(re.search(r" (\d+)(, stack \d+)?$", one["name"]).group(1))
    last = one["startValue"]
    for event in one["events"]:
        name, at = frames[event["frame"]]["name"], event["at"]
        assert last <= at <= one["endValue"], "time goes back"
        last = at
        if event["type"] == "O":
            lanes.begin(tid, lane, at, name)
        else:
            lanes.end(lane, at, name)
lanes.finish()
