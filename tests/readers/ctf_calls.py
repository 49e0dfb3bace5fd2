"""Reads a CTF trace by babeltrace2."""

import re
import subprocess
import sys

from calls import Lanes

LINE = re.compile(
    r'timestamp = (?P<at>\d+),.* name = (?P<event>\w+), stream.packet.context = '
    r'{ pid = (?P<pid>\d+), tid = (?P<tid>\d+), stack = (?P<stack>\d+), thread = ".*" }, '
    r'event.fields = { function = \( "(?P<name>.*?)" : container = \d+ \), .*}$'
)

text = subprocess.run(
    ["babeltrace2", "--names=all", "--clock-cycles", sys.argv[1]],
    check=True, stdout=subprocess.PIPE, encoding="utf-8", timeout=120,
).stdout
lanes = Lanes()
for line in text.splitlines():
    found = LINE.match(line)
    assert found, line
    lane = (found["pid"], found["tid"], found["stack"])
    if found["event"] == "entry":
        lanes.begin(int(found["tid"]), lane, int(found["at"]), found["name"])
    else:
        lanes.end(lane, int(found["at"]), found["name"])
lanes.finish()
