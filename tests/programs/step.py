"""Steps through driver() of step.c, instruction by instruction, and takes a backtrace at each.

Used as `gdb -q -batch -p PID -x step.py`. Every backtrace must reach main, and of the program's own
functions none between the innermost and main may be missing. The last line printed is
`steps N generated G wrong W`, where G counts the instructions that were in code of ours (mappings
whose name contains "sledge").
"""
import gdb
import re

CHAINS = [["leaf", "outer"], ["leaf", "saving", "outer"]]
TOPS = [["driver", "main"], ["tail", "driver", "main"], ["main"]]
OWN = {"leaf", "saving", "outer", "tail", "driver", "main"}
LIMIT = 40000


def whole_chains():
    """Every legal order of the program's own frames, innermost first."""
    found = [["main"], ["driver", "main"], ["tail", "driver", "main"]]
    # A tail call leaves either no frame or its thunk's: `tail` may be there or not.
    for top in TOPS[:2]:
        for chain in CHAINS:
            found += [chain[at:] + top for at in range(len(chain))]
    return found


def generated_ranges(pid):
    """Where code of ours lies."""
    ranges = []
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \S+\s+(.*sledge.*)", line)
            if match:
                ranges.append((int(match[1], 16), int(match[2], 16)))
    return ranges


def backtrace():
    """Names of the frames, innermost first; the error that ended it, if any, is the last."""
    names = []
    try:
        frame = gdb.newest_frame()
        while frame is not None and len(names) < 60:
            names.append(frame.name())
            frame = frame.older()
    except gdb.error as error:
        names.append(f"error: {error}")
    return names


def step_through():
    ranges = generated_ranges(gdb.selected_inferior().pid)
    legal = whole_chains()
    steps = generated = wrong = 0
    entered = False
    while steps < LIMIT:
        gdb.execute("stepi", to_string=True)
        steps += 1
        names = backtrace()
        own = [name for name in names if name in OWN]
        pc = gdb.newest_frame().pc()
        inside = any(low <= pc < high for low, high in ranges)
        generated += inside
        if own not in legal:
            wrong += 1
            if wrong <= 10:
                print(f"wrong at {pc:#x} ({'ours' if inside else 'theirs'}): {names}")
        entered = entered or "driver" in own
        if entered and names[0] == "main":
            break
    print(f"steps {steps} generated {generated} wrong {wrong}")


gdb.execute("set pagination off")
gdb.execute("set debuginfod enabled off")
gdb.execute("set var go = 1")
step_through()
gdb.execute("set confirm off")
gdb.execute("detach")
